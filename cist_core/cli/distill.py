"""``cist distill``: one run in the foreground."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cli.loading import add_class_map_option, given_class_map
from cist_core.cli.output import refuse_options
from cist_core.cli.runs import add_executor_option, add_root_option, open_store
from cist_core.documents import parse_json
from cist_core.training.fields import nested

if TYPE_CHECKING:
    from cist_core.training import RunConfig
    from cist_core.training.mirror.mirror import Mirror

EXAMPLES = """\
examples:
  cist distill --preset demo
  cist distill --preset demo --objective kd:tau=4 --seed 1 --run-dir runs/kd
  cist distill --preset demo --objective cist-authors --run-dir runs/authors
  cist distill --preset cifar-240 --set student.architecture=resnet14 --set data.download=true --print > config.json
  cist distill --preset minillm-gpt2-base --set teacher.name=FOLDER --set data.name=train.jsonl --print > config.json
  cist distill --preset demo --set student.architecture=torchvision:resnet18 --set student.image_size=32
  cist distill config.json --estimate
  cist distill config.json --run-dir runs/one
  cist distill --run-dir runs/one --resume
  cist distill config.json --run-dir s3://bucket/one       (extra s3; with --resume on any machine)
  cist distill config.json --executor slurm          one of 'cist runs', trained elsewhere

