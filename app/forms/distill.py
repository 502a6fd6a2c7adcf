"""The form of the Distill page as data: what it offers, and the configs that its answers make.

Importing this imports torch: the objectives and the architectures are written in it.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from app.forms.run_views import duration
from cist_core.data.loading import DATASETS, DatasetInfo
from cist_core.errors import CistError
from cist_core.inference.run import choose_device
from cist_core.objectives import objective_names, objective_presets, objective_specification
from cist_core.registry import listed
from cist_core.temperature.parameters import Number, Numbers, Parameter
from cist_core.training import RunConfig, parse_config, preset, step_times
from cist_core.training.image_config import ImageClassificationConfig
from cist_core.training.language_config import LanguageConfig
from cist_core.training.objective_names import OBJECTIVE_NAMES
from cist_core.training.step_times import QuickEstimate
from cist_core.training.suggestion import suggested_preset
from cist_core.wording import three_digits
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.checkpoints import meta_device
from cist_core.zoo.kinds import find_kind, is_remote, student_kinds
from cist_core.zoo.kinds.code import refuse_code
from cist_core.zoo.students import check_student, create_student

if TYPE_CHECKING:
    from app.forms.distill_estimate import Estimate
    from app.forms.distill_origin import Origin

FIRST_BESIDE = ("ce", "kd-hinton", "cist-authors")
"""The baseline without a teacher, the usual KD, and CIST as its authors found it best."""

MAIN_PARAMETERS = ("rho", "tau", "H", "k", "gamma", "temperatures")
"""What decides the soft labels of an objective, and is asked first."""

LABELS = {
    "rho": "ρ",
    "floor": "Floor of τ",
    "tau": "τ",
    "higher_tau": "Higher τ",
    "theta": "θ",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "H": "H (nats)",
    "lambda_ce": "λ cross-entropy",
    "lambda_kl": "λ divergence",
    "low": "Low, share of ln C",
    "high": "High, share of ln C",
}
"""Of the fields of an objective; another one is named as it is written."""

FROM_SIDEBAR = ("tau", "rho", "floor", "H")
"""Parameters that start at the sidebar's pair; H at the mean entropy that the pair has."""


@dataclass(frozen=True)
class StudentChoice:
    """An architecture that fits the images, and its size, where it can be told without fetching anything."""

    name: str
    parameters: int | None
    description: str


def methods() -> list[str]:
    """Every objective, group by group, the most compared ones first; one of somebody's own comes last."""
    known = objective_names()
    return [
        *(name for name in OBJECTIVE_NAMES if name in known),
        *(name for name in known if name not in OBJECTIVE_NAMES),
    ]


def is_main(parameter: Parameter) -> bool:
    return parameter.name in MAIN_PARAMETERS


def splits_sentence(data: DatasetInfo) -> str:
    """Where validation and test images come from if the data do not bring them; empty if they do."""
    missing = [split for split in ("validation", "test") if split not in data.splits]
    if len(missing) == 2:
        return "No validation or test split found: both will be taken from these images."
    return "".join(f"No {split} split found: it will be taken from the training images." for split in missing)


def label(parameter: Parameter) -> str:
    return LABELS.get(parameter.name, parameter.name.replace("_", " ").capitalize())


def start_of(parameter: Parameter, *, tau: float, rho: float, floor: float, mean_entropy: float) -> Any:
    """What a field of an objective starts at: the pair of the sidebar, or the published default."""
    from_sidebar = {"tau": tau, "rho": rho, "floor": floor, "H": round(mean_entropy, 3)}
    if parameter.name in from_sidebar:
        return from_sidebar[parameter.name]
    return parameter.kind.write(parameter.default) if isinstance(parameter.kind, Numbers) else parameter.default


def follows_sidebar(names: Sequence[str]) -> str:
    """That these parameters follow the sliders, as a sentence."""
    words = " and ".join("the floor" if name == "floor" else LABELS[name].split()[0] for name in names)
    if len(names) == 1:
        return f"{words} follows its slider until you change it here."
    return f"{words} follow the sliders until you change them here."


