"""How the command line and Python find the logits on the screen again: by a teacher and data, or in a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cist_core.added.roots import HUB
from cist_core.cards import find_sample_model
from cist_core.errors import CistError


@dataclass(frozen=True)
class Named:
    """A model that ships, on a split of a data set."""

    model: str
    data: str
    split: str

    @property
    def arguments(self) -> str:
        """What names it on the command line."""
        words = ["--teacher", self.model, "--data", self.data, "--split", self.split]
        return shlex.join(words)

    @property
    def imports(self) -> str:
        return "from cist_core.inference.sources import load_logits\n"

    @property
    def expression(self) -> str:
        """Python for its `LogitSet`, after `imports`."""
        return f"load_logits({_text(self.model)}, {_text(self.data)}, {_text(self.split)}).logit_set"

    @property
    def loading(self) -> str:
        """Python that reads ``logits`` and ``curves``, after `imports` and that of `EntropyCurves`."""
        return _loading(self.expression)

    def as_student(self, teacher: Reference) -> str:
        """What names it beside that teacher."""
        shipped = None
        if isinstance(teacher, InFile) and (card := find_sample_model(self.model)) is not None:
            shipped = card.logits(self.data, self.split)  # a name needs data beside it, and a file brings its own
        return shlex.join(["--student", self.model if shipped is None else str(shipped)])


@dataclass(frozen=True)
class InFile:
    """A file of logits, as whoever looks at them has it."""

    file: str
    labels: str | None = None
    given_as: str = "auto"
    class_map: Mapping[str, str] | None = None

    @property
    def arguments(self) -> str:
        words = ["--logits", self.file]
        if self.labels is not None:
            words += ["--labels", self.labels]
        if self.given_as != "auto":
            words += ["--given-as", self.given_as]
        if self.class_map is not None:
            words += ["--class-map", *class_map_words(self.class_map)]
        return shlex.join(words)

    @property
    def imports(self) -> str:
        return "from cist_core import read_logits\n"

    @property
    def expression(self) -> str:
        more = f", labels={_text(self.labels)}" if self.labels is not None else ""
        more += f", given_as={_text(self.given_as)}" if self.given_as != "auto" else ""
        more += f", class_map={dict(self.class_map)!r}" if self.class_map is not None else ""
        return f"read_logits({_text(self.file)}{more})"

    @property
    def loading(self) -> str:
        return _loading(self.expression)

    def as_student(self, teacher: Reference) -> str:
        return shlex.join(["--student", self.file])


@dataclass(frozen=True)
class OfText:
    """A language model on texts, as whoever looks at them has both."""

    model: str
    texts: str
    length: int | None = None

    @property
    def arguments(self) -> str:
        words = ["--lm", self.model, "--text", self.texts]
        return shlex.join(words if self.length is None else [*words, "--length", str(self.length)])

    @property
    def imports(self) -> str:
        return "from cist_core.language.sources import load_tokens\n"

    @property
    def expression(self) -> str:
        """Python for its `TokenSet`, after `imports`."""
        length = "" if self.length is None else f", length={self.length}"
        return f"load_tokens({_text(self.model)}, {_text(self.texts)}{length}).tokens"

    @property
    def loading(self) -> str:
        return f"tokens = {self.expression}\ncurves = tokens.curves()\n"

    def as_student(self, teacher: Reference) -> str:
        raise CistError("A language model is no student of images; choose another.")


Reference = Named | InFile | OfText


def _loading(expression: str) -> str:
    return f"logits = {expression}\ncurves = EntropyCurves.from_logits(logits)\n"


def class_map_words(mapping: Mapping[str, str]) -> list[str]:
    """A class map as ``--class-map`` takes it."""
    return [f"{of_data}={of_teacher}" for of_data, of_teacher in mapping.items()]


def known_as(path: str, uploads: Path, *, own: bool) -> str:
    """A file or a name as the visitor may know it: where a file lies on the server is for whoever added it alone."""
    return own_name(path, uploads) if own or path.startswith(HUB) else Path(path).name


def own_name(path: str, uploads: Path) -> str:
    """A file as its owner knows it: an upload by its name alone, one on the server by its path."""
    return Path(path).name if Path(path).is_relative_to(uploads) else path


def _text(value: str) -> str:
    """A Python string in the project's quotes; what does not print is written out."""
    plain = repr(value)
    return f'"{value}"' if plain == f"'{value}'" and '"' not in value else plain