Ctrl-C saves the run where it is; --resume goes on with the config that lies in the run directory. Only what does not
decide the result may be another one then: the fields of machine (device, threads, ...) and permission to download.
Several GPUs: accelerate launch -m cist_core distill config.json --run-dir runs/one
"""

_IN_QUEUE = "--executor queues the run among those of 'cist runs'"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "distill",
        help="train a student",
        description="Train a student on a teacher's soft labels; everything about the run goes to one directory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("config", nargs="?", metavar="CONFIG.json", help="a RunConfig, JSON or YAML")
    what.add_argument("--preset", metavar="NAME", help="demo, cifar-240, imagenet-100, minillm-gpt2-base, ...")
    what.add_argument("--schema", action="store_true", help="print the JSON schema of a config and train nothing")
    parser.add_argument(
        "--objective",
        metavar="TEXT",
        help="in place of the config's, for example cist:rho=4, or a preset such as cist-authors ('cist objectives')",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the config's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any other field, dots lead into parts: optimiser.learning_rate=0.02; may be repeated",
    )
    add_class_map_option(parser)
    add_code_option(parser)
    parser.add_argument("--print", action="store_true", help="print the config and train nothing")
    parser.add_argument("--estimate", action="store_true", help="measure a few steps and print how long a run takes")
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="where the run is kept (default: runs/DATE-TIME); s3://BUCKET/RUN: it trains in a folder below runs/ and "
        "is copied there after each checkpoint",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="keep a copy of --run-dir there (s3://BUCKET/RUN), to go on from elsewhere",
    )
    parser.add_argument("--replace-mirror", action="store_true", help=argparse.SUPPRESS)  # asked by a queue alone
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --run-dir, from its last checkpoint and by its own config",
    )
    add_executor_option(
        parser, default="here and now, in --run-dir alone; with it 'cist runs' and the Studio list the run"
    )
    add_root_option(parser)
    parser.set_defaults(run=run)


class NoCode(argparse.Action):
    """``--no-code`` holds from the moment in which it is read."""

    def __call__(self, *_: object) -> None:
        from cist_core.zoo.kinds.code import NO_CODE

        os.environ[NO_CODE] = "1"


def add_code_option(parser: argparse.ArgumentParser) -> None:
    code = parser.add_mutually_exclusive_group()
    code.add_argument(
        "--allow-code",
        action="store_true",
        help="run code (package.module:function) that the config file or the run to resume names; read it before",
    )
    code.add_argument(
        "--no-code",
        action=NoCode,
        nargs=0,
        help="run none in this process and those that it starts, whatever names it, as for the runs of visitors",
    )


def run(options: argparse.Namespace) -> None:
    from cist_core.training import config_schema

    if options.schema:
        print(json.dumps(config_schema(), indent=2))
        return
    if options.executor is not None:
        refuse_options(
            options,
            ("print", "estimate", "run_dir", "resume", "mirror"),
            needs="a run in the foreground",
            reason=_IN_QUEUE,
        )
        _queue(chosen_config(options), options)
        return
    if options.root is not None:
        raise CistError("Expected --executor together with --root: without it, the run is kept in --run-dir.")
    if options.print:
        print(chosen_config(options).model_dump_json(indent=2))
    elif options.estimate:
        from cist_core.training.estimation import estimate

        print(json.dumps(estimate(chosen_config(options)).to_dict()))
    else:
        _train(options)


def _queue(config: RunConfig, options: argparse.Namespace) -> None:
    from cist_core.runs import ensure_worker

    store = open_store(options)
    run = store.add(config, executor=options.executor)
    ensure_worker(store)
    print(f"Queued {run.id} for {options.executor}; 'cist runs show {run.id}' says how it goes")


def _mirror(options: argparse.Namespace) -> Mirror | None:
    """The copy of the run in a store, if it is to have one; then ``options.run_dir`` is where it trains."""
    from cist_core.training.mirror.store import is_url

    in_store = options.run_dir is not None and is_url(options.run_dir)
    url = options.run_dir if in_store else options.mirror
    if url is None:
        return None
    from cist_core.training import RunDirectory
    from cist_core.training.mirror.mirror import Mirror

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CistError(f"A run of several processes cannot be kept in {url} yet; give it a --run-dir on a disk.")
    if in_store:
        refuse_options(options, ("mirror",), needs="a --run-dir on a disk", reason="the run is kept in a store already")
        name = url.rstrip("/").rpartition("/")[2] or "run"
        options.run_dir = Path("runs") / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:8]}"
    elif options.run_dir is None:
        raise CistError("Expected --run-dir together with --mirror: the directory that is copied.")
    return Mirror(url, RunDirectory(options.run_dir))


def _train(options: argparse.Namespace) -> None:
    from accelerate import PartialState

    from cist_core.training.mirror.mirror import copied

    mirror = _mirror(options)
    named = options.config is not None or options.preset is not None
    only_in_store = mirror is not None and options.resume and not named and not mirror.directory.config_file.exists()
    config = None if only_in_store else chosen_config(options)  # a wrong one ends here, before a store is asked
    with copied(mirror, resume=options.resume, replace=options.replace_mirror):
        sentence = _trained(config or chosen_config(options), options, mirror)
    if PartialState().is_main_process:  # of several, each has the same to say
        print(sentence)


def _trained(config: RunConfig, options: argparse.Namespace, mirror: Mirror | None) -> str:
    """Train, and say how it went."""
    from cist_core.training import RunDirectory
    from cist_core.training.engine import train

    directory = Path(options.run_dir or Path("runs") / time.strftime("%Y%m%d-%H%M%S"))
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.levelno < logging.ERROR)  # how a run ended is said once, by the caller
    logging.basicConfig(handlers=[handler], level=logging.WARNING, format="%(message)s")
    where = directory if mirror is None else f"{directory} and {mirror.store.url}"
    if mirror is not None and options.resume and RunDirectory(directory).status().get("state") == "finished":
        return f"The run has finished; everything is in {where}"
    with _StopSignals() as stopped:
        status = train(config, directory, resume=options.resume, should_stop=stopped, mirror=mirror)
    return f"Test accuracy {status['test_accuracy']:.4f} after the last epoch; everything is in {where}"


class _StopSignals:
    """Whether Ctrl-C or SIGTERM has come; a second one ends the process at once."""

    def __init__(self) -> None:
        self._came = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Callable[[], bool]:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return lambda: self._came

    def _note(self, *_: object) -> None:
        self._came = True
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def chosen_config(options: argparse.Namespace) -> RunConfig:
    """The config of the file, the preset or the run to resume, with what the command line changes in it.

    Raises:
        CistError: if there is none of these, or a config or a change of it is wrong.
    """
    config = base_config(options)
    given: dict[str, Any] = {}
    for item in options.set:
        field, equals, text = item.partition("=")
        if not equals:
            raise CistError(f"Expected --set FIELD=VALUE, but got '{item}'.")
        if field.strip() in given:
            raise CistError(f"--set gives '{field.strip()}' twice; give it one value.")
        given[field.strip()] = _value(text.strip())
    changes = nested(given)
    if options.objective is not None:
        changes["objective"] = config.objective.fill_in(options.objective)
    if options.seed is not None:
        changes["seed"] = options.seed
    return config.changed(**changes) if changes else config


def base_config(options: argparse.Namespace) -> RunConfig:
    """The config of the file, the preset or the run to resume, as it stands there, but for the class map."""
    from cist_core.training import load_config, preset

    resume = getattr(options, "resume", False)
    if resume and options.run_dir is None:
        raise CistError("Expected --run-dir together with --resume: the directory of the run to go on with.")
    if options.config is not None:
        config = load_config(options.config)
    elif options.preset is not None:
        config = preset(options.preset)
    elif resume:
        config = _config_of_run(Path(options.run_dir))
    else:
        raise CistError(
            "Expected CONFIG.json or --preset NAME: what to train; or --run-dir DIR --resume to go on with a run."
        )
    if options.preset is None and not options.allow_code:
        config.refuse_code(str(options.config or options.run_dir))
    class_map = given_class_map(options)
    return config if class_map is None else config.changed(data={"class_map": class_map})


def _config_of_run(path: Path) -> RunConfig:
    from cist_core.training import RunDirectory

    directory = RunDirectory(path)
    if not directory.config_file.exists():
        what = "holds no config.json" if path.is_dir() else "does not exist"
        raise CistError(
            f"There is no run to resume in {path}: the folder {what}; start one there with "
            f"'cist distill CONFIG.json --run-dir {shlex.quote(str(path))}'."
        )
    return directory.config()


def _value(text: str) -> Any:
    """JSON where it is JSON (numbers, true, null, lists), else the text itself."""
    try:
        return parse_json(text)
    except ValueError:
        return text
