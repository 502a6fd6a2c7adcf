"""`RunConfig`: everything that decides the result of a distillation run, and nothing else."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from cist_core.documents import parse_json, parse_yaml, read_document
from cist_core.errors import CistError
from cist_core.files import write_whole
from cist_core.objectives import Objective, create_objective, objective_presets, objective_specification
from cist_core.plain_text import is_plain_text
from cist_core.training.fields import flat, upgraded

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]

USUAL_TASK = "image-classification"
"""Of a config that names none."""


class ConfigPart(BaseModel):
    """One part of a config: unknown fields are errors, values do not change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, content: Any) -> Any:
        for field, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, str) and not is_plain_text(value):
                raise ValueError(f"{field} holds a control character ({value[:80]!r}); write it without")
        return content


class DataConfig(ConfigPart):
    """The samples; a task adds its own fields."""

    name: Annotated[str, Field(min_length=1)]
    """A data set by its name, or a path."""
    train_samples: Count | None = None
    """Train on this many samples only; None: on all."""
    validation_samples: Count | None = None
    """Validate on this many samples only; None: on all."""
    download: bool = False
    """Whether a data set that is not there may be downloaded."""


class TeacherConfig(ConfigPart):
    """The network that is distilled; a task adds its own fields."""

    name: Annotated[str, Field(min_length=1)]
    """By its name, or a path."""
    download: bool = False
    """Whether weights that are known by a name and are not here may be downloaded."""


class StudentConfig(ConfigPart):
    """The network that learns; a task adds its own fields."""

    architecture: str
    """By its name."""
    weights: str | None = None
    """A checkpoint to start from; None: fresh weights, drawn under ``seed``."""


