"""`RunConfig`: everything that decides the result of a distillation run, and nothing else."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cist_core.errors import CistError
from cist_core.files import write_whole
from cist_core.objectives import Objective, create_objective, objective_presets, objective_specification
from cist_core.training.fields import flat
from cist_core.zoo import Preprocessing, find_architecture

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
ArchitectureName = Annotated[str, AfterValidator(lambda name: find_architecture(name).name)]


def _checked_preprocessing(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return Preprocessing.from_dict(fields).to_dict()
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected mean, std, image_size and other fields of Preprocessing, but {error}") from None


class _Part(BaseModel):
    """One part of a config: unknown fields are errors, values do not change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(_Part):
    """The images. Validation never shares an image with training or test."""

    name: Annotated[str, Field(min_length=1)]
    """A data set that `cist data` lists, or the path of training images: a folder, .npz, .csv, .parquet, ..."""
    test: str | None = None
    """Path of the test images, for a ``name`` that is a path without a test split of its own."""
    train_samples: Count | None = None
    """Train on this many images only, as many of each class as they divide into; None: on all."""
    validation_samples: Count | None = None
    """Validate on this many images only, likewise; for students so quick that validation takes longer than training."""
    validation_share: Share = 0.1
    """Part of every class set apart where the data bring no validation split (and again for test, likewise)."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Decides which images are set apart and which are taken, whatever ``seed`` is."""
    class_map: dict[str, str | int | None] | None = None
    """From the data's classes to the teacher's, by name or number, null for one left out; None: by name, or number."""
    download: bool = False
    """Whether a data set that is not there may be downloaded."""


class TeacherConfig(_Part):
    """The network that is distilled."""

    name: Annotated[str, Field(min_length=1)]
    """A sample model that `cist models` lists, the path of a checkpoint, or another of `cist infer --help`."""
    architecture: str | None = None
    """Of a checkpoint; None: recognised from the weights."""
    weights: str | None = None
    """Which of the weights in a checkpoint, by their name in it; None: those that are usually meant."""
    preprocessing: Annotated[dict[str, Any], AfterValidator(_checked_preprocessing)] | None = None
    """What it reads images with (``mean``, ``std``, ``image_size``, ...); None: what is usual for its architecture."""
    download: bool = False
    """Whether weights that are known by a name and are not here may be downloaded."""


class StudentConfig(_Part):
    """The network that learns."""

    architecture: ArchitectureName
    """One that `cist models` lists."""
    weights: str | None = None
    """A checkpoint to start from; None: fresh weights, drawn under ``seed``."""


class ObjectiveConfig(_Part):
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


class OptimiserConfig(_Part):
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


class ScheduleConfig(_Part):
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


class AugmentationConfig(_Part):
    """Random changes of every training image; none by default, and then the teacher's logits are computed once."""

    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Shift by up to this many pixels; zeros (black before normalisation) move in."""
    flip: bool = False
    """Mirror half of the images."""
    resized_crop: tuple[Share, Annotated[float, Field(gt=0, le=1)]] | None = None
    """Cut out a part of this share of the area, e.g. [0.08, 1.0], and bring it to the network's size (ImageNet)."""
    strong_view: bool = False
    """A second view of every image under RandAugment, for the objectives that take one (MLKD)."""

    @field_validator("resized_crop")
    @classmethod
    def _grows(cls, shares: tuple[float, float] | None) -> tuple[float, float] | None:
        if shares is not None and shares[0] > shares[1]:
            raise ValueError("the smaller share comes first")
        return shares

    @property
    def any(self) -> bool:
        return bool(self.crop_padding or self.flip or self.resized_crop or self.strong_view)


def _objective_from_text(value: object) -> object:
    if isinstance(value, str):
        objective = create_objective(value)
        return {"name": objective.name, "parameters": objective.config(), "preset": objective.preset}
    return value


