"""Times what it takes to look at logits that are read from the disk, as large as a training set of ImageNet's.

    python benchmarks/streaming.py [--size 1280000x1000] [--output benchmarks/streaming.json] [--folder /some/disk]

Makes a float16 `.safetensors` file in a temporary folder, and looks at it twice, each time in a process of its own and
with one cache folder: the second finds what the first has left there. A row goes into the output for each look, and one
for openings from the disk: three processes that know nothing of the file, each after the system was told to forget its
pages, as before each bare read there.

- bare read: the file's bytes through a buffer of 16 MiB; the median of three.
- opening: `LogitSet.load` and the fingerprint. But for the third row in the pages that the system holds: the file has
  just been written.
- first pass: `EntropyCurves.from_logits`, the statistics of every row.
- table: `EntropyCurves.tabulated`, the curves at 183 ratios.
- matched pair: the rho of tau 4.
- slider move: a fixed temperature and CIST with their profiles, another one each time; the median of five.

Processor seconds of the process, all threads, stand beside the wall seconds, which count what others do on the machine
as well. Memory is the largest seen that is no page of a file (``RssAnon``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray
from repeated import Times, figures, in_turn, times_of

SIZE = "1280000x1000"
ROWS_AT_ONCE = 20_000
READS, MOVES = 3, 5
_BUFFER = 16 << 20


def logit_blocks(samples: int, classes: int) -> Iterator[NDArray[np.float16]]:
    """Rows as `bench.realistic_logits` makes them, a block at a time, each with its classes in another order."""
    from bench import realistic_logits

    block = realistic_logits(ROWS_AT_ONCE, classes).astype(np.float16)
    for start in range(0, samples, ROWS_AT_ONCE):
        yield np.roll(block, start // ROWS_AT_ONCE, axis=1)[: samples - start]


def write_logits(path: Path, samples: int, classes: int) -> None:
    """Those of `logit_blocks`, with labels."""
    from cist_core.logits.logit_set import safetensors_header

    tensors = [("labels", np.dtype(np.int64), (samples,)), ("logits", np.dtype(np.float16), (samples, classes))]
    with path.open("wb") as stream:
        stream.write(safetensors_header({}, tensors))
        stream.write(np.random.default_rng(2).integers(0, classes, samples).tobytes())
        for block in logit_blocks(samples, classes):
            stream.write(block.tobytes())


class Memory:
    """The largest memory of this process that is no page of a file, while the block runs."""

    def __enter__(self) -> Memory:
        self.largest = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.largest = max(self.largest, int(line.split()[1]) << 10)


def timed(function: Callable[[], Any], times: int = 1) -> tuple[dict[str, Any], Any]:
    """What a call takes (`repeated.figures`; without a spread if it is called once), and its last result."""
    results: list[Any] = []
    taken = in_turn({"it": lambda: results.append(function())}, times)
    return figures(taken["it"]), results[-1]


def bare_read(path: Path) -> int:
    buffer, total = bytearray(_BUFFER), 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            total += count
    return total


def forget_pages(path: Path) -> None:
    """The system holds none of the file any more, so that the next who reads it reads the disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())  # pages that are not written yet would stay
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def open_from_disk(path: Path) -> dict[str, Any]:
    """One process's bare read and opening, each from the disk."""
    from cist_core.logits.logit_set import LogitSet

    forget_pages(path)
    read, size = timed(lambda: bare_read(path))
    forget_pages(path)
    with Memory() as memory:
        opened, _ = timed(lambda: LogitSet.load(path).fingerprint)
    return {"bytes": size, "memory_bytes": memory.largest, "steps": {"bare read": read, "opening": opened}}