class ObjectiveConfig(ConfigPart):
    """The loss, with the value of every hyper-parameter. Its text, ``"cist:rho=4"``, is accepted in its place."""

    name: str
    parameters: dict[str, Any] = {}
    """By name; one that is left out has its published default, and is filled in."""
    preset: str | None = None
    """The preset of `cist objectives` that these values are; its name alone, as text, is accepted for all three."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        object.__setattr__(self, "parameters", self.create().config())
        if self.preset is not None:
            self._check_preset(self.preset)
        return self

    def _check_preset(self, name: str) -> None:
        preset = objective_presets().get(name)
        if preset is None:
            raise ValueError(f"there is no preset '{name}'; 'cist objectives' lists them")
        published = create_objective(name).config()
        named = [item.partition("=")[0] for item in preset.objective.partition(":")[2].split(",")]
        if self.name != preset.objective.partition(":")[0] or any(
            self.parameters[key] != published[key] for key in named
        ):
            raise ValueError(f"the preset '{name}' is {preset.objective}; leave it out where a value is another one")

    def create(self) -> Objective:
        """The objective; its learnable parameters, if any, start anew."""
        return create_objective(self.name, **self.parameters)

    def fill_in(self, text: str, *, given: Collection[str] = ()) -> str:
        """The text of an objective, with the parameters that it needs and lacks at the values that this one has.

        Args:
            text: ``"cist"``, ``"cist+dkd:beta=2"``, ...
            given: parameters that will be given elsewhere.

        Raises:
            CistError: if there is no such objective.

        Example:
            >>> ObjectiveConfig(name="cist", parameters={"rho": 3}).fill_in("cist+dkd:beta=2")
            'cist+dkd:beta=2,rho=3'
        """
        name, _, written = text.partition(":")
        if name.strip() in objective_presets():
            return text
        known = {*given, *(item.partition("=")[0].strip() for item in written.split(","))}
        needed = [
            f"{parameter.name}={parameter.kind.write(self.parameters[parameter.name])}"
            for parameter in objective_specification(name.strip()).parameters
            if parameter.required and parameter.name not in known and parameter.name in self.parameters
        ]
        return ":".join(filter(None, [name, ",".join(filter(None, [written, *needed]))]))

    @property
    def label(self) -> str:
        """The name of the preset, or else the text."""
        return self.preset or str(self)

    def __str__(self) -> str:
        return str(self.create())


class OptimiserConfig(ConfigPart):
    """How the weights move."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.05
    """The largest of the schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only."""
    nesterov: bool = False
    """SGD only."""
    weight_decay: NotNegative = 5e-4
    clip_norm: Positive | None = None
    """Longest gradient, in the 2-norm over all weights; a longer one is shortened to it. None: any."""

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.name != "sgd" and (self.momentum, self.nesterov) != (0.9, False):
            raise ValueError(f"momentum and nesterov belong to sgd; leave them out for {self.name}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleConfig(ConfigPart):
    """How the learning rate moves, step by step."""

    name: Literal["constant", "cosine", "multistep"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    """Linear growth from near 0 at the start."""
    milestones: tuple[NotNegative, ...] = ()
    """multistep: epochs after which the learning rate is multiplied by ``gamma``."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.name == "multistep" and (not self.milestones or list(self.milestones) != sorted(set(self.milestones))):
            raise ValueError("multistep needs milestones, epochs that grow, such as [150, 180, 210]")
        if self.name != "multistep" and self.milestones:
            raise ValueError(f"milestones belong to multistep; leave them out for {self.name}")
        return self


class MachineConfig(ConfigPart):
    """Where and how a run is computed and what it reports to, none of which decides its result but for rounding."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Count | None = None
    """CPU threads; None: torch's choice. For students this small one is often the quickest."""
    micro_batch_size: Count | None = None
    """Samples that one process takes through the student at a time, for batches that do not fit into the memory; None:
    its whole share. The gradient stays that of the whole batch; only batch norm sees parts of it, and dropout draws
    other numbers. A step takes one forward pass more."""
    checkpoint_every_steps: Count | None = None
    """Checkpoints beside the one after every epoch; for epochs that take hours."""
    trackers: tuple[Literal["tensorboard", "mlflow", "trackio"], ...] = ()
    """Also report there (each a package of its own); ``metrics.jsonl`` is written in any case."""


def _objective_from_text(value: object) -> object:
    if isinstance(value, str):
        objective = create_objective(value)
        return {"name": objective.name, "parameters": objective.config(), "preset": objective.preset}
    return value


class RunConfig(ConfigPart):
    """One distillation run.

    Example:
        >>> from cist_core.training import preset
        >>> config = preset("demo").changed(objective="kd:tau=4", seed=1)
        >>> str(config.objective), config.epochs
        ('kd', 40)
    """

    task: str
    """What is trained on what; its class of configs, a subclass of this one, says more about the parts."""
    data: DataConfig
    teacher: TeacherConfig
    student: StudentConfig
    objective: Annotated[ObjectiveConfig, BeforeValidator(_objective_from_text)]
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Count | None = None
    """Passes over the training samples; give this or ``steps``."""
    steps: Count | None = None
    """Updates of the weights, in place of ``epochs``; the last epoch may be a partial one."""
    batch_size: Count = 64
    """Samples a step, over all processes together. Those that do not fill a last batch wait for the next epoch."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the fresh weights, the order of the samples and the augmentation."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the networks' arithmetic; the loss is always computed in float32. Half precision pays on GPUs only."""
    machine: MachineConfig = MachineConfig()

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, one of the two")
        return self

    def check_available(self) -> None:
        """Whether what the config names can be had on this machine, as far as can be told before anything is loaded.

        A config is read wherever it was written; this is asked where it is to run.

        Raises:
            CistError: naming what is missing.
        """

    def refuse_code(self, source: str) -> None:
        """A file that somebody sent must not run code unasked.

        Args:
            source: where the config comes from.

        Raises:
            CistError: if the config names code of its own (``package.module:function``).
        """
        from cist_core.zoo.kinds.code import NO_CODE, first_code

        architecture = getattr(self.teacher, "architecture", None)
        if (code := first_code(self.teacher.name, architecture, self.student.architecture)) is not None:
            remedy = "use the command line and add --allow-code: the Studio runs no such code."
            raise CistError(
                f"{source} names the code '{code}', which would run with your rights; read it, then "
                f"{remedy if os.environ.get(NO_CODE) else 'add --allow-code.'}"
            )

    def unnamed(self) -> Self:
        """The config without the name of its preset: equal for configs that train alike."""
        return self.model_copy(update={"objective": self.objective.model_copy(update={"preset": None})})

    def changed(self, **changes: Any) -> Self:
        """The config with some fields replaced and checked again; a part is given as a mapping of what changes in it.

        Raises:
            CistError: as `parse_config`.
        """
        return _checked(type(self), merge(self.model_dump(mode="json"), changes), "the config")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the config as JSON.

        Raises:
            CistError: if the file cannot be written.
        """
        write_whole(path, lambda file: file.write_text(self.model_dump_json(indent=2) + "\n"), what="The config")


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Fields of a config replaced by others; parts are merged field by field, an objective is replaced whole.

    ``epochs`` and ``steps`` take each other's place.
    """
    merged = dict(base)
    for name, other in (("epochs", "steps"), ("steps", "epochs")):
        if changes.get(name) is not None and other not in changes:
            merged[other] = None
    for name, value in changes.items():
        part = merged.get(name)
        together = isinstance(part, dict) and isinstance(value, dict) and name != "objective"
        merged[name] = {**part, **value} if together else value  # type: ignore[dict-item]
    return merged


def is_free_on_resume(field: str) -> bool:
    """Whether a run may be resumed with another value of this field: how it is computed and reported, not what.

    Example:
        >>> [is_free_on_resume(field) for field in ("machine.device", "teacher.download", "seed")]
        [True, True, False]
    """
    return field.startswith("machine.") or field in ("data.download", "teacher.download", "student.download")


class Change(NamedTuple):
    """One field that two configs differ in, dots leading into parts; None where a config does not have it."""

    field: str
    old: Any
    new: Any


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two configs as JSON has them: objectives as text, where the name of a preset does not count.

    A switch that is off in the new one, and that the old one is too old to have, is no difference.

    Example:
        >>> config_changes({"seed": 0, "data": {"name": "a"}}, {"seed": 1, "data": {"name": "a"}})
        [Change(field='seed', old=0, new=1)]
    """
    before, after = (flat({**config, "objective": _text_of(config.get("objective"))}) for config in (old, new))
    return [
        Change(field, before.get(field), after.get(field))
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field) and not (field not in before and after[field] is False)
    ]


def _text_of(objective: object) -> object:
    """An objective of a config as text; as it stands where this version knows no such objective."""
    try:
        return str(ObjectiveConfig.model_validate(objective).create())
    except ValidationError:
        return objective


def parse_config(content: object, *, source: str = "the config") -> RunConfig:
    """Check the content of a JSON file; one of an earlier version is brought up to date (`fields.upgraded`).

    Raises:
        CistError: with one clause for every field that is wrong: its name, what is expected, what was given.
    """
    if isinstance(content, Mapping):
        content = upgraded(content)
    return _checked(_class_for(content), content, source)


_Config = TypeVar("_Config", bound=RunConfig)


def _checked(kind: type[_Config], content: object, source: str) -> _Config:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(_fault(fault, kind) for fault in error.errors())
        raise CistError(f"Mend {source}: {faults}.") from None


def _class_for(content: object) -> type[RunConfig]:
    """The configs of the task that is named; where none is known, that of images, which then names the fault."""
    known = _known_classes()
    name = content.get("task") if isinstance(content, Mapping) else None
    return known.get(name, known[USUAL_TASK]) if isinstance(name, str) else known[USUAL_TASK]


def _known_classes() -> dict[str, type[RunConfig]]:
    import cist_core.training.tasks  # noqa: F401 - each task registers itself, with a config made of what is above
    from cist_core.training.tasks.protocol import TASKS

    return {name: task.config_class for name, task in TASKS.items()}


def load_config(path: str | os.PathLike[str]) -> RunConfig:
    """Read a config from a JSON file, or a YAML one by its ending ``.yaml`` or ``.yml``.

    Raises:
        CistError: if there is no such file, it cannot be read, or a field is wrong.
    """
    kind = "YAML" if Path(path).suffix.lower() in (".yaml", ".yml") else "JSON"
    try:
        text = read_document(path)
        content = parse_yaml(text) if kind == "YAML" else parse_json(text)
    except OSError as error:
        raise CistError(f"The config {path} cannot be read ({error.strerror or error}); check the path.") from error
    except ValueError as error:
        raise CistError(
            f"The config {path} is not {kind} ({error}); `cist distill --preset demo --print` shows one."
        ) from error
    return parse_config(content, source=f"the config {path}")


def _fault(fault: Any, kind: type[RunConfig]) -> str:
    where = ".".join(map(str, fault["loc"]))
    reason = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault.get("ctx", {}).get("error"), CistError):
        return f"{where}: {reason.rstrip('.')}" if where else reason.rstrip(".")
    if fault["type"] == "extra_forbidden":
        known = _fields_of(kind, fault["loc"][:-1])
        name = str(fault["loc"][-1])
        near = (
            [f"machine.{name}"] if name in MachineConfig.model_fields else difflib.get_close_matches(name, known, n=1)
        )
        return f"there is no field '{where}'; " + (
            f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        )
    if fault["type"] == "missing":
        return f"'{where}' is missing"
    given = "" if isinstance(fault["input"], dict) else f", but got {json.dumps(fault['input'], default=str)}"
    reason = reason[0].lower() + reason[1:]
    return f"{where}: {reason}{given}" if where else reason


def _fields_of(kind: type[RunConfig], location: tuple[int | str, ...]) -> list[str]:
    model: Any = kind
    for name in location:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def config_schema() -> dict[str, Any]:
    """The JSON schema of configs, for editors and other programs; that of each task, told apart by ``task``."""
    classes = list(_known_classes().values())
    if len(classes) == 1:
        return classes[0].model_json_schema()
    union: Any = Annotated[Union[tuple(classes)], Field(discriminator="task")]  # noqa: UP007
    return TypeAdapter(union).json_schema()
