"""``cist runs``: the runs of this machine, and what can be done with one."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cli.output import add_json_option, print_json, refuse_options, remark, table
from cist_core.training.logit_scale import ScaleFault
from cist_core.wording import percent

if TYPE_CHECKING:
    from cist_core.runs import Run, RunStore

EXAMPLES = """\
examples:
  cist runs
  cist runs --group rho-sweep --json
  cist runs --mirror s3://bucket/runs        copies in a store, also of runs that are nowhere else
  cist runs fetch s3://bucket/runs/20261124-171500-ab12    list one here again, with all its files
  cist runs show ab12                the end of an id is enough
  cist runs cancel 20261124-171500-ab12
  cist runs resume ab12              continue from its last checkpoint
  cist runs retry ab12 cd34          from scratch
  cist runs delete ab12
"""
_VERBS = {
    "cancel": "stop it at its next step, or take it out of the queue",
    "resume": "queue it again, to continue from its last checkpoint",
    "retry": "queue it again, to start from scratch",
    "delete": "remove it and its files",
}


def add_root_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", metavar="DIR", help="folder of the runs (default: CIST_RUNS, or one among the user's data)"
    )


def add_executor_option(
    parser: argparse.ArgumentParser, *, default: str = "ray where CIST_RAY_ADDRESS is set, else this machine"
) -> None:
    parser.add_argument("--executor", metavar="NAME", help=f"where to run: local, slurm or ray (default: {default})")


def open_store(options: argparse.Namespace) -> RunStore:
    from cist_core.runs import RunStore

    store = RunStore(None if options.root is None else Path(options.root))
    if store.rebuilt is not None:
        print(f"{store.rebuilt} Remove {store.notice_file} when you have read this.", file=sys.stderr)
    return store


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "runs",
        help="list, show, cancel, resume, retry, delete or fetch runs",
        description="List the runs, or do something with some of them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_root_option(parser)
    parser.add_argument("--group", metavar="NAME", help="list the runs of this sweep only")
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="list the copies of runs in this folder of a store instead, or fetch some from there",
    )
    add_json_option(parser)
    parser.set_defaults(run=list_runs)
    verbs = parser.add_subparsers(metavar="[VERB]")
    show = verbs.add_parser("show", help="everything about one run", allow_abbrev=False)
    show.add_argument("id", help="of the run, or the end of it")
    show.set_defaults(run=show_run)
    for verb, effect in _VERBS.items():
        act = verbs.add_parser(verb, help=effect, description=f"Take each run and {effect}.", allow_abbrev=False)
        act.add_argument("ids", nargs="+", metavar="ID", help="of a run, or the end of it")
        act.set_defaults(run=act_on_runs, verb=verb)
    fetch = verbs.add_parser(
        "fetch",
        help="list a run here that lies in a store alone",
        description="Fetch each run whole from its copy in a store, and list it here among the others.",
        allow_abbrev=False,
    )
    fetch.add_argument(
        "copies",
        nargs="+",
        metavar="COPY",
        help="its address as 'cist runs --mirror URL' lists it, or its name in --mirror, or else in the [mirror] of "
        "executors.toml",
    )
    fetch.add_argument("--mirror", metavar="URL", default=argparse.SUPPRESS, help="folder of a store with the copies")
    fetch.add_argument(
        "--allow-code",
        action="store_true",
        help="also runs whose configs name code (package.module:function), which a resumed run calls; read it before",
    )
    fetch.set_defaults(run=fetch_runs)
    for verb_parser in verbs.choices.values():
        # The options of `cist runs` may stand behind the verb as well, and only count where they were given.
        verb_parser.add_argument("--root", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        verb_parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")


def list_runs(options: argparse.Namespace) -> None:
    if options.mirror is not None:
        _list_copies(options)
        return
    store = open_store(options)
    store.reconcile()
    runs = store.list_runs(options.group)
    if options.json:
        print_json({"root": str(store.root), "runs": [_record(run) for run in runs]})
        return
    if not runs:
        if options.group:
            print(f"There are no runs in {store.root} of the sweep {options.group}.")
            return
        root = "" if options.root is None else f" --root {shlex.quote(options.root)}"
        print(
            f"There are no runs in {store.root}; 'cist distill --executor local{root}' adds one, and without "
            "--executor a run is kept in its --run-dir alone."
        )
        return
    head = ["id", "state", "name", "sweep"]
    rows = [[run.id, _state(run), run.name, run.group or "-"] for run in runs]
    if any(run.owner for run in runs):  # somebody has signed in to start one
        head.append("owner")
        rows = [[*row, run.owner or "-"] for row, run in zip(rows, runs, strict=True)]
    rows = [[*row, _progress(run), _accuracy(run)] for row, run in zip(rows, runs, strict=True)]
    print(table([*head, "epoch", "val. accuracy"], rows, left=len(head)))


def _list_copies(options: argparse.Namespace) -> None:
    from cist_core.training.mirror.listing import copied_runs

    refuse_options(options, ("root", "group"), needs="runs of this machine", reason="--mirror lists those of a store")
    runs = copied_runs(options.mirror)
    if options.json:
        print_json({"mirror": options.mirror, "runs": [asdict(run) for run in runs]})
        return
    if not runs:
        print(f"There are no copies of runs in {options.mirror}.")
        return
    rows = [[run.url, run.state, run.epoch or "-", _percent(run.test_accuracy)] for run in runs]
    print(table(["copy", "state", "epoch", "test accuracy"], rows, left=2))
    print("List one here: cist runs fetch COPY. Go on with one apart: cist distill --run-dir COPY --resume")


def fetch_runs(options: argparse.Namespace) -> None:
    from cist_core.runs.copies import bring_back
    from cist_core.runs.executors.settings import mirror_of

    store = open_store(options)
    urls = [_copy_url(store, options.mirror, copy) for copy in options.copies]
    runs, faults = [], []
    # As on Ctrl-C, what was fetched in part is removed and the lease given back.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for url in urls:
            try:
                run = bring_back(store, url, allow_code=options.allow_code)
            except CistError as error:
                faults.append(str(error))
                continue
            runs.append(run)
            if options.json:
                continue
            print(f"{run.id}  {_state(run)}")
            if mirror_of(run.directory.path) != url.rstrip("/"):
                remark(f"The copy in {url} stays as it is: [mirror] in executors.toml does not name it.")
    finally:
        signal.signal(signal.SIGTERM, before)
    if options.json:
        print_json({"runs": [_record(run) for run in runs]})
    if faults:
        raise CistError(" ".join(faults))


def _copy_url(store: RunStore, mirror: str | None, copy: str) -> str:
    from cist_core.runs.executors.settings import mirror_url
    from cist_core.training.mirror.store import is_url

    if is_url(copy) or "://" in copy:  # what is listed may have a space
        return copy
    folder = mirror or mirror_url(store.root)
    if folder is None:
        raise CistError(
            f"Expected the address of a copy, such as s3://bucket/runs/{copy}, but got '{copy}'; or name the folder of "
            "a store that it lies in (--mirror URL)."
        )
    return f"{folder.rstrip('/')}/{copy}"


def show_run(options: argparse.Namespace) -> None:
    _refuse_mirror(options, "show")
    store = open_store(options)
    store.reconcile()
    run = _find(store, options.id)
    if options.json:
        print_json({**_record(run), "config": run.directory.config().model_dump(mode="json")})
        return
    objective = run.directory.config().objective
    facts = {
        "id": run.id,
        "name": run.name,
        "state": _state(run),
        "reason": run.reason,
        "note": run.note,
        "sweep": run.group,
        "owner": run.owner,
        "objective": str(objective),
        "preset": objective.preset,
        "epoch": _progress(run),
        "validation accuracy": _accuracy(run),
        "test accuracy": _percent(run.directory.status().get("test_accuracy")),
        "warnings": " ".join(run.directory.status().get("warnings") or []),
        "damage": "; ".join(run.directory.damage()),
        "created": _moment(run.created_at),
        "started": _moment(run.started_at),
        "ended": _moment(run.ended_at),
        "attempts": str(run.attempt),
        "runs on": run.executor,
        "known there as": run.handle,
        "files": str(run.directory.path),
    }
    width = max(map(len, facts))
    print("\n".join(f"{name.ljust(width)}  {fact}" for name, fact in facts.items() if fact not in (None, "", "-")))


def act_on_runs(options: argparse.Namespace) -> None:
    _refuse_mirror(options, options.verb)
    store = open_store(options)
    store.reconcile()
    actions: dict[str, Callable[[str], object]] = {
        "cancel": store.cancel,
        "resume": store.resume,
        "retry": store.retry,
        "delete": store.delete,
    }
    runs = [_find(store, text) for text in options.ids]
    for run in runs:
        actions[options.verb](run.id)
    left = {run.id: run for run in store.list_runs()}
    if options.json:
        print_json({"runs": [_record(left[run.id]) for run in runs if run.id in left]})
        return
    for run in runs:
        print(f"{run.id}  {_state(left[run.id]) if run.id in left else 'deleted'}")
    if options.verb in ("resume", "retry"):
        print("A worker starts them in their turn: 'cist worker', unless one works already.")


def _refuse_mirror(options: argparse.Namespace, verb: str) -> None:
    refuse_options(options, ("mirror",), needs="'fetch', or alone", reason=f"'{verb}' is about runs that are here")


def _find(store: RunStore, text: str) -> Run:
    matches = [run for run in store.list_runs() if run.id == text or run.id.endswith(f"-{text}")]
    if len(matches) > 1:
        raise CistError(f"There are {len(matches)} runs whose id ends in '{text}'; give the whole id.")
    return matches[0] if matches else store.get(text)


def _record(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "cancel_requested": run.cancel_requested,
        "reason": run.reason,
        "note": run.note,
        "group": run.group,
        "owner": run.owner,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "attempt": run.attempt,
        "executor": run.executor,
        "directory": str(run.directory.path),
        "status": run.directory.status(),
        "damage": run.directory.damage(),
    }


def _state(run: Run) -> str:
    fault = ScaleFault.from_status(run.directory.status())
    state = "stopping" if run.cancel_requested else run.state
    remarks = [*([] if fault is None else [fault.state]), *(["damaged files"] if run.directory.damage() else [])]
    return ", ".join([state, *remarks])


def _progress(run: Run) -> str:
    status = run.directory.status()
    return f"{status['epoch']} of {status['epochs']}" if {"epoch", "epochs"} <= status.keys() else "-"


def _accuracy(run: Run) -> str:
    status = run.directory.status()
    return _percent(status.get("last_val_accuracy"))


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
