"""What a checkpoint holds and which network it fits, for people who have to choose."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cist_core.errors import CistError
from cist_core.zoo.architectures import ARCHITECTURES, find_architecture
from cist_core.zoo.checkpoints import (
    Differences,
    expected_shapes,
    find_differences,
    find_nearest,
    identify_architecture,
    nearest_architecture,
    read_content,
)
from cist_core.zoo.foreign import torchvision_models
from cist_core.zoo.kinds import find_kind, students_in_words
from cist_core.zoo.weight_groups import ChosenWeights, Role, choose_weights

CHOOSE = (
    f"name the network with --arch (`architecture=` in Python): one that 'cist models' lists, {students_in_words()}"
)


@dataclass(frozen=True)
class Fit:
    """A network whose weights have exactly the names and shapes of a checkpoint's.

    Attributes:
        architecture: as `cist_core.zoo.teachers.load_checkpoint` takes it.
        num_classes: C.
    """

    architecture: str
    num_classes: int


@dataclass(frozen=True)
class CheckpointReport:
    """What can be said of a checkpoint without building its network.

    Attributes:
        fits: the networks it fits exactly; one is enough to load it, several have to be chosen among.
        parameters: how many numbers it holds, running statistics included.
        tensors: how many named weights.
        num_classes: of the first fit; without one, the rows of the last matrix, which is usually the head; None
            where there is none.
        nearest: where nothing fits, the network of the zoo with the fewest differences; else None.
        differences: between that network and the checkpoint; empty where something fits.
        weights: the name of the group of weights that all of this is said of; empty where the file has one.
        left_out: names under which the file holds further weights, and of what is no weight of a network.
    """

    fits: tuple[Fit, ...]
    parameters: int
    tensors: int
    num_classes: int | None
    nearest: str | None
    differences: Differences
    weights: str
    left_out: tuple[str, ...]


def inspect_checkpoint(path: str | os.PathLike[str], weights: str | None = None) -> CheckpointReport:
    """Read a checkpoint and compare it with the networks that are known.

    Args:
        path: see `cist_core.zoo.checkpoints.read_checkpoint`.
        weights: the name of a group of weights in it; None: the first that fits a network.

    Raises:
        CistError: if the file cannot be read or holds no weights.
    """
    chosen = read_fitting(path, weights=weights)
    state, fits = chosen.group.state, tuple(chosen.fits)
    nearest, differences = None, Differences((), (), ())
    if not fits:
        nearest = find_nearest(state)
        classes = _rows(state.get(find_architecture(nearest).head))
        differences = find_differences(expected_shapes(nearest, classes or 2), state)
    return CheckpointReport(
        fits=fits,
        parameters=sum(tensor.numel() for tensor in state.values()),
        tensors=len(state),
        num_classes=fits[0].num_classes if fits else _last_matrix_rows(state),
        nearest=nearest,
        differences=differences,
        weights=chosen.group.name,
        left_out=chosen.left_out,
    )


def read_fitting(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    *,
    weights: str | None = None,
    role: Role = "teacher",
) -> ChosenWeights[Fit]:
    """The weights of a file that are meant (`choose_weights`), with the networks they fit.

    Args:
        path: see `cist_core.zoo.checkpoints.read_checkpoint`.
        architecture: the network that they have to fit; None: any that is known.
        weights: the name of a group of weights in the file.
        role: which of the two is meant where the file holds a teacher and a student.

    Raises:
        CistError: as `read_checkpoint` and `choose_weights`.
    """

    def fits(state: Mapping[str, Tensor]) -> tuple[Fit, ...]:
        return find_fits(state) if architecture is None else find_fit(architecture, state)

    return choose_weights(read_content(path), fits, source=str(path), weights=weights, role=role)


def find_fit(architecture: str, state: Mapping[str, Tensor]) -> tuple[Fit, ...]:
    """The given network if a state dict fits it exactly, else nothing."""
    kind = None if architecture in ARCHITECTURES else find_kind(architecture)
    if kind is not None and kind.can_be_student:
        classes = kind.fitting_classes(architecture, state)
    else:
        classes = _rows(state.get(find_architecture(architecture).head))
        if classes is not None and find_differences(expected_shapes(architecture, classes), state):
            classes = None
    return () if classes is None else (Fit(architecture, classes),)


def find_fits(state: Mapping[str, Tensor]) -> tuple[Fit, ...]:
    """The networks that a state dict fits exactly: of the zoo, and only where there is none, of torchvision."""
    own = identify_architecture(state)
    found = own or [
        (f"torchvision:{name}", classes) for name, classes in torchvision_models.identify_torchvision(state)
    ]
    return tuple(Fit(name, classes) for name, classes in found)


def choose_fit(chosen: ChosenWeights[Fit], path: str | os.PathLike[str]) -> Fit:
    """The one network that a checkpoint fits.

    Raises:
        CistError: if there is none, with the nearest, or there are several, with their names.
    """
    if not chosen.fits:
        raise CistError(
            f"The weights in {path} fit no architecture of the zoo; {nearest_architecture(chosen.group.state)}. If it "
            f"is another network, {CHOOSE}; a network whose code is not at hand opens as .onnx or .pt2."
        )
    if len(chosen.fits) > 1:
        names = ", ".join(fit.architecture for fit in chosen.fits)
        raise CistError(f"The weights in {path} fit several architectures ({names}); {CHOOSE}.")
    return chosen.fits[0]


def classes_for(architecture: str, state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> int:
    """The number of classes of a checkpoint of a network of the zoo.

    Raises:
        CistError: if its head is missing or is no matrix of two rows or more.
    """
    head = find_architecture(architecture).head
    rows = _rows(state.get(head))
    if rows is None:
        what = f"'{head}' is missing" if head not in state else f"'{head}' is no matrix with a row for each class"
        raise CistError(
            f"The weights in {path} are not those of {architecture}: {what}; {nearest_architecture(state)}."
        )
    return rows


def _rows(weight: Tensor | None) -> int | None:
    return len(weight) if weight is not None and weight.ndim == 2 and len(weight) >= 2 else None


def _last_matrix_rows(state: Mapping[str, Tensor]) -> int | None:
    return next((rows for tensor in reversed(list(state.values())) if (rows := _rows(tensor)) is not None), None)
