"""A teacher: a trained network, and what is needed to feed and cite it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cist_core.cards import find_sample_model, known_sample_models
from cist_core.errors import CistError
from cist_core.zoo.architectures import create_model, find_architecture
from cist_core.zoo.checkpoints import (
    file_sha256,
    identify_architecture,
    load_weights,
    nearest_architecture,
    read_checkpoint,
)
from cist_core.zoo.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network in evaluation mode, with what inference and provenance need.

    Attributes:
        name: for people.
        model: maps preprocessed images to ``(N, C)`` logits.
        architecture: name in the zoo, or any text for a network from elsewhere.
        num_classes: C.
        class_names: C names, or None.
        preprocessing: from stored pixels to what ``model`` reads.
        checkpoint_sha256: identifies the weights; inference caches its results under it.
        card: ``card.json`` of a shipped model, or None.
    """

    name: str
    model: nn.Module
    architecture: str
    num_classes: int
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing
    checkpoint_sha256: str
    card: Mapping[str, Any] | None = None


def load_teacher(name: str) -> Teacher:
    """Load a shipped model by name.

    Raises:
        CistError: if there is none of that name, with the names there are.
    """
    card = find_sample_model(name)
    if card is None:
        raise CistError(f"There is no sample model '{name}'; there are: {known_sample_models()}.")
    model = create_model(card.architecture, num_classes=card.num_classes)
    load_weights(model, read_checkpoint(card.checkpoint), source=str(card.checkpoint))
    return Teacher(
        name=card.name,
        model=model.eval(),
        architecture=card.architecture,
        num_classes=card.num_classes,
        class_names=card.class_names,
        preprocessing=Preprocessing.from_dict(card.content["preprocessing"]),
        checkpoint_sha256=file_sha256(card.checkpoint),
        card=card.content,
    )


def load_checkpoint(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
) -> Teacher:
    """Load a network of the zoo from a checkpoint file, whatever training script wrote it.

    Args:
        path: see `read_checkpoint`.
        architecture: name in the zoo; by default the one that the names and shapes of the weights fit.
        preprocessing: by default the usual one of the architecture's family. A checkpoint trained with another one
            needs it here: a wrong normalisation costs accuracy without any error.
        name: for people; by default the file's name.

    Raises:
        CistError: if the file cannot be read or fits no architecture, or not the given one.
    """
    state = read_checkpoint(path)
    if architecture is None:
        fits = identify_architecture(state)
        if not fits:
            raise CistError(f"The weights in {path} fit no architecture of the zoo; {nearest_architecture(state)}.")
        architecture, num_classes = fits[0]
    else:
        head = find_architecture(architecture).head
        if head not in state:
            raise CistError(
                f"The weights in {path} are not those of {architecture}: '{head}' is missing; "
                f"{nearest_architecture(state)}."
            )
        num_classes = len(state[head])
    model = create_model(architecture, num_classes=num_classes)
    load_weights(model, state, source=f"{path} ({architecture})")
    return Teacher(
        name=name or Path(path).name,
        model=model.eval(),
        architecture=architecture,
        num_classes=num_classes,
        class_names=None,
        preprocessing=preprocessing or find_architecture(architecture).preprocessing,
        checkpoint_sha256=file_sha256(path),
    )
