"""What a run says of its student, beside the weights: the file that `RunDirectory.student_card` names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cist_core.documents import parse_json, read_document
from cist_core.errors import CistError
from cist_core.plain_text import all_written_out
from cist_core.zoo.kinds.code import runs_code
from cist_core.zoo.preprocessing import Preprocessing

_CARD = "student.json"
_WEIGHTS = ("student.safetensors", "student-best.safetensors")


@dataclass(frozen=True)
class StudentCard:
    """How the weights of a student are used.

    Attributes:
        architecture: as `cist_core.zoo.teachers.load_checkpoint` takes it.
        preprocessing: that it was trained with.
        class_names: None where they are not known.
    """

    architecture: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None


def card_beside(path: str | os.PathLike[str]) -> StudentCard | None:
    """The card of a student's weights in a run directory; None for any other file.

    Raises:
        CistError: if it cannot be read.
    """
    weights = Path(path)
    file = weights.with_name(_CARD)
    if weights.name not in _WEIGHTS or not file.is_file():
        return None
    try:
        content = all_written_out(parse_json(read_document(file)))
        if not isinstance(content, dict) or not {"architecture", "preprocessing"} <= content.keys():
            return None
        names = tuple(map(str, content.get("class_names") or ()))
        preprocessing = Preprocessing.from_dict(content["preprocessing"])
        return StudentCard(str(content["architecture"]), preprocessing, names or None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CistError(f"The card {file} of that student cannot be read ({error}); mend it or remove it.") from error


def architecture_on(card: StudentCard, path: str | os.PathLike[str]) -> str:
    """The architecture, if a file may choose it.

    Raises:
        CistError: if it is code, which runs only where somebody names it, never because a file does.
    """
    if runs_code(card.architecture):
        raise CistError(
            f"By its card the student in {path} is code of somebody's own, which no file is allowed to run; if you "
            f"trust it, name it with --arch {card.architecture} (`architecture=` in Python)."
        )
    return card.architecture
