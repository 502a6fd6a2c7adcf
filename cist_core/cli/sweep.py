"""``cist sweep``: a grid of runs, and what they show together."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cli.distill import add_code_option, base_config
from cist_core.cli.loading import add_class_map_option
from cist_core.cli.output import ProgressBar, add_json_option, print_json, refuse_options, remark, table
from cist_core.cli.runs import add_executor_option, add_root_option, open_store
from cist_core.training.logit_scale import ScaleFault
from cist_core.wording import perplexity

if TYPE_CHECKING:
    from cist_core.runs import Run, RunStore, Setting, Statistics

EXAMPLES = """\
examples:
  cist sweep --preset demo --objective ce kd cist cist-authors --seeds 0 1 2 --wait
  cist sweep --preset demo --objective kd cist --grid tau=1,2,4,8 rho=2,3,4 --seeds 0 1 2
  cist sweep config.json --grid optimiser.learning_rate=0.01,0.02 --seeds 0 1 2 --group rates
  cist sweep config.json --grid tau=1,2,4,8 --executor slurm
  cist sweep --summary rates --json

A field of --grid is a hyper-parameter of the objectives, and applies to those that have it, or a field of the config.
A rho that an objective needs and neither it nor the grid gives is that of the config's objective.
The runs are queued: a worker ('cist worker', or the app's) trains them in their turn. Accuracies are of the last epoch,
as the likelihoods of language models are (the perplexity is e to the NLL of a token, in nats).
"""
POLL_SECONDS = 1.0
_NEW_SWEEP = ("preset", "objective", "class_map", "grid", "seeds", "group", "wait", "executor")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "sweep",
        help="queue a grid of runs over methods, parameters and seeds; sum them up",
        description="Queue a run for every combination of objectives, grid values and seeds, and compare them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", metavar="CONFIG.json", help="what the runs have in common")
    what.add_argument("--preset", metavar="NAME", help="a recipe instead of a config, such as demo")
    what.add_argument("--summary", metavar="GROUP", help="add nothing; show what a sweep has shown so far")
    parser.add_argument(
        "--objective", nargs="+", metavar="TEXT", help="kd, cist:rho=4, cist-authors, ... (default: that of the config)"
    )
    add_class_map_option(parser)
    add_code_option(parser)
    parser.add_argument("--grid", nargs="+", metavar="FIELD=V1,V2", help="values to combine")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="a run for each (default: the config's)")
    parser.add_argument("--group", metavar="NAME", help="name of the sweep (default: made from the time)")
    parser.add_argument("--wait", action="store_true", help="stay until all have ended, then show the summary")
    add_executor_option(parser)
    add_root_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if options.summary is not None:
        refuse_options(options, _NEW_SWEEP, needs="a new sweep", reason="--summary adds nothing")
        store = open_store(options)
        store.reconcile()
        _show(options, options.summary, _members(store, options.summary))
        return
    from cist_core.runs import expand_sweep

    entries = expand_sweep(
        base_config(options), objectives=options.objective or (), grid=options.grid or (), seeds=options.seeds or ()
    )
    store = open_store(options)
    group = options.group or time.strftime("sweep-%Y%m%d-%H%M%S")
    if store.list_runs(group):
        raise CistError(f"There is a sweep '{group}' already; choose another name for --group.")
    runs = store.add_all([(entry.name, entry.config) for entry in entries], group=group, executor=options.executor)
    remark(f"Queued {len(runs)} runs as the sweep '{group}'.")
    if options.wait:
        _wait(store, group)
        _show(options, group, _members(store, group))
        _refuse_unfinished(_members(store, group), group)
    elif options.json:
        print_json({"group": group, "runs": [run.id for run in runs]})
    else:
        print(f"Train them with 'cist worker', unless one works already; then: cist sweep --summary {group}")


def _members(store: RunStore, group: str) -> list[Run]:
    """The runs of a sweep, oldest first."""
    runs = store.list_runs(group)
    if not runs:
        known = list(dict.fromkeys(run.group for run in store.list_runs() if run.group))
        raise CistError(f"There is no sweep '{group}' in {store.root}; known are {', '.join(known) or 'none'}.")
    return runs[::-1]


def _wait(store: RunStore, group: str) -> None:
    from cist_core.runs import ensure_worker

    try:
        with ProgressBar("Training", "runs") as progress:
            while True:
                runs = store.list_runs(group)
                ended = sum(run.state.ended for run in runs)
                if ended == len(runs):
                    return
                ensure_worker(store)
                progress(ended, len(runs))
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        remark(f"The runs go on without you; later: cist sweep --summary {group}")
        raise


def _refuse_unfinished(runs: list[Run], group: str) -> None:
    unfinished = [run for run in runs if run.state != "finished"]
    if unfinished:
        first = unfinished[0]
        raise CistError(
            f"{len(unfinished)} of {len(runs)} runs of the sweep '{group}' did not finish; the first, {first.id}, is "
            f"{first.state}: {first.reason or 'see its log'}"
        )


def _show(options: argparse.Namespace, group: str, runs: list[Run]) -> None:
    from cist_core.runs import outcomes, summarise

    settings = summarise(outcomes(runs))
    faults = {run.id: fault for run in runs if (fault := ScaleFault.from_status(run.directory.status()))}
    if options.json:
        states = {run_id: fault.state for run_id, fault in faults.items()}
        print_json({"group": group, "settings": [_record(setting) for setting in settings], "logit_scale": states})
        return
    of_texts = [setting for setting in settings if "test_nll" in setting.measures]
    of_images = [setting for setting in settings if setting not in of_texts]
    interval = ["sd", "95 % interval"]
    if of_images:
        head = ["setting", "finished", "test accuracy", *interval, "val. accuracy", *interval]
        print(table(head, [_row(setting) for setting in of_images]))
    if of_texts:
        head = ["setting", "finished", "test NLL (nats)", *interval, "perplexity"]
        print(table(head, [_language_row(setting) for setting in of_texts]))
    for run_id, fault in faults.items():
        remark(f"The student's logits of {run_id} {fault}.")
    missing = sum(not run.state.ended for run in runs)
    if missing:
        remark(f"{missing} of {len(runs)} runs have not ended yet.")


def _record(setting: Setting) -> dict[str, Any]:
    return dataclasses.asdict(setting)


def _row(setting: Setting) -> list[str]:
    cells = _named(setting)
    for statistics in setting.measures.values():
        cells += _cells(statistics, 100, 2, " %")
    return cells


def _language_row(setting: Setting) -> list[str]:
    nll = setting.measures["test_nll"]
    return [*_named(setting), *_cells(nll, 1, 4, ""), "-" if nll is None else perplexity(nll.mean)]


def _named(setting: Setting) -> list[str]:
    finished = next(iter(setting.measures.values()))
    return [setting.name, f"{finished.n if finished else 0} of {setting.runs}"]


def _cells(statistics: Statistics | None, times: float, digits: int, unit: str) -> list[str]:
    if statistics is None:
        return ["-", "-", "-"]
    mean, sd, low, high = (
        f"{times * number:.{digits}f}" for number in (statistics.mean, statistics.sd, statistics.low, statistics.high)
    )
    if math.isnan(statistics.sd):
        return [f"{mean}{unit}", "-", "-"]
    return [f"{mean}{unit}", sd, f"{low} to {high}{unit}"]
