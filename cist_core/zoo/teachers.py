"""Teachers that ship with the project, and teachers from checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cist_core.cards import find_sample_model, known_sample_models
from cist_core.errors import CistError
from cist_core.zoo.architectures import create_model, find_architecture
from cist_core.zoo.checkpoints import file_sha256, load_weights, read_checkpoint, read_weights
from cist_core.zoo.foreign import timm_models, torchvision_models
from cist_core.zoo.inspection import choose_fit, classes_for
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher


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
    """Load a network from a checkpoint file, whatever training script wrote it.

    Args:
        path: see `read_checkpoint`.
        architecture: name in the zoo, or ``torchvision:NAME`` or ``timm:NAME``; by default the one of the zoo or of
            torchvision that the names and shapes of the weights fit.
        preprocessing: by default the usual one of the architecture's family. A checkpoint trained with another one
            needs it here: a wrong normalisation costs accuracy without any error.
        name: for people; by default the file's name.

    Raises:
        CistError: if the file cannot be read, fits no architecture or several, or not the given one.
    """
    state, left_out = read_weights(path)
    architecture = architecture or choose_fit(state, path).architecture
    source = f"{path} ({architecture})"
    library, _, network = architecture.partition(":")
    if network and f"{library}:" == torchvision_models.PREFIX:
        model, num_classes, usual = torchvision_models.load_torchvision_checkpoint(state, network, source=str(path))
    elif network and f"{library}:" == timm_models.PREFIX:
        model, num_classes, usual = timm_models.load_timm_checkpoint(state, network, source=str(path))
    else:
        num_classes = classes_for(architecture, state, path)
        model = create_model(architecture, num_classes=num_classes)
        load_weights(model, state, source=source)
        usual = find_architecture(architecture).preprocessing
    return Teacher(
        name=name or Path(path).name,
        model=model.eval(),
        architecture=architecture,
        num_classes=num_classes,
        class_names=None,
        preprocessing=preprocessing or usual,
        checkpoint_sha256=file_sha256(path),
        facts=_facts(state, left_out, assumed=preprocessing is None),
    )


def _facts(state: Mapping[str, Tensor], left_out: tuple[str, ...], *, assumed: bool) -> dict[str, str]:
    facts = {"parameters": f"{sum(tensor.numel() for tensor in state.values()):,}, running statistics included"}
    if assumed:
        facts["preprocessing"] = "the usual one of this network, which the file does not say"
    if left_out:
        facts["left out"] = f"further weights in the file, under {', '.join(left_out)}"
    return facts
