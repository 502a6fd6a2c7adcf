"""What the commands print: one JSON object, aligned tables, remarks and progress."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from cist_core import CistError

if TYPE_CHECKING:
    from tqdm import tqdm

INFERENCE_OPTIONS = ("split", "arch", "weights", "device", "precision", "limit", "seed", "download")


def print_json(record: Mapping[str, Any]) -> None:
    """Exactly one object on standard output; a number that JSON does not know becomes null."""
    print(json.dumps(_finite(record), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Columns as wide as their longest cell: the first ``left`` flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def remark(text: str) -> None:
    """A sentence beside the result, on standard error."""
    print(text, file=sys.stderr)


class ProgressBar:
    """How far a long step is, on standard error.

    A terminal shows the bar of tqdm, which goes when the step is over; a log gets a line only every `LOG_SECONDS`.
    """

    TERMINAL_SECONDS = 0.1
    LOG_SECONDS = 10.0

    def __init__(self, doing: str, unit: str = "", stream: TextIO | None = None) -> None:
        self._doing = doing
        self._unit = f" {unit}" if unit else ""
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._last = time.monotonic()
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._terminal:
            self._draw(done, total)
        elif time.monotonic() - self._last >= self.LOG_SECONDS:
            self._last = time.monotonic()
            share = f" ({100 * done // total} %)" if total else ""
            self._stream.write(f"{self._doing}: {done:,}{f' of {total:,}' if total else ''}{self._unit}{share}\n")
            self._stream.flush()

    def _draw(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is not None and done < self._bar.n:  # the next file
            self._bar.close()
            self._bar = None
        if self._bar is None:
            columns = shutil.get_terminal_size().columns - 1
            # The step before may have left a longer line, which only its own bar clears.
            self._stream.write("\r" + " " * columns + "\r")
            self._bar = tqdm(
                desc=self._doing,
                total=total or None,
                unit=self._unit,
                unit_scale=True,
                mininterval=self.TERMINAL_SECONDS,
                miniters=1,
                file=self._stream,
                leave=False,
                ncols=columns,
                position=0,
            )
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """How a teacher is run, the same in every command that runs one. What is not given is None or False."""
    group = parser.add_argument_group("running the teacher")
    group.add_argument("--split", help="train, validation or test (default: test)")
    group.add_argument(
        "--arch", metavar="NAME", help="architecture of a checkpoint (default: recognised; 'cist models')"
    )
    group.add_argument(
        "--weights",
        metavar="NAME",
        help="which of several groups of weights in a checkpoint, such as state_dict_ema or teacher (default: the one "
        "that is usually meant, which is named)",
    )
    group.add_argument("--device", help="auto, cpu, cuda or mps (default: auto)")
    group.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float16"],
        help="of the network's arithmetic; half precision needs a GPU to be quicker (default: float32)",
    )
    group.add_argument("--limit", type=int, metavar="N", help="use only N samples, evenly spaced (default: all)")
    group.add_argument(
        "--seed", type=int, metavar="S", help="draw the N samples at random, each class in proportion to its size"
    )
    group.add_argument("--download", action="store_true", help="download data and weights that are not there")


def refuse_options(options: argparse.Namespace, names: Sequence[str], *, needs: str, reason: str) -> None:
    """Refuse options that were given but would have no effect.

    Raises:
        CistError: naming the first of them.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:
            raise CistError(f"Expected --{name.replace('_', '-')} only together with {needs}; {reason}.")


def refuse_split_of_one_set(options: argparse.Namespace) -> None:
    """Refuse a split of data that have none.

    Raises:
        CistError: naming the split and the data.
    """
    from cist_core.data.loading import is_one_set

    if options.split is not None and is_one_set(options.data):
        raise CistError(
            f"Expected --split only together with data that have splits, but got '{options.split}' for {options.data}, "
            "which is one set; leave --split out."
        )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def size(samples: int, classes: int, accuracy: float | None) -> str:
    """``10,000 samples, 10 classes, accuracy 93.4 %``."""
    from cist_core.wording import percent

    known = "" if accuracy is None else f", accuracy {percent(accuracy)}"
    return f"{samples:,} sample{'s' * (samples != 1)}, {classes:,} classes{known}"
