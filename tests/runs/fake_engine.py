"""A stand-in for `python -m cist_core distill`: it keeps the contract of a run directory, and trains nothing.

``fake_engine.py BEHAVIOUR[,BEHAVIOUR...] DIR/config.json --run-dir DIR [--resume]``: the seed in the config picks the
behaviour. It imports nothing heavy, so that a test may start many.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

FINISHED, FAILED, STOPPED = 0, 2, 130


class Engine:
    def __init__(self, directory: Path, *, resume: bool) -> None:
        self.directory = directory
        self.checkpoint = directory / "checkpoints" / "step.txt"
        self.step = int(self.checkpoint.read_text()) if resume and self.checkpoint.exists() else 0
        self.first_step = self.step
        self.terminated = False

    def say(self, state: str, reason: str | None = None, **more: object) -> None:
        status = {
            "state": state,
            "step": self.step,
            "first_step": self.first_step,
            "pid": os.getpid(),
            "updated_at": time.time(),
            "reason": reason,
            **more,
        }
        partial = self.directory / ".status.partial"
        partial.write_text(json.dumps(status))
        partial.replace(self.directory / "status.json")

    def train(self, steps: float, *, hears_file: bool, hears_signal: bool, grows: bool = False) -> int:
        signal.signal(signal.SIGTERM, self._terminate if hears_signal else signal.SIG_IGN)
        while self.step < steps and not (self.directory / "finish").exists():
            if (hears_file and (self.directory / "cancel").exists()) or self.terminated:
                self.checkpoint.parent.mkdir(exist_ok=True)
                self.checkpoint.write_text(str(self.step))
                self.say("cancelled", "It was stopped by SIGTERM." if self.terminated else "It was cancelled.")
                return STOPPED
            if grows:
                with (self.directory / "growth").open("ab") as file:
                    file.write(bytes(4096))
            self.step += 1
            self.say("running")
            time.sleep(0.01)
        self.say("finished", test_accuracy=0.9, last_val_accuracy=0.8)
        return FINISHED

    def _terminate(self, *_: object) -> None:
        self.terminated = True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviours")
    parser.add_argument("config", type=Path)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    behaviours = options.behaviours.split(",")
    behaviour = behaviours[json.loads(options.config.read_text())["seed"] % len(behaviours)]
    with (options.run_dir.parent / "starts.txt").open("a") as starts:
        starts.write(options.run_dir.name + "\n")
    engine = Engine(options.run_dir, resume=options.resume)
    print("2026-11-24 a line of the log", file=sys.stderr, flush=True)
    match behaviour:
        case "finish":
            return engine.train(5, hears_file=True, hears_signal=True)
        case "train":
            return engine.train(float("inf"), hears_file=True, hears_signal=True)
        case "deaf":  # to the file, as in one long computation
            return engine.train(float("inf"), hears_file=False, hears_signal=True)
        case "stubborn":
            return engine.train(float("inf"), hears_file=False, hears_signal=False)
        case "grow":
            return engine.train(float("inf"), hears_file=True, hears_signal=True, grows=True)
        case "fail":
            engine.say("failed", "The loss is not a number at step 3; lower the learning rate.")
            return FAILED
        case "crash":
            raise MemoryError("no memory for 3 TB")
        case "silent":  # as while it imports
            time.sleep(600)
        case "mute":
            return FINISHED
        case "fill":
            try:
                engine.train(float("inf"), hears_file=True, hears_signal=True, grows=True)
            except OSError as error:
                print(f"cist: The metrics cannot be written ({error.strerror}).", file=sys.stderr)
            return FAILED
    raise ValueError(behaviour)


if __name__ == "__main__":
    sys.exit(main())