def of_several(looks: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the same look of several processes."""
    steps: dict[str, Any] = {}
    for name in looks[0]["steps"]:
        taken = [one["steps"][name] for one in looks]
        steps[name] = figures(Times(*([what[key] for what in taken] for key in ("seconds", "processor_seconds"))))
        reads = [one["steps"]["bare read"]["seconds"] for one in looks]
        steps[name]["bare_reads"] = times_of([what["seconds"] for what in taken], reads)["median"]
    return {**looks[0], "memory_bytes": max(one["memory_bytes"] for one in looks), "steps": steps}


def look(path: Path) -> dict[str, Any]:
    """One process's look at the file."""
    from cist_core.compare.matching import matched_pair
    from cist_core.entropy.curves import EntropyCurves
    from cist_core.logits.logit_set import LogitSet
    from cist_core.temperature import Cist, Fixed
    from cist_core.temperature.readings import read_rule

    small = LogitSet.create(np.eye(4, dtype=np.float16))
    with tempfile.TemporaryDirectory() as folder:
        small.save(Path(folder) / "small.safetensors")
        small = LogitSet.load(Path(folder) / "small.safetensors")
    matched_pair(EntropyCurves.from_logits(small), tau=4.0)  # imports and compiles
    EntropyCurves.from_chunks([small.logits]).at_ratio(np.full(4, 2.0))

    def open_file() -> LogitSet:
        logit_set = LogitSet.load(path)
        assert len(logit_set.fingerprint) == 64
        return logit_set

    taus = iter(np.linspace(3.0, 5.0, MOVES).tolist())

    def move() -> None:
        tau = next(taus)
        read_rule(Fixed(tau), curves), read_rule(Cist(tau), curves)

    found: dict[str, Any] = {}
    found["bare read"], size = timed(lambda: bare_read(path), READS)
    with Memory() as memory:
        found["opening"], logit_set = timed(open_file)
        found["first pass"], _ = timed(lambda: EntropyCurves.from_logits(logit_set))
        found["table"], curves = timed(lambda: EntropyCurves.tabulated(logit_set))
        found["matched pair"], pair = timed(lambda: matched_pair(curves, tau=4.0))
        found["slider move"], _ = timed(move, MOVES)
    for what in found.values():
        what["bare_reads"] = what["seconds"] / found["bare read"]["seconds"]
    return {"bytes": size, "rho": pair.rho, "memory_bytes": memory.largest, "steps": found}


def in_a_process(what: str, path: Path, cache: Path) -> dict[str, Any]:
    environment = os.environ | {"CIST_CACHE": str(cache)}
    command = [sys.executable, __file__, what, str(path)]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    )
    return found


def print_look(row: dict[str, Any]) -> None:
    pair = f", rho {row['rho']:.5f}" if "rho" in row else ""
    print(f"{row['size']}, {row['look']}: {row['memory_bytes'] / 2**20:,.0f} MiB that are no file's{pair}")
    for name, what in row["steps"].items():
        figures = (
            f"{what['seconds']:8.3f} s {what['processor_seconds']:8.3f} processor s {what['bare_reads']:7.2f} reads"
        )
        print(f"  {name:14}{figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time looking at logits that are read from the disk.")
    parser.add_argument("--size", default=SIZE, metavar="SAMPLESxCLASSES")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("streaming.json"), help="JSON to add to"
    )
    parser.add_argument("--folder", type=Path, help="where the file is made; else the system's temporary folder")
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)  # what the processes are started with
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)  # likewise
    arguments = parser.parse_args()
    if arguments.look is not None or arguments.open is not None:
        print(json.dumps(look(arguments.look) if arguments.open is None else open_from_disk(arguments.open)))
        return
    samples, classes = (int(part) for part in arguments.size.split("x"))
    rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "logits.safetensors"
        write_logits(path, samples, classes)
        looked = {
            name: [in_a_process("--look", path, Path(folder) / "cache")] for name in ("first look", "second look")
        }
        if hasattr(os, "posix_fadvise"):  # on Linux
            looked["from the disk"] = [
                in_a_process("--open", path, Path(folder) / f"cache-{turn}") for turn in range(READS)
            ]
        for name, looks in looked.items():
            found = looks[0] if len(looks) == 1 else of_several(looks)
            rows.append({"size": arguments.size, "look": name, "machine": machine("numpy", "numba"), **found})
            print_look(rows[-1])
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
