"""``cist worker``: work off the queue of runs."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from typing import Any

from cist_core.cli.output import remark
from cist_core.cli.runs import add_root_option, open_store

EXAMPLES = """\
examples:
  cist worker                        until Ctrl-C
  cist worker --idle-seconds 60      leave after a minute without runs
  CIST_RUNS=/data/runs cist worker

The app starts one by itself. The runs survive their worker: they go on, and the next worker finds them again.
limits.toml in the folder of runs says how many run at the same time, and how much each may use; executors.toml there,
what each asks of Slurm or Ray, for which runs are queued with --executor.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "worker",
        help="train the queued runs in the background",
        description="Start the queued runs, watch them, and write down how they ended. One worker works per folder of "
        "runs; where one does, a second leaves at once.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_root_option(parser)
    parser.add_argument(
        "--idle-seconds", type=float, metavar="S", help="leave after S seconds without a run (default: never)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from cist_core.runs import Worker

    store = open_store(options)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say(f"working on {store.root}")
    if Worker(store, idle_seconds=options.idle_seconds, say=say).run(stop):
        say("left; runs that have started go on")
    else:
        say(f"left: another worker works on {store.root}")


def say(line: str) -> None:
    remark(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}")