def bounds(kind: Number) -> tuple[float | None, float | None]:
    """The smallest and largest number that a field takes; that a bound itself may be out is checked afterwards."""
    low, high = max(kind.above, kind.minimum), min(kind.below, kind.maximum)
    return (float(low) if math.isfinite(low) else None), (float(high) if math.isfinite(high) else None)


def answer(parameter: Parameter, value: Any) -> Any:
    """A field's value as the objective takes it; text that cannot be read goes on, and is named by the objective."""
    if isinstance(parameter.kind, Numbers) and isinstance(value, str):
        try:
            return list(parameter.kind.read(value))
        except ValueError:
            return value
    return value


@lru_cache
def count_parameters(architecture: str, num_classes: int) -> int:
    """Weights of a network of the zoo, without making them."""
    import torch

    with torch.device("meta"):
        model = create_model(architecture, num_classes=num_classes)
    return sum(parameter.numel() for parameter in model.parameters())


def students(data: DatasetInfo) -> list[StudentChoice]:
    """The architectures for images of this size, the smallest first."""
    height, width, channels = data.image_shape
    fitting = [
        StudentChoice(name, count_parameters(name, data.classes), architecture.description)
        for name, architecture in ARCHITECTURES.items()
        if (architecture.image_size, architecture.image_size, architecture.channels) == (height, width, channels)
    ]
    return sorted(fitting, key=lambda student: student.parameters or 0)


def student_named(name: str, data: DatasetInfo) -> StudentChoice:
    """A student of the list, or one that is published elsewhere.

    Raises:
        CistError: if there is none of that name.
    """
    known = next((student for student in students(data) if student.name == name), None)
    if known is not None:
        return known
    refuse_other_students(name)
    kind = find_kind(check_student(name))
    return StudentChoice(
        name, _count_elsewhere(name.partition("@")[0], data.classes), "" if kind is None else kind.what
    )


def refuse_other_students(name: str) -> None:
    """Refuse what is neither of the zoo nor published elsewhere: code, and folders of this machine.

    Raises:
        CistError: naming what can be given.
    """
    refuse_code(name)
    if name not in ARCHITECTURES and not is_remote(name):
        raise CistError(f"There is no student '{name}' here; choose one of the list, or type {names_elsewhere()}.")


def names_elsewhere() -> str:
    """How students that are published elsewhere are written."""
    return listed([kind.written for kind in student_kinds() if kind.remote])


def may_fetch(name: str) -> bool:
    """Whether a student may need something that is not on this machine: published weights, or a configuration."""
    return "@" in name or name.startswith("hf:")


def _count_elsewhere(name: str, num_classes: int) -> int | None:
    try:
        return _parameters_elsewhere(name, num_classes)
    except CistError:  # not at hand yet, and asked for again; the run says so if it stays away
        return None


@lru_cache
def _parameters_elsewhere(name: str, num_classes: int) -> int:
    with meta_device():
        network = create_student(name, num_classes).network
    return sum(parameter.numel() for parameter in network.parameters())


def default_student(data: DatasetInfo, teacher_architecture: str, teacher_parameters: int) -> str:
    """The largest of the teacher's family with at most half of its weights; without one, the smallest of all."""
    known = ARCHITECTURES.get(teacher_architecture)
    offered = students(data)
    smaller = [student for student in offered if (student.parameters or 0) <= teacher_parameters / 2]
    related = [student for student in smaller if known and ARCHITECTURES[student.name].family == known.family]
    return (related or smaller or offered[:1])[-1].name


def headline(teacher: str, teacher_parameters: int, student: StudentChoice) -> str:
    """What is about to happen, in one line: into which network, and how much smaller it is."""
    if student.parameters is None:
        return f"Distill {teacher} into {student.name}"
    times = teacher_parameters / student.parameters
    if times == 1:
        return f"Distill {teacher} into {student.name}, a network of the same size"
    size = f"{three_digits(times)} times smaller" if times > 1 else f"{three_digits(1 / times)} times larger"
    return f"Distill {teacher} into {student.name}, {size}"


