"""Opens every file of the catalogue, in a process of its own: by the library, the command line and the page Add.

``python tests/security/hostile.py run FOLDER [WORD ...]`` makes the files whose description has one of the words (or
all) and opens them; it prints a JSON line a file. ``python tests/security/hostile.py table`` puts the refused-input
table into ``docs/security.md``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from security.case import Hostile
from security.catalogue import CATALOGUE
from security.forge import MEBI, flag_beside
from security.readers import READERS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- refused: begin -->", "<!-- refused: end -->"

PEAK_MIB = 512
"""No refusal may take more memory than this on top of the libraries."""

_ADDRESS_SPACE = 5 * 1024 * MEBI


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        reader: that it was given to.
        what: it is.
        refused: whether a `CistError` was raised.
        text: the sentence, or what happened instead.
        command: exit code and standard error of the command line; None where it opens no such file.
        page: whether the page Add refuses it, and the sentence or what happened instead; None likewise.
        peak: memory taken, in MiB.
        seconds: wall clock.
        ran: whether a payload left its mark.
    """

    reader: str
    what: str
    refused: bool
    text: str
    command: tuple[int, str] | None
    page: tuple[bool, str] | None
    peak: float
    seconds: float
    ran: bool


def open_in_child(case: Hostile, path: Path) -> Outcome:
    """Let a forked process open the file; a crash or a flood of memory ends there."""
    read, write = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(case, path, write)
    os.close(write)
    with os.fdopen(read) as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    ran = flag_beside(path).exists() or (path / "it-ran").exists()
    if not answer:
        died = f"the process ended with status {status}"
        return Outcome(case.reader, case.what, False, died, None, None, 0, seconds, ran)
    answer = answer.replace(json.dumps(f"{path.parent}{os.sep}")[1:-1], "").replace(str(path.parent), "FOLDER")
    refused, text, command, page, peak = json.loads(answer)
    return Outcome(case.reader, case.what, refused, text, command, page, peak, seconds, ran)


def _child(case: Hostile, path: Path, pipe: int) -> None:
    import resource
    import signal
    import warnings

    before = _kib("VmRSS")
    limit = _kib("VmSize") * 1024 + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(120)  # no answer is an answer
    warnings.simplefilter("ignore")
    reader = READERS[case.reader]
    refused, text = _said(lambda: reader.read(path))
    command = None if reader.command is None else _commanded(reader.command(path))
    page = None if reader.answers is None else _said(lambda: _preview(reader.answers(path)))
    peak = round((_kib("VmHWM") - before) / 1024, 1)
    with os.fdopen(pipe, "w") as stream:
        json.dump((refused, text, command, page, peak), stream)
    os._exit(0)


def _said(opening: Callable[[], object]) -> tuple[bool, str]:
    """Whether it was refused, and the sentence or what happened instead."""
    from cist_core.errors import CistError

    try:
        opening()
    except CistError as error:
        return True, str(error)
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}"[:300]
    return False, "it opened"


def _commanded(words: list[str]) -> tuple[int, str]:
    from cist_core.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = main(words)
        except BaseException as error:
            return -1, f"{type(error).__name__}: {error}"[:300]
    return code, said.getvalue()


def _preview(answers: dict[str, dict[str, Any]]) -> object:
    from cist_core.added import AddSpec, work

    return work.preview(AddSpec.of(title="hostile", **answers))


def _kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def run(folder: Path, only: Callable[[Hostile], bool] = lambda case: True) -> Iterator[Outcome]:
    """Make and open every file of the catalogue."""
    # What the readers import is not part of what a file costs.
    import pandas  # noqa: F401
    import PIL.Image
    import pyarrow.parquet  # noqa: F401
    import torch

    import cist_core.added.work
    import cist_core.cli
    import cist_core.data.loading
    import cist_core.inference.sources
    import cist_core.zoo.teachers  # noqa: F401

    torch.set_num_threads(1)
    PIL.Image.init()
    for case in filter(only, CATALOGUE):
        home = folder / case.reader.replace(" ", "-") / case.file
        home.mkdir(parents=True)
        path = home / case.file
        case.make(path)
        yield open_in_child(case, path)


def table(outcomes: Iterable[Outcome]) -> str:
    """The refused-input table of the documentation; paths are those below the folder of the file."""
    kinds: dict[str, list[Outcome]] = {reader: [] for reader in READERS}
    for outcome in outcomes:
        kinds[outcome.reader].append(outcome)
    rows = [
        f"| {reader} | {outcome.what} | {cell(outcome.text)} |" for reader, some in kinds.items() for outcome in some
    ]
    return "\n".join(["| Opened as | File | What is said |", "|---|---|---|", *rows])


def cell(text: str) -> str:
    """A sentence in a table of Markdown, literally."""
    text = text if len(text) <= 400 else text[:400] + " ..."
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text[:1] + text[-1:] else ""
    return f"{ticks}{pad}{text.replace('|', chr(92) + '|')}{pad}{ticks}"


def documented() -> dict[tuple[str, str], str]:
    """The rows of the table in the documentation: ``(reader, file)`` to what is said, as `cell` wrote it."""
    between = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in between.splitlines() if line.startswith("|")][2:]
    return {(reader.strip(), what.strip()): said.strip() for reader, what, said in rows}


def main(arguments: list[str]) -> None:
    if arguments[0] == "run":
        words = arguments[2:]
        for outcome in run(Path(arguments[1]), lambda case: not words or any(word in case.what for word in words)):
            print(json.dumps(asdict(outcome), ensure_ascii=False), flush=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = table(run(Path(folder)))
        text = DOCUMENT.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{rows}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
