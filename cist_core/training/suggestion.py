"""A run to start from once rho is chosen: the recipe made for such images, with this teacher and this rho."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cist_core.data.loading import DATASETS
from cist_core.temperature import CIST_FLOOR, Cist
from cist_core.training.presets import PRESETS, preset

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig


def suggested_preset(data: str) -> str:
    """The preset made for these images, or for others of their shape; for data of one's own, that of folders.

    Example:
        >>> suggested_preset("fashion-mnist"), suggested_preset("cifar10"), suggested_preset("photos/train")
        ('demo', 'cifar-240', 'imagenet-100')
    """
    made_for = {name: content["data"]["name"] for name, (_, content) in PRESETS.items()}
    own = [name for name, other in made_for.items() if other == data]
    alike = [name for name, other in made_for.items() if _image_shape(other) == _image_shape(data)]
    return [*own, *alike, *PRESETS][0]


def suggested_changes(
    rho: float, *, teacher: str, data: str, student: str | None = None, floor: float = CIST_FLOOR
) -> dict[str, Any]:
    """What differs from that preset, as `RunConfig.changed` takes it.

    Args:
        rho: of CIST.
        teacher: name of a sample model, or path of a checkpoint.
        data: name of a data set, or path.
        student: an architecture; None: that of the preset.
        floor: of CIST, in logit units; 0 is the pure ratio rule.
    """
    changes: dict[str, Any] = {"teacher": {"name": teacher}, "objective": str(Cist(rho, floor))}
    content = PRESETS[suggested_preset(data)][1]
    if teacher != content["teacher"]["name"]:
        changes["teacher"]["architecture"] = None
    if data != content["data"]["name"]:
        changes["data"] = {"name": data, "test": None}
    if student is not None:
        changes["student"] = {"architecture": student}
    return changes


def suggest_config(
    rho: float, *, teacher: str, data: str, student: str | None = None, floor: float = CIST_FLOOR
) -> RunConfig:
    """A checked config that distills with CIST at this rho; arguments as in `suggested_changes`.

    Raises:
        CistError: if rho is not positive, the floor negative, or there is no such architecture.

    Example:
        >>> config = suggest_config(4.25, teacher="mnist5k-cnn", data="mnist-5k")
        >>> str(config.objective), config.student.architecture, config.epochs
        ('cist:rho=4.25', 'cnn_16_32', 40)
    """
    changes = suggested_changes(rho, teacher=teacher, data=data, student=student, floor=floor)
    return preset(suggested_preset(data)).changed(**changes)


def _image_shape(data: str) -> tuple[int, int, int] | None:
    return DATASETS[data].image_shape if data in DATASETS else None
