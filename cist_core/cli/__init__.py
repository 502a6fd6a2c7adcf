"""`cist`: the analysis of the app without a browser.

Results go to standard output, progress and remarks to standard error. Exit codes: 0, 1 where ``cist doctor`` finds
something broken, 2 for input that cannot be used (with one sentence that says why), 130 after Ctrl-C, 141 when the
reader of a pipe has left.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO

from cist_core import CistError, __version__
from cist_core.cli import (
    analyze,
    convert,
    distill,
    doctor,
    evaluate,
    infer,
    listings,
    rho,
    runs,
    search,
    studio,
    sweep,
    worker,
)
from cist_core.cli.output import remark
from cist_core.cli.terminal import printable_output
from cist_core.errors import Cancelled, CistWarning

BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 2, 130, 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message.rstrip('.')}; see '{self.prog} --help'.\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; each command stores the function that runs it as ``run``."""
    parser = _Parser(
        prog="cist",
        allow_abbrev=False,
        description="See your soft labels before you distill: fixed temperatures against one temperature per sample.",
        epilog="Entropies are in nats, temperatures in the unit of the logits. 'cist COMMAND --help' shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"cist {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (
        studio,
        analyze,
        rho,
        infer,
        convert,
        listings,
        distill,
        evaluate,
        sweep,
        search,
        runs,
        worker,
        doctor,
    ):
        command.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Raises:
        SystemExit: after ``--help``, ``--version`` (code 0) or a command line that cannot be parsed (code 2).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Greek letter must not fail on a terminal that has none
    with printable_output():
        return _main(arguments)


def console() -> NoReturn:
    """`cist`: run the command line of this process and end it.

    One of several training processes ends without the interpreter's shutdown: PyTorch's threads of a process group
    outlive it once a network was wrapped for it, and one that frees its last tensor while the interpreter shuts down
    aborts a process whose work is done.
    """
    code = main()
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        sys.exit(code)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        with _warnings_as_remarks():
            options.run(options)
        sys.stdout.flush()
    except Cancelled as stop:
        return _stop(str(stop), INTERRUPTED)
    except CistError as error:
        return _stop(str(error), BAD_INPUT)
    except BrokenPipeError:
        # Whoever reads has seen enough. Python would complain when it flushes the closed pipe on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        named = f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
        return _stop(named, BAD_INPUT)
    except KeyboardInterrupt:
        return _stop("Interrupted; the command did not finish.", INTERRUPTED)
    return 0


@contextmanager
def _warnings_as_remarks() -> Iterator[None]:
    """Print our own warnings without the place in the code that Python puts before them."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, CistWarning):
                remark(str(message))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        warnings.simplefilter("always", CistWarning)
        yield


def _stop(sentence: str, code: int) -> int:
    print(f"cist: {sentence}", file=sys.stderr)
    return code