def preset_images(name: str) -> int | None:
    """How many training images a preset uses; None: all."""
    return preset(name).data.train_samples


def recipe_answers(name: str) -> dict[str, Any]:
    """What the fields of the third step show after a preset is chosen, by their keys."""
    config = preset(name)
    return {
        **_answers_of_task(config),
        "epochs": config.epochs or 1,
        "lr": config.optimiser.learning_rate,
        "batch": config.batch_size,
        "optimiser": config.optimiser.name,
        "momentum": config.optimiser.momentum,
        "nesterov": config.optimiser.nesterov,
        "decay": config.optimiser.weight_decay,
        "clip": config.optimiser.clip_norm,
        "schedule": config.schedule.name,
        "warmup": config.schedule.warmup_epochs,
        "milestones": ", ".join(f"{epoch:g}" for epoch in config.schedule.milestones),
        "factor": config.schedule.gamma,
        "checkpoint": config.machine.checkpoint_every_steps,
        "threads": config.machine.threads,
        "micro": config.machine.micro_batch_size,
        "precision": config.precision,
        "device": config.machine.device,
    }


def _answers_of_task(config: RunConfig) -> dict[str, Any]:
    if isinstance(config, LanguageConfig):
        return {"reduction": config.reduction}
    assert isinstance(config, ImageClassificationConfig)
    return {
        "shift": config.augmentation.crop_padding,
        "mirror": config.augmentation.flip,
        "strong": config.augmentation.strong_view,
        "cut": config.augmentation.resized_crop[0] if config.augmentation.resized_crop else None,
    }


