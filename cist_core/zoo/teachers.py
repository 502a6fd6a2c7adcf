"""Teachers that ship with the project, and teachers from checkpoints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from cist_core.cards import find_sample_model, known_sample_models
from cist_core.errors import CistError
from cist_core.zoo.architectures import ARCHITECTURES, create_model, find_architecture
from cist_core.zoo.checkpoints import file_sha256, load_weights, read_checkpoint
from cist_core.zoo.inspection import Fit, choose_fit, classes_for, read_fitting
from cist_core.zoo.kinds import find_kind
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.student_card import architecture_on, card_beside
from cist_core.zoo.teacher import Teacher
from cist_core.zoo.weight_groups import ChosenWeights, Role, UnclearWeights


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
    *,
    weights: str | None = None,
    role: Role = "teacher",
) -> Teacher:
    """Load a network from a checkpoint file, whatever training script wrote it.

    Args:
        path: see `read_checkpoint`.
        architecture: name in the zoo, or another that `cist_core.zoo.students.create_student` takes; by default the one
            that ``student.json`` in a run directory names, and elsewhere the one of the zoo or of torchvision that the
            names and shapes of the weights fit.
        preprocessing: by default that of ``student.json``, and elsewhere the usual one of the architecture's family. A
            checkpoint trained with another one needs it here: a wrong normalisation costs accuracy without any error.
        name: for people; by default the file's name.
        weights: which of several groups of weights in the file, by its name, such as ``"state_dict"``; by default the
            one that is usually meant (`cist_core.zoo.weight_groups.choose_weights`), which the result names.
        role: which of the two is meant where the file holds a teacher and a student.

    Raises:
        CistError: if the file cannot be read, fits no architecture or several, or not the given one.
    """
    card = card_beside(path)
    if card is not None and architecture is None:
        architecture = architecture_on(card, path)
    elif card is not None and architecture != card.architecture:
        card = None
    if card is not None:
        preprocessing = preprocessing or card.preprocessing
    chosen = read_fitting(path, architecture, weights=weights, role=role)
    try:
        architecture = architecture or choose_fit(chosen, path).architecture
        model, num_classes, usual = _build(architecture, chosen.group.state, path)
    except CistError as error:
        if chosen.fits:
            raise
        sentence = f"{error} The file holds {chosen.listing}; --weights (`weights=` in Python) names what to take."
        raise UnclearWeights(sentence, [name for name in (chosen.group.name, *chosen.others) if name]) from error
    return Teacher(
        name=name or Path(path).name,
        model=model.eval(),
        architecture=architecture,
        num_classes=num_classes,
        class_names=None if card is None else card.class_names,
        preprocessing=preprocessing or usual,
        checkpoint_sha256=_digest(path, chosen),
        facts=_facts(chosen, assumed=preprocessing is None),
        weights=chosen.sentence,
        other_weights=chosen.others,
    )


def _build(
    architecture: str, state: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> tuple[nn.Module, int, Preprocessing]:
    kind = None if architecture in ARCHITECTURES else find_kind(architecture)
    if kind is not None and kind.can_be_student:
        return kind.load_weights(architecture, state, source=str(path))
    num_classes = classes_for(architecture, state, path)
    model = create_model(architecture, num_classes=num_classes)
    load_weights(model, state, source=f"{path} ({architecture})")
    return model, num_classes, find_architecture(architecture).preprocessing


def _digest(path: str | os.PathLike[str], chosen: ChosenWeights[Fit]) -> str:
    """Of the file; where it holds several groups of weights, of the file and the name of the group."""
    whole = file_sha256(path)
    return hashlib.sha256(f"{whole}\n{chosen.group.name}".encode()).hexdigest() if chosen.others else whole


def _facts(chosen: ChosenWeights[Fit], *, assumed: bool) -> dict[str, str]:
    count = sum(tensor.numel() for tensor in chosen.group.state.values())
    facts = {"parameters": f"{count:,}, running statistics included"}
    if assumed:
        facts["preprocessing"] = "the usual one of this network, which the file does not say"
    if chosen.sentence is not None:
        facts["weights"] = chosen.sentence
    return facts
