"""One run on several workers of Ray: what the job of such a run does.

    python -m cist_core.runs.ray_workers CONFIG.json --run-dir DIR [--resume] --workers 2 --resources '{"CPU": 1}'

Ray Train places the workers, on one node or several, and joins their processes; the engine then does what it does under
``accelerate launch``: each process has its share of every batch, and the first one writes the run directory, which all
nodes see, and its copy in a store. The job itself trains nothing. A worker that dies or fails ends its group, so that
no other waits for it, and Ray Train starts another one, which resumes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cist_core.errors import Cancelled, first_line
from cist_core.training.run_directory import RunDirectory

_FAILURES = 3
_TIMEOUT_SECONDS = 6 * 3600
_CODES = {"finished": 0, "cancelled": 130}


def main(arguments: list[str] | None = None) -> int:
    """Train, and return the exit code of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--resources", type=json.loads, required=True, help="of each, by Ray's names, as JSON")
    parser.add_argument("--mirror", metavar="URL", help="of the copy in a store; one of an earlier attempt is replaced")
    parser.add_argument("--no-code", action="store_true", help="run no code that the config names")
    options = parser.parse_args(arguments)
    directory = RunDirectory(options.run_dir)
    if not options.resume and any(directory.checkpoints.glob("*.pt")):
        print(f"cist: There is a run in {directory.path} already; resume it, or choose another one.", file=sys.stderr)
        return 2
    no_copy = _no_copy_file(directory)
    no_copy.unlink(missing_ok=True)
    failure = _train(options)
    status = directory.status()
    code, reason = _CODES.get(str(status.get("state")), 2), None
    if no_copy.exists():
        code, reason = 2, no_copy.read_text(encoding="utf-8")
    elif status.get("state") == "failed":
        reason = status.get("reason")
    if code == 2:
        print(f"cist: {reason or failure or 'The workers have ended and left no word.'}", file=sys.stderr)
    return code


def _no_copy_file(directory: RunDirectory) -> Path:
    """Where the first worker says why the run has no copy, which is no part of its status."""
    return directory.path / "ray" / "no-copy.txt"


def _train(options: argparse.Namespace) -> str | None:
    """What Ray Train says if the workers failed as often as they may; None if they ended well."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    ray.init()
    # The workers, which no signal reaches, look for the file before each step. Ray's start sets a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: RunDirectory(options.run_dir).cancel_file.touch())
    trainer = TorchTrainer(
        _work,
        train_loop_config={
            "config": str(options.config),
            "run_dir": str(options.run_dir),
            "resume": options.resume,
            "mirror": options.mirror,
            "no_code": options.no_code,
        },
        scaling_config=ScalingConfig(
            num_workers=options.workers,
            use_gpu=options.resources.get("GPU", 0) > 0,
            resources_per_worker={name: amount for name, amount in options.resources.items() if amount},
        ),
        # For so long others wait for the first one, which may have to fetch the run.
        torch_config=TorchConfig(timeout_s=_TIMEOUT_SECONDS),
        run_config=RunConfig(
            name=options.run_dir.name,
            storage_path=str(options.run_dir.resolve() / "ray"),
            failure_config=FailureConfig(max_failures=_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return first_line(error)
    finally:
        ray.shutdown()  # what workers have written comes no more, so that the last line of our errors is the reason
    return None


def _work(given: dict[str, Any]) -> None:
    """What each worker does."""
    from torch import distributed

    from cist_core.training.config import load_config
    from cist_core.training.engine import train
    from cist_core.training.mirror.mirror import CopyFailed, Mirror, copied
    from cist_core.zoo.kinds.code import NO_CODE

    if given["no_code"]:
        os.environ[NO_CODE] = "1"

    directory = RunDirectory(given["run_dir"])
    no_copy = _no_copy_file(directory)
    if no_copy.exists():
        return  # what ended the group before would end this one as well
    first = distributed.get_rank() == 0
    mirror = Mirror(given["mirror"], directory) if first and given["mirror"] is not None else None
    # A group that Ray Train has started again goes on where there is a checkpoint.
    resume = given["resume"] or any(directory.checkpoints.glob("*.pt"))
    try:
        with contextlib.suppress(Cancelled), copied(mirror, resume=resume, replace=True):
            finished = [directory.status().get("state") == "finished"]  # then its copy was not complete
            distributed.broadcast_object_list(finished)  # the others wait here until the run is fetched
            if not finished[0]:
                train(load_config(given["config"]), given["run_dir"], resume=True, mirror=mirror)
    except CopyFailed as error:
        no_copy.parent.mkdir(parents=True, exist_ok=True)
        no_copy.write_text(str(error), encoding="utf-8")
        raise


if __name__ == "__main__":
    sys.exit(main())
