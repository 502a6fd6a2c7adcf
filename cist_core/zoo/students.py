"""Students by name: networks of the zoo, and whatever else a student may be (`cist_core.zoo.kinds`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cist_core.errors import CistError
from cist_core.zoo.architectures import ARCHITECTURES, create_model, find_architecture
from cist_core.zoo.checkpoints import find_differences, load_weights, state_shapes
from cist_core.zoo.foreign.wrapping import answers_of
from cist_core.zoo.kinds import ModelKind, StudentOptions, find_kind, students_in_words
from cist_core.zoo.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Student:
    """A network to be trained.

    Attributes:
        name: as it was asked for, the weights left out; `load_checkpoint` takes it as ``architecture``.
        network: maps preprocessed images to ``(N, C)`` logits.
        preprocessing: from stored pixels to what ``network`` reads.
        remark: what people should know of its weights or its images; None where nothing is unusual.
    """

    name: str
    network: nn.Module
    preprocessing: Preprocessing
    remark: str | None = None


def check_student(name: str, image_size: int | None = None) -> str:
    """The name, if this machine can build such a student, as far as can be told without building or fetching it.

    Args:
        name: see `create_student`.
        image_size: see `create_student`.

    Raises:
        CistError: as `check_student_name`; or for a name or weights that the library does not have, or a library that
            is not installed.
    """
    check_student_name(name, image_size)
    kind, plain, weights = _parse(name)
    if kind is not None:
        kind.check_student(plain, weights)
    return name


def check_student_name(name: str, image_size: int | None = None) -> str:
    """The name, if it is written as a student's is, whatever is installed or stored on this machine.

    Args:
        name: see `create_student`.
        image_size: see `create_student`.

    Raises:
        CistError: for what is neither a network of the zoo nor written as another kind of student, a model that can
            only be a teacher, or a size or weights that a network of the zoo does not have.
    """
    if "/" in name and find_kind(name) is None:  # a folder that is elsewhere, or gone
        return name
    kind, plain, weights = _parse(name)
    if kind is not None:
        if not kind.can_be_student:
            raise CistError(
                f"'{name}' can be a teacher, not a student; a student is a network of the zoo ('cist models'), "
                f"{students_in_words()}."
            )
        return name
    if image_size not in (None, size := find_architecture(plain).image_size):
        raise CistError(
            f"Expected `image_size` of '{plain}' to be {size}, the one that it reads, but got {image_size}; leave it "
            "out, or choose another network."
        )
    elif weights is not None:
        raise CistError(
            f"'{name}' asks for published weights, but networks of the zoo have none; start from a checkpoint "
            "(`weights`), or leave '@' and what follows out."
        )
    return name


def has_published_weights(name: str) -> bool:
    """Whether a name asks for them, by ``@`` and what follows."""
    return _parse(name)[2] is not None


def create_student(
    name: str,
    num_classes: int,
    *,
    seed: int | None = None,
    image_shape: Sequence[int] | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> Student:
    """A network that learns, its head fitted to the number of classes.

    Args:
        name: a key of `ARCHITECTURES`; ``torchvision:NAME``, ``timm:NAME``, ``hf:OWNER/NAME`` or a Hugging Face folder;
            or ``package.module:function``, code of one's own. ``NAME@pretrained`` starts from published weights, all
            but those of a head for other classes; without it the weights are fresh.
        num_classes: C, at least 2.
        seed: of the fresh weights; None: as torch's generator stands.
        image_shape: ``(H, W, channels)`` of the images that it will get; those of another size are resized, and a grey
            channel is repeated, by its preprocessing, and the remark says so. Networks of the zoo read one size only.
        image_size: height and width that the network is to read, in pixels; None: those it is made for.
        download: whether weights or configurations that are not on this machine may be fetched.

    Raises:
        CistError: for an unknown name, a model that can only be a teacher, fewer than two classes, or a network that
            does not answer images of its size with ``(N, C)`` logits.
    """
    if num_classes < 2:
        raise CistError(f"Expected `num_classes` to be at least 2, but got {num_classes}.")
    kind, plain, weights = _parse(check_student(name, image_size))
    if seed is not None:
        torch.manual_seed(seed)
    if kind is None:
        return Student(
            plain, create_model(plain, num_classes=num_classes), find_architecture(plain).preprocessing, None
        )
    options = StudentOptions(weights, image_size, download)
    network, preprocessing, remark = kind.create_student(plain, num_classes, options)
    if image_size is not None:
        preprocessing = replace(preprocessing, image_size=image_size)
    _check_answers(plain, network, preprocessing, num_classes)
    remarks = [] if remark is None else [remark]
    if image_shape is not None:
        preprocessing, said = _reading(preprocessing, image_shape)
        remarks += said
    return Student(plain, network.train(), preprocessing, "; ".join(remarks) or None)


def _parse(name: str) -> tuple[ModelKind | None, str, str | None]:
    """The kind (None: the zoo), the name without weights, and the weights."""
    if name in ARCHITECTURES:
        return None, name, None
    kind = find_kind(name)
    plain, at, weights = name.rpartition("@")
    if at and not weights:
        raise CistError(
            f"'{name}' ends in '@' without the weights that it asks for; write '{name}pretrained', or leave '@' out."
        )
    if at and (kind is None or not kind.is_path):
        kind, name = find_kind(plain) if plain not in ARCHITECTURES else None, plain
    if kind is None:
        find_architecture(name)
    return kind, name, weights if at and name == plain else None


def _reading(usual: Preprocessing, image_shape: Sequence[int]) -> tuple[Preprocessing, list[str]]:
    """The preprocessing for stored images of this shape, and what it does to them."""
    height, width, channels = image_shape
    size, said = usual.image_size, []
    if (height, width) != (size, size):
        usual = replace(usual, resize=True)
        said.append(f"images of {height}x{width} pixels are resized to {size}x{size}, which the network reads")
    if channels == 1 and usual.channels == 3:
        usual = replace(usual, grey_to_colour=True)
        said.append("the grey channel is repeated")
    return usual, said


def _check_answers(name: str, network: nn.Module, reads: Preprocessing, num_classes: int) -> None:
    """Refuse a network that does not turn images of its size into one logit a class."""
    zeros = torch.zeros(2, reads.image_size, reads.image_size, reads.channels)
    logits = answers_of(
        network,
        zeros.permute(0, 3, 1, 2),  # as `Preprocessing` lays them out
        failure=f"The network '{name}' does not read images of {reads.image_size}x{reads.image_size} pixels in "
        f"{reads.channels} channel(s)",
    )
    if tuple(logits.shape) != (2, num_classes):
        raise CistError(
            f"Expected '{name}' to answer two images with logits of shape (2, {num_classes}), but they have "
            f"{tuple(logits.shape)}."
        )


# ---- weights ---------------------------------------------------------------------------------------------------------


def load_but_head(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> str:
    """Give a network all weights that fit; those of a head for other classes stay fresh. Returns what was done.

    Raises:
        CistError: if anything but the head differs.
    """
    own = network.state_dict()
    head = [key for key in own if key in state and _other_rows(own[key], state[key])]
    load_weights(network, {**state, **{key: own[key] for key in head}}, source=source)
    if not head:
        return f"starts from {source}, its head included"
    return f"starts from {source}, with a fresh head ({', '.join(head)})"


def _other_rows(own: Tensor, theirs: Tensor) -> bool:
    return own.ndim > 0 and own.shape[1:] == theirs.shape[1:] and own.shape != theirs.shape


def fitting_classes(build: Callable[[int], nn.Module], state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of weights that fit a network exactly; None for others.

    Args:
        build: from the number of classes to the network.
        state: the weights.
    """
    three, four = (state_shapes(build(count).state_dict()) for count in (3, 4))
    head = next((key for key in three if three[key] != four[key] and len(three[key]) > 1), None)
    if head is None or head not in state or len(state[head]) < 2:
        return None
    classes = len(state[head])
    return None if find_differences(state_shapes(build(classes).state_dict()), state) else classes


def load_into(
    build: Callable[[int], tuple[nn.Module, Preprocessing]], state: Mapping[str, Tensor], source: str
) -> tuple[nn.Module, int, Preprocessing]:
    """A network with weights of a file: itself, its classes, and its preprocessing.

    Raises:
        CistError: if they do not fit.
    """
    classes = fitting_classes(lambda count: build(count)[0], state)
    if classes is None:
        raise CistError(f"The weights in {source} do not fit that network.")
    network, preprocessing = build(classes)
    load_weights(network, state, source=source)
    return network.eval(), classes, preprocessing
