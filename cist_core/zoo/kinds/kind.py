"""What a kind of model is, and how one becomes known."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cist_core.registry import listed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cist_core.zoo.preprocessing import Preprocessing
    from cist_core.zoo.teacher import Teacher
    from cist_core.zoo.weight_groups import Role


@dataclass(frozen=True)
class TeacherOptions:
    """What may be said beside the reference of a teacher.

    Attributes:
        architecture: of a checkpoint.
        weights: which of those in a checkpoint.
        role: which of the two is meant where a checkpoint holds a teacher and a student.
        download: whether weights that are not on this machine may be fetched.
    """

    architecture: str | None = None
    weights: str | None = None
    role: Role = "teacher"
    download: bool = False


@dataclass(frozen=True)
class StudentOptions:
    """What may be said beside the name of a student.

    Attributes:
        weights: ``"pretrained"`` or the name of published weights to start from; None: fresh ones.
        image_size: height and width of the images that it reads; None: those it is made for.
        download: whether weights that are not on this machine may be fetched.
    """

    weights: str | None = None
    image_size: int | None = None
    download: bool = False


class ModelKind(ABC):
    """One way to name a model.

    Attributes:
        order: of the kinds, in which they are asked whether a reference is theirs, and listed.
        written: how such a reference is written.
        what: it is, in words that follow ``written`` in a list.
        in_words: it is, in words for a sentence; by default ``written``.
        example: one reference; None where the list of `cist models` has these models already.
        scheme: what a reference begins with, up to the colon; None for paths and names.
        endings: of files, in small letters.
        named_weights: whether the endings are those of files of weights, which do not say what network they belong to.
        extra: of this project, which brings the libraries.
        package: that is imported, which tells whether they are there.
        is_path: whether a reference is a path.
        remote: whether what it names is published elsewhere, and is no path of this machine.
        own_word: why neither architecture nor weights can be named beside it; None where they can.
        can_be_student: whether such a network can be built anew for other classes, and trained.
    """

    order: ClassVar[int]
    written: ClassVar[str]
    what: ClassVar[str]
    in_words: ClassVar[str | None] = None
    example: ClassVar[str | None] = None
    scheme: ClassVar[str | None] = None
    endings: ClassVar[tuple[str, ...]] = ()
    named_weights: ClassVar[bool] = False
    extra: ClassVar[str | None] = None
    package: ClassVar[str | None] = None
    is_path: ClassVar[bool] = False
    remote: ClassVar[bool] = False
    own_word: ClassVar[str | None] = ", which says itself what it is"
    can_be_student: ClassVar[bool] = False

    def is_for(self, reference: str) -> bool:
        """Whether a reference is of this kind; nothing is opened. By default by its scheme, or else its ending."""
        if self.scheme is not None:
            return reference.startswith(f"{self.scheme}:")
        path = Path(reference).expanduser()
        return path.suffix.lower() in self.endings and path.is_file()

    def name_in(self, reference: str) -> str:
        """A reference without its scheme."""
        return reference if self.scheme is None else reference.removeprefix(f"{self.scheme}:")

    @abstractmethod
    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        """The teacher.

        Raises:
            CistError: if it cannot be loaded, or a library that it needs is not installed.
        """

    def check_student(self, reference: str, weights: str | None) -> None:
        """Refuse what names no network, or no weights, that could be built, as far as can be told without building.

        Raises:
            CistError: naming it.
        """
        raise NotImplementedError

    def create_student(
        self, reference: str, num_classes: int, options: StudentOptions
    ) -> tuple[nn.Module, Preprocessing, str | None]:
        """A network for so many classes, what feeds it, and a remark on its weights.

        Raises:
            CistError: if it cannot be built.
        """
        raise NotImplementedError

    def fitting_classes(self, reference: str, state: Mapping[str, Tensor]) -> int | None:
        """The number of classes of weights that fit the network exactly; None for others. By default it is built."""
        from cist_core.zoo.students import fitting_classes

        return fitting_classes(lambda count: self.create_student(reference, count, StudentOptions())[0], state)

    def load_weights(
        self, reference: str, state: Mapping[str, Tensor], *, source: str
    ) -> tuple[nn.Module, int, Preprocessing]:
        """The network with weights of a file: itself, its classes, and its usual preprocessing.

        Raises:
            CistError: if they do not fit, with the differences.
        """
        from cist_core.zoo.students import load_into

        return load_into(lambda count: self.create_student(reference, count, StudentOptions())[:2], state, source)


KINDS: list[ModelKind] = []


def register_model_kind(kind: type[ModelKind]) -> type[ModelKind]:
    """Make a kind known, and so to the command line, the app and error sentences.

    Raises:
        ValueError: if its scheme is another's.
    """
    if kind.scheme is not None and find_kind_of_scheme(kind.scheme) is not None:
        raise ValueError(f"The scheme '{kind.scheme}:' belongs to another kind of model already.")
    KINDS.append(kind())
    KINDS.sort(key=lambda each: each.order)
    return kind


def model_kinds() -> tuple[ModelKind, ...]:
    """All that are known, in their order."""
    return tuple(KINDS)


def find_kind(reference: str) -> ModelKind | None:
    """The kind that a reference is of; None where it is of none.

    Example:
        >>> find_kind("timm:resnet18").written
        'timm:NAME'
    """
    return next((kind for kind in KINDS if kind.is_for(reference)), None)


def find_kind_of_scheme(scheme: str) -> ModelKind | None:
    """The kind whose references begin so, the colon left out."""
    return next((kind for kind in KINDS if kind.scheme == scheme), None)


_REMOTE_NAME = re.compile(r"\w+:\w[\w.\-]*(/\w[\w.\-]*)?([@:]\w[\w.\-]*)?")


def is_remote(reference: str) -> bool:
    """Whether a reference names something published elsewhere, by a scheme, and can be no path.

    Example:
        >>> is_remote("timm:resnet18"), is_remote("hf:../secret"), is_remote("net.pt")
        (True, False, False)
    """
    kind = find_kind_of_scheme(reference.partition(":")[0])
    return kind is not None and kind.remote and _REMOTE_NAME.fullmatch(reference) is not None


def teacher_endings() -> list[str]:
    """Of all files that a teacher is opened from, those of weights first."""
    return [*weight_endings(), *(e for kind in KINDS if not kind.named_weights for e in kind.endings)]


def weight_endings() -> list[str]:
    """Of files that hold weights without the network they belong to."""
    return [ending for kind in KINDS if kind.named_weights for ending in kind.endings]


def teachers_in_words() -> str:
    """What a teacher may be: "a sample model, torchvision:NAME, ... or a checkpoint"."""
    return listed([kind.in_words or kind.written for kind in KINDS])


def student_kinds() -> list[ModelKind]:
    return [kind for kind in KINDS if kind.can_be_student]


def students_in_words() -> str:
    """What a student may be beside a network of the zoo."""
    return listed([kind.in_words or kind.written for kind in student_kinds()])