def recipe(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that the third step decides; what the chosen optimiser or schedule ignores is left out.

    Raises:
        CistError: for milestones that are no numbers.
    """
    optimiser: dict[str, Any] = {
        "name": answers["optimiser"],
        "learning_rate": answers["lr"],
        "weight_decay": answers["decay"],
        "clip_norm": answers["clip"],
    }
    if answers["optimiser"] == "sgd":
        optimiser |= {"momentum": answers["momentum"], "nesterov": answers["nesterov"]}
    schedule: dict[str, Any] = {"name": answers["schedule"], "warmup_epochs": answers["warmup"]}
    if answers["schedule"] == "multistep":
        schedule |= {"milestones": _numbers(answers["milestones"], "milestones"), "gamma": answers["factor"]}
    return {
        "epochs": answers["epochs"],
        "batch_size": answers["batch"],
        "optimiser": optimiser,
        "schedule": schedule,
        **_recipe_of_task(answers),
        "precision": answers["precision"],
        "machine": {
            "device": answers["device"],
            "threads": answers["threads"],
            "micro_batch_size": answers["micro"],
            "checkpoint_every_steps": answers["checkpoint"],
        },
    }


def _recipe_of_task(answers: Mapping[str, Any]) -> dict[str, Any]:
    if "reduction" in answers:
        return {"reduction": answers["reduction"]}
    return {
        "augmentation": {
            "crop_padding": answers["shift"],
            "flip": answers["mirror"],
            "resized_crop": None if answers["cut"] is None else [answers["cut"], 1.0],
            "strong_view": answers["strong"],
        }
    }


def read_seeds(text: str) -> list[int]:
    """Seeds from a field: ``0`` or ``0, 1, 2``; each counts once.

    Raises:
        CistError: for anything else.
    """
    try:
        seeds = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise CistError(f"Expected seeds to be whole numbers from 0, such as 0, 1, 2, but got '{text}'.")
    return list(dict.fromkeys(seeds))


def offered_beside(method: str) -> list[str]:
    """What can be trained beside a method, the usual comparison first: objectives that need no value, and presets."""
    complete = [
        name for name in methods() if not any(item.required for item in objective_specification(name).parameters)
    ]
    known = dict.fromkeys([*FIRST_BESIDE, *complete, *objective_presets()])
    return [name for name in known if name != method]


def make_configs(content: Mapping[str, Any], seeds: Sequence[int], beside: Sequence[str] = ()) -> list[RunConfig]:
    """One checked config a seed and objective: the form's, then those beside it, for the first seed, the second, ...

    An objective beside it that is the form's by another name is left out.

    Raises:
        CistError: with one clause for every field that is wrong.
    """
    if content.get("task") != "language":  # there no name stands for code, and folders are asked for by name
        refuse_code(content["teacher"].get("name"), content["teacher"].get("architecture"))
        refuse_other_students(content["student"]["architecture"])
    configs: dict[str, RunConfig] = {}
    for seed in seeds:
        for objective in (content["objective"], *beside):
            config = parse_config({**content, "objective": objective, "seed": seed}, source="the form")
            configs.setdefault(config.unnamed().model_dump_json(), config)
    return list(configs.values())


def preset_for(data: DatasetInfo) -> str:
    """The recipe made for these images, or for others of their shape."""
    alike = (name for name, other in DATASETS.items() if other.image_shape == data.image_shape)
    return suggested_preset(data.name if data.name in DATASETS else next(alike, data.name))


def run_name(config: RunConfig) -> str:
    """What a run is called until somebody renames it: its preset, or the objective as the command line writes it."""
    return config.objective.label


def run_names(configs: Sequence[RunConfig], given: str) -> list[str]:
    """The names of runs that are launched together; to a given one their objectives are added where they differ."""
    labels = [run_name(config) for config in configs]
    if not given or len(set(labels)) == 1:
        return [given or label for label in labels]
    return [f"{given}, {label}" for label in labels]


def group_name(configs: Sequence[RunConfig]) -> str:
    """What runs that are launched together are called; a second such group has another time."""
    objectives = " and ".join(dict.fromkeys(run_name(config) for config in configs))
    return f"{objectives}, {configs[0].student.architecture}, {time.strftime('%Y-%m-%d %H:%M:%S')}"


def commands(configs: Sequence[RunConfig]) -> str:
    """The command line that trains the same, from the config that the page exports."""
    if len(configs) == 1:
        return "cist distill config.json"
    words = ["cist", "sweep", "config.json"]
    objectives = dict.fromkeys(run_name(config) for config in configs)
    if len(objectives) > 1:
        words += ["--objective", *objectives]
    return shlex.join([*words, "--seeds", *dict.fromkeys(str(config.seed) for config in configs)])


def quick_estimate(config: RunConfig, origin: Origin) -> QuickEstimate | None:
    """How long one run takes by the table of measured steps; None for what the table does not know, such as GPUs."""
    assert isinstance(config, ImageClassificationConfig)
    device = config.machine.device
    if device not in ("auto", "cpu") or (device == "auto" and choose_device("auto").type != "cpu"):
        return None
    apart = round(config.data.validation_share * origin.training_images)
    images = {"validation": apart, "test": apart, **origin.data.splits, "train": origin.training_images}
    return step_times.quick_estimate(
        config, teacher=origin.architecture, images=images, factor=step_times.machine_factor()
    )


def estimate_sentence(
    quick: QuickEstimate | None, found: Estimate | None, fault: str | None, *, count: int, measuring: bool
) -> str:
    """How long the runs take together, in Markdown, and how well that is known."""
    each = "" if count == 1 else f" for {count} runs, one after the other"
    if found is not None:
        return (
            f"About **{duration(count * found.seconds)}**{each}: {found.steps:,} steps of "
            f"{three_digits(1000 * found.seconds_per_step)} ms and {duration(found.teacher_seconds)} for the teacher "
            f"in each run, timed here on {found.device}."
        )
    about = (
        "" if quick is None else f"About **{duration(count * quick.seconds)}**{each}, from a table of measured steps."
    )
    if fault is not None:
        return f"{about} It could not be timed here: {fault}".lstrip()
    if not measuring:
        return about or "How long it takes is not known before it is timed."
    return f"{about} Timing a few steps of this run …".lstrip()


def _numbers(text: str, what: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise CistError(f"Expected {what} to be numbers, such as 150, 180, 210, but got '{text}'.") from None