class RunConfig(_Part):
    """One distillation run.

    Example:
        >>> from cist_core.training import preset
        >>> config = preset("demo").changed(objective="kd:tau=4", seed=1)
        >>> str(config.objective), config.epochs
        ('kd', 40)
    """

    task: Literal["image-classification"] = "image-classification"
    data: DataConfig
    teacher: TeacherConfig
    student: StudentConfig
    objective: Annotated[ObjectiveConfig, BeforeValidator(_objective_from_text)]
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Count | None = None
    """Passes over the training images; give this or ``steps``."""
    steps: Count | None = None
    """Updates of the weights, in place of ``epochs``; the last epoch may be a partial one."""
    batch_size: Count = 64
    """Images a step, over all processes together. Images that do not fill a last batch wait for the next epoch."""
    augmentation: AugmentationConfig = AugmentationConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the fresh weights, the order of the images and the augmentation."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the networks' arithmetic; the loss is always computed in float32. Half precision pays on GPUs only."""
    threads: Count | None = None
    """CPU threads; None: torch's choice. For students this small one is often the quickest."""
    checkpoint_every_steps: Count | None = None
    """Checkpoints beside the one after every epoch; for epochs that take hours."""
    trackers: tuple[Literal["tensorboard", "mlflow", "trackio"], ...] = ()
    """Also report there (each a package of its own); ``metrics.jsonl`` is written in any case."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, one of the two")
        return self

    @model_validator(mode="after")
    def _view_used(self) -> Self:
        if (
            self.augmentation.strong_view
            and "strong_student_logits" not in self.objective.create().specification.inputs
        ):
            raise ValueError(
                f"augmentation.strong_view is for objectives with two views; '{self.objective.name}' uses one"
            )
        return self

    def unnamed(self) -> RunConfig:
        """The config without the name of its preset: equal for configs that train alike."""
        return self.model_copy(update={"objective": self.objective.model_copy(update={"preset": None})})

    def changed(self, **changes: Any) -> RunConfig:
        """The config with some fields replaced and checked again; a part is given as a mapping of what changes in it.

        Raises:
            CistError: as `parse_config`.
        """
        return parse_config(merge(self.model_dump(mode="json"), changes))

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


FREE_ON_RESUME = ("device", "threads", "trackers", "checkpoint_every_steps", "data.download", "teacher.download")
"""Fields that a run may be resumed with other values of: how it is computed and reported, not what."""


class Change(NamedTuple):
    """One field that two configs differ in, dots leading into parts; None where a config does not have it."""

    field: str
    old: Any
    new: Any


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two configs as JSON has them: objectives as text, where the name of a preset does not count.

    Example:
        >>> config_changes({"seed": 0, "data": {"name": "a"}}, {"seed": 1, "data": {"name": "a"}})
        [Change(field='seed', old=0, new=1)]
    """
    before, after = (flat({**config, "objective": _text_of(config.get("objective"))}) for config in (old, new))
    return [
        Change(field, before.get(field), after.get(field))
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field)
    ]


def _text_of(objective: object) -> object:
    """An objective of a config as text; as it stands where this version knows no such objective."""
    try:
        return str(ObjectiveConfig.model_validate(objective).create())
    except ValidationError:
        return objective


def parse_config(content: object, *, source: str = "the config") -> RunConfig:
    """Check the content of a JSON file.

    Raises:
        CistError: with one clause for every field that is wrong: its name, what is expected, what was given.
    """
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors())
        raise CistError(f"Mend {source}: {faults}.") from None


def load_config(path: str | os.PathLike[str]) -> RunConfig:
    """Read a config from a JSON file, or a YAML one by its ending ``.yaml`` or ``.yml``.

    Raises:
        CistError: if there is no such file, it cannot be read, or a field is wrong.
    """
    kind = "YAML" if Path(path).suffix.lower() in (".yaml", ".yml") else "JSON"
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = _read_yaml(text) if kind == "YAML" else json.loads(text)
    except OSError as error:
        raise CistError(f"The config {path} cannot be read ({error.strerror or error}); check the path.") from error
    except ValueError as error:
        raise CistError(
            f"The config {path} is not {kind} ({error}); `cist distill --preset demo --print` shows one."
        ) from error
    return parse_config(content, source=f"the config {path}")


def _read_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _fault(fault: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    reason = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault.get("ctx", {}).get("error"), CistError):
        return f"{where}: {reason.rstrip('.')}" if where else reason.rstrip(".")
    if fault["type"] == "extra_forbidden":
        known = _fields_of(fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        return f"there is no field '{where}'; " + (
            f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        )
    if fault["type"] == "missing":
        return f"'{where}' is missing"
    given = "" if isinstance(fault["input"], dict) else f", but got {json.dumps(fault['input'], default=str)}"
    reason = reason[0].lower() + reason[1:]
    return f"{where}: {reason}{given}" if where else reason


def _fields_of(location: tuple[int | str, ...]) -> list[str]:
    model: Any = RunConfig
    for name in location:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def config_schema() -> dict[str, Any]:
    """The JSON schema of `RunConfig`, for editors and other programs."""
    return RunConfig.model_json_schema()
