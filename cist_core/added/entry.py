"""The files of one thing that was added: `Entry`, which the store writes, and what the child process leaves.

Each file has one writer, so that none waits for another and none is lost: ``entry.json`` is the store's,
``preview.json``, ``progress.json``, ``weights.json`` and ``failure.txt`` are the child's while it lives.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from cist_core.added.spec import AddSpec
from cist_core.errors import CistError
from cist_core.files import write_whole

Task = Literal["preview", "add"]
SECONDS: dict[Task, int] = {"preview": 180, "add": 12 * 3600}
"""Time that each task may take, once its turn has come."""
OPENING_SECONDS = 900
"""More for a preview of a text: it opens a language model, which converts one in GGUF the first time."""
CANCEL_SECONDS = 10.0
"""Time to stop by itself, for a child that was told to."""

ENTRY, PREVIEW, PROGRESS, WEIGHTS, FAILURE = (
    "entry.json", "preview.json", "progress.json", "weights.json", "failure.txt",
)  # fmt: skip
T = TypeVar("T")


class Entry(BaseModel):
    """What ``entry.json`` holds: whose it is, what was asked for last, and the process that works on it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    owner: str | None
    """Who added it; None: somebody who had not signed in."""
    created_at: float
    """Unix time."""
    key_sha256: str | None = None
    """Of the key that only the browser has in which it was added, where nobody has signed in."""
    spec: AddSpec | None = None
    """What was asked for last; None before anything was."""
    server_paths: bool = False
    """Whether that may read below the `roots`."""
    task: Task | None = None
    """What was begun last."""
    pid: int | None = None
    """The child process that does it; None before there was one, and once its end is recorded."""
    pid_created_at: str | float | None = None
    """Its start (`start_of`), by which it is told from a later process of the same number."""
    cancelled_at: float | None = None
    """When it was told to stop; Unix time."""

    @classmethod
    def read(cls, folder: Path) -> Entry:
        """The entry of a folder.

        Raises:
            CistError: if there is none, or it cannot be read.
        """
        try:
            return cls.model_validate_json((folder / ENTRY).read_bytes())
        except (OSError, ValueError) as error:
            raise CistError(f"What was added as '{folder.name}' is gone or damaged; add it again.") from error

    def write(self, folder: Path) -> None:
        """Put it in place of the one that is there.

        Raises:
            CistError: if it cannot be written.
        """
        write_json(folder / ENTRY, self, what="The entry")


@dataclass(frozen=True)
class PreviewImage:
    """One image with the teacher's answer; classes by name where there are names, else by number."""

    uri: str
    label: str
    prediction: str
    probability: float


@dataclass(frozen=True)
class Preview:
    """What is known before the long work begins.

    Attributes:
        name: of the model or the file.
        architecture: of the model; None for logits.
        parameters: of the model; None for logits.
        num_samples: all there are to be read or answered.
        num_classes: C.
        class_names: C names, or None.
        accuracy: share of right answers on the sample; None without labels.
        sample_size: number of samples that the accuracy is of.
        preprocessing: fields of `cist_core.zoo.preprocessing.Preprocessing`; None for logits.
        warnings: sentences, each with its remedy.
        remarks: sentences on what was chosen among several: weights, the order of classes or samples.
        facts: for people: origin, licence, what was recognised.
        images: a few of the sample.
        split: of the data; ``"all"`` where they have none.
        seconds: estimate for all samples; None for logits.
        other_weights: names of the groups of weights in the file that could be taken instead.
        class_map: from each class of the data to the teacher's, both by number, under which far more answers would be
            right; None where there is no such map.
    """

    name: str
    num_samples: int
    num_classes: int
    architecture: str | None = None
    parameters: int | None = None
    class_names: tuple[str, ...] | None = None
    accuracy: float | None = None
    sample_size: int = 0
    preprocessing: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    images: tuple[PreviewImage, ...] = ()
    split: str | None = None
    seconds: float | None = None
    other_weights: tuple[str, ...] = ()
    class_map: dict[str, str] | None = None


@dataclass(frozen=True)
class Progress:
    """How far the child process is.

    Attributes:
        done: samples.
        total: of them; 0 while that is not known.
        seconds_left: at the present speed.
        began_at: when its turn came, by the clock that all processes of a machine share (`time.monotonic`), which
            stands still while the machine sleeps.
    """

    done: int
    total: int
    seconds_left: float | None
    began_at: float | None = None


def read_json(kind: type[T], file: Path) -> T | None:
    """What a file holds; None where there is none, or it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return TypeAdapter(kind).validate_json(file.read_bytes())
    return None


def write_json(file: Path, value: object, *, what: str, durable: bool = True) -> None:
    """Write a model, a dataclass or a list.

    Args:
        file: where.
        value: of a type that pydantic knows.
        what: names it in the error.
        durable: as of `write_whole`.

    Raises:
        CistError: if it cannot be written.
    """
    content = TypeAdapter(type(value)).dump_json(value)
    write_whole(file, lambda partial: partial.write_bytes(content), what=what, durable=durable)


def seconds_for(task: Task, spec: AddSpec | None) -> int:
    """Time that a task may take, once its turn has come."""
    opens = task == "preview" and spec is not None and spec.language is not None
    return SECONDS[task] + (OPENING_SECONDS if opens else 0)


def too_slow(task: Task, spec: AddSpec | None) -> str:
    """What is said of a task that did not come to its end in time."""
    late = f"It took longer than {seconds_for(task, spec):,} seconds; use a smaller"
    if spec is not None and spec.language is not None:
        if task == "preview":  # of the first few hundred tokens, however long the text
            return f"{late} model, or try again when the machine has less to do."
        return (
            f"{late} model or a shorter text, or read it with 'cist analyze --lm' on the Studio's machine and with its "
            "CIST_CACHE: the token set is found here then."
        )
    return f"{late} file or fewer samples, or compute the logits on the command line with 'cist infer' and add those."


def read_failure(folder: Path) -> str | None:
    """Why the last task failed, as a sentence; None where nobody has said so."""
    with contextlib.suppress(OSError):
        return (folder / FAILURE).read_text(encoding="utf-8")
    return None


def write_failure(folder: Path, sentence: str) -> None:
    """Say why a task failed.

    Raises:
        CistError: if it cannot be written.
    """
    write_whole(folder / FAILURE, lambda file: file.write_text(sentence, encoding="utf-8"), what="The failure")
