"""``dies_at_commit.py ROOT URL COMMAND...``: a worker that is killed when it has started a run and not written it down.

An empty URL stands for processes of this machine, another for a job of the toy cluster there.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from cist_core.runs import RunStore, Worker
from cist_core.runs.executors.local import LocalExecutor
from cist_core.runs.store import Claim
from tests.runs.cluster import ClusterExecutor


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    root, url, *command = sys.argv[1:]
    Claim.started = die
    executor = ClusterExecutor(url, command=command) if url else LocalExecutor(command=command)
    Worker(RunStore(Path(root)), executor=executor).tick()
