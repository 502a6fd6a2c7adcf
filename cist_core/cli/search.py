"""``cist search``: look for the best values of some fields."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cli.distill import add_code_option, base_config
from cist_core.cli.loading import add_class_map_option
from cist_core.cli.output import ProgressBar, add_json_option, print_json, remark, table
from cist_core.cli.runs import add_executor_option, add_root_option, open_store
from cist_core.wording import percent

if TYPE_CHECKING:
    from cist_core.runs import Run, RunStore
    from cist_core.runs.search import Search

EXAMPLES = """\
examples:
  cist search --preset demo --objective cist --space rho=2..8 --trials 20 --group rho
  cist search config.json --space optimiser.learning_rate=0.001..0.1:log tau=1,2,4,8 --trials 30 --group rates
  cist search config.json --space rho=2..8 --trials 40 --at-once 8 --executor ray --group wide

The runs of --group are what the search has seen: the same command goes on where it was stopped, also with more
--trials. What is made large is the accuracy on validation after the last epoch, of language
models the likelihood; the test data choose nothing.
"""
POLL_SECONDS = 1.0
_SHOWN = 10


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "search",
        help="look for the values of some fields that are best on validation",
        description="Train one setting after another, each proposed from those before (optuna, extra search).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", metavar="CONFIG.json", help="what the runs have in common")
    what.add_argument("--preset", metavar="NAME", help="a recipe instead of a config, such as demo")
    parser.add_argument("--objective", metavar="TEXT", help="kd, cist, ... (default: that of the config)")
    parser.add_argument(
        "--space",
        nargs="+",
        required=True,
        metavar="FIELD=LOW..HIGH",
        help="where to look: FIELD=LOW..HIGH, FIELD=LOW..HIGH:log or FIELD=A,B,...; a field as in cist sweep --grid",
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="runs in all (default: 20)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="runs that wait or run (default: 1)")
    parser.add_argument("--group", required=True, metavar="NAME", help="name of the search, by which it goes on")
    add_class_map_option(parser)
    add_code_option(parser)
    add_executor_option(parser)
    add_root_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from cist_core.runs.search import Search, SearchAxis

    for name in ("trials", "at_once"):
        if (number := getattr(options, name)) < 1:
            raise CistError(f"Expected --{name.replace('_', '-')} of at least 1, but got {number}.")
    axes = tuple(SearchAxis.parse(text) for text in options.space)
    search = Search(base_config(options), axes, options.objective)
    search.check()
    store = open_store(options)
    _work(store, search, options)
    _show(store, search, options)


def _work(store: RunStore, search: Search, options: argparse.Namespace) -> None:
    from cist_core.runs import ensure_worker

    if before := store.list_runs(options.group):
        remark(f"Going on with the search '{options.group}', which has {len(before)} runs.")
    told = False
    try:
        with ProgressBar("Searching", "runs") as progress:
            while True:
                runs = store.list_runs(options.group)
                active = sum(not run.state.ended for run in runs)
                progress(len(runs) - active, max(options.trials, len(runs)))
                entry = search.propose(runs) if len(runs) < options.trials and active < options.at_once else None
                if entry is None and len(runs) < options.trials and active < options.at_once and not told:
                    remark(f"All settings of --space were tried, so there are {len(runs)} runs, not {options.trials}.")
                    told = True
                if entry is not None:
                    store.add(entry.config, name=entry.name, group=options.group, executor=options.executor)
                    continue
                if not active:
                    return
                ensure_worker(store)
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        remark("The runs that wait or run go on without you; the same command goes on with the search.")
        raise


def _show(store: RunStore, search: Search, options: argparse.Namespace) -> None:
    runs = store.list_runs(options.group)
    finished = [(value, run) for run in runs if run.state == "finished" and (value := search.measured(run)) is not None]
    if not finished:
        raise CistError(
            f"None of the {len(runs)} runs of the search '{options.group}' has finished; the newest, {runs[0].id}, is "
            f"{runs[0].state}: {runs[0].reason or 'see its log'}"
        )
    best = sorted(finished, key=lambda pair: (-pair[0], pair[1].id))
    if options.json:
        print_json({"group": options.group, "runs": [_record(search, *pair) for pair in best]})
    else:
        title = "val. NLL (nats)" if search.by_likelihood else "val. accuracy"
        rows = [
            [run.id, run.name, f"{-value:.4f}" if search.by_likelihood else percent(value)]
            for value, run in best[:_SHOWN]
        ]
        print(table(["id", "setting", title], rows, left=2))
    if failed := len(runs) - len(finished):
        remark(f"{failed} of {len(runs)} runs did not finish and were not learnt from; 'cist runs' says why.")
    if outside := sum(search.values(run) is None for run in runs):
        remark(f"{outside} of {len(runs)} runs lie outside of --space and were not learnt from.")


def _record(search: Search, value: float, run: Run) -> dict[str, Any]:
    score = {"val_nll": -value} if search.by_likelihood else {"val_accuracy": value}
    return {"id": run.id, "name": run.name, "values": search.values(run), **score}
