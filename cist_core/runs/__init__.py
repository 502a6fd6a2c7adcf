"""Runs in the background: a table of them, and a worker that starts, watches and stops their processes.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from cist_core.training import preset
    >>> store = RunStore(Path(tempfile.mkdtemp()))
    >>> run = store.add(preset("demo"), note="a first try")
    >>> run.name, str(run.state)
    ('cist:rho=4', 'queued')

`ensure_worker` starts a process that works the queue off and survives whoever asked for it.
"""

from cist_core.runs.limits import RunLimits
from cist_core.runs.run import Run, RunState
from cist_core.runs.store import RunStore
from cist_core.runs.summary import Outcome, Setting, Statistics, outcomes, summarise
from cist_core.runs.sweep import SweepEntry, expand_sweep
from cist_core.runs.worker import Worker, ensure_worker

__all__ = [
    "Outcome",
    "Run",
    "RunLimits",
    "RunState",
    "RunStore",
    "Setting",
    "Statistics",
    "SweepEntry",
    "Worker",
    "ensure_worker",
    "expand_sweep",
    "outcomes",
    "summarise",
]
