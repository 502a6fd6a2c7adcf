"""A bad night: everything at once for an hour, and at the end what was lost.

    python benchmarks/soak.py [--minutes 60] [--people 6] [--seed 0] [--output soak.json]

A fresh Studio listens on this machine alone, with its runs, its cache and what is added to it on a disk of its own (a
tmpfs, where one may be mounted). Meanwhile

- people come over WebSockets, move the sliders on all pages, and leave (`load.py`);
- somebody uploads logits, whole files and damaged ones;
- runs are queued, cancelled, resumed and deleted; processes that train, and the worker, are ended by SIGKILL;
- the clock of the Studio, the worker and the runs is set back by ten minutes and put right again;
- the disk is full for a while, again and again.

In the morning whatever did not finish is resumed. Then all of this must hold, or the script ends with code 1: no run is
missing or unfinished, runs of one seed have the same metrics whatever befell them, no page showed an error and no
process wrote a traceback while there was room on the disk, the memory of the server did not grow, its open files came
back, and no process is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load import PAGES, ROOT, Use, Visitor, live, machine, studio, visitor
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileURLs

from cist_core.errors import CistError
from cist_core.runs import RunState, RunStore
from cist_core.training import CLOCK_FIELDS, RunConfig, preset

RESULTS = Path(__file__).with_name("soak.json")
CLOCK = ROOT / "tests" / "runs" / "settable_clock"
CONFIG = preset("demo").changed(
    data={"validation_samples": 50},
    student={"architecture": "mlp_14x14"},
    objective="cist-authors",
    machine={"device": "cpu", "threads": 1, "checkpoint_every_steps": 5},
)
SEEDS = 3
MOST_WAITING = 3
KEPT_RUNS = 30
DISK_MIB = 384
AFTER_FULL = 20.0  # seconds in which what began on the full disk may still say so
MORNING = 900.0  # seconds without another run that has finished
GROWTH = (1.1, 16.0)  # memory is flat if it ends below so many times its beginning and so many MiB
JUDGED_FROM = 300.0  # seconds; a shorter night is not done warming caches


@dataclass
class Night:
    """What is done to the Studio, and what came of it.

    Attributes:
        folder: on the disk that gets full.
        options: of the command line.
        faults: what must not happen, in words.
        counts: of what was done and what was refused in words.
        full: when the disk was full, from and until, by `time.monotonic`.
        memory: seconds since the beginning, MiB of the server, MiB of the worker.
    """

    folder: Path
    options: argparse.Namespace
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    full: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, float, float]] = field(default_factory=list)
    store: RunStore = field(init=False)
    added: dict[str, int] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)
    _metrics: dict[int, list[dict[str, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "runs").mkdir()
        self.store = RunStore(self.folder / "runs")
        self.chance = random.Random(self.options.seed)
        self.began = time.monotonic()

    @property
    def until(self) -> float:
        return self.began + 60 * self.options.minutes

    def goes_on(self) -> bool:
        return time.monotonic() < self.until

    def was_full(self, moment: float | None = None) -> bool:
        """Whether the disk was full at a moment, or had just been."""
        at = time.monotonic() if moment is None else moment
        return any(start <= at <= end + AFTER_FULL for start, end in self.full)

    def fault(self, what: str) -> None:
        """Something that must not happen, unless the disk was full."""
        if self.was_full():
            self.counts["said while the disk was full"] += 1
        else:
            self.faults.append(f"{time.monotonic() - self.began:.0f} s: {what}")

    # ---- people ------------------------------------------------------------------------------------------------------

    async def crowd(self, address: str, number: int) -> None:
        """One person after another, each on one page for a while."""
        chance = random.Random(f"{self.options.seed}/{number}")
        while self.goes_on():
            with self._noting(f"a person on {address}"):
                async with visitor(address) as person:
                    await person.load(chance.choice([*PAGES, "runs"]))
                    if person.has_sliders:
                        seconds = min(chance.uniform(5, 30), max(1.0, self.until - time.monotonic()))
                        await live(person, chance.randrange(2**30), seconds, thought=1.0)
                    self.counts["people"] += 1
                    self.counts["moves"] += len(person.moves)
                    for error in person.errors:
                        self.fault(f"a page shows: {error}")
            await asyncio.sleep(1)

    async def uploads(self, address: str) -> None:
        """Logits, of which every third file is damaged: the page says so in a sentence."""
        while self.goes_on():
            damaged = self.counts["uploads"] % 3 == 2
            content = logits(self.chance.randrange(2**30))
            with self._noting("an upload"):
                async with visitor(address, kind=Guest) as guest:
                    await guest.load("add")
                    await guest.upload("logits.npz", content[: len(content) // 2] if damaged else content)
                    for _ in range(3):  # the page polls for what a child process makes of it
                        await asyncio.sleep(1)
                        await guest.look()
                    self.counts["uploads"] += 1
                    if damaged:
                        self.counts["damaged uploads, named on the page"] += bool(guest.errors)
                    else:
                        for error in guest.errors:
                            self.fault(f"after an upload, the page shows: {error}")
            await asyncio.sleep(min(15.0, 10 * self.options.minutes))

    @contextlib.contextmanager
    def _noting(self, who: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the others go on
            self.fault(f"{who}: {type(error).__name__}: {error}")

    # ---- runs --------------------------------------------------------------------------------------------------------

    async def runs(self, address: str) -> None:
        """Queue, kill, cancel, resume and delete."""
        deeds: list[tuple[Callable[[], object], int]] = [
            (self.kill_a_run, 4),
            (self.kill_the_worker, 2),
            (self.cancel_a_run, 2),
        ]
        while self.goes_on():
            await self._start_a_worker(address)
            for _ in range(MOST_WAITING - sum(run.state is RunState.QUEUED for run in self.store.list_runs())):
                self._try(self.add_a_run)
            self._try(self.resume_and_delete)
            await asyncio.sleep(self.chance.uniform(1, 5))
            (deed,) = self.chance.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])
            self._try(deed)

    async def _start_a_worker(self, address: str) -> None:
        """As the page Runs does whenever somebody looks."""
        with self._noting("the page Runs"):
            async with visitor(address) as person:
                await person.load("runs")
                for error in person.errors:
                    self.fault(f"the page Runs shows: {error}")

    def _try(self, deed: Callable[[], object]) -> None:
        try:
            deed()
        except CistError as error:
            self.counts["refused in a sentence"] += 1
            self.refusals[re.sub(r"\d{8}-\S+|/\S+", "...", str(error))] += 1
            if not re.search(
                r"already|is (queued|running|finished)|while it runs|Another process is training", str(error)
            ):
                self.fault(str(error))

    def add_a_run(self) -> None:
        seed = self.counts["runs"] % SEEDS
        run = self.store.add(self._config(seed), name=f"seed {seed}")
        self.added[run.id] = seed
        self.counts["runs"] += 1

    def _config(self, seed: int) -> RunConfig:
        return CONFIG.changed(seed=seed, epochs=self.options.epochs)

    def kill_a_run(self) -> None:
        for run in self.store.running():
            pid = run.directory.status().get("pid")
            if pid is not None and any(process.pid == pid for process in self.processes()):
                psutil.Process(pid).kill()
                self.counts["processes that trained, killed"] += 1

    def kill_the_worker(self) -> None:
        for process in self.workers():
            process.kill()
            self.counts["workers killed"] += 1

    def cancel_a_run(self) -> None:
        if running := self.store.running():
            self.store.cancel(running[0].id)
            self._cancelled.add(running[0].id)
            self.counts["runs cancelled"] += 1

    def resume_and_delete(self) -> None:
        """Whatever has ended: what finished is compared and, by and by, deleted."""
        finished = []
        for run in self.store.list_runs():
            if run.state is RunState.FINISHED:
                finished.append(run)
            elif run.state.ended:
                if run.state is RunState.FAILED and not self.was_full(time.monotonic() - 30):
                    self.fault(f"the run {run.id} failed: {run.reason}")
                self.store.resume(run.id)
                self.counts[f"resumed after {run.state}"] += 1
        for run in finished[KEPT_RUNS:]:
            self.compare(run.id)
            self.store.delete(run.id)
            del self.added[run.id]
            self.counts["runs deleted"] += 1

    def compare(self, run_id: str) -> None:
        """Runs of one seed end in the same metrics, whatever befell them."""
        rows = self.store.get(run_id).directory.metrics()
        found = [{name: value for name, value in row.items() if name not in CLOCK_FIELDS} for row in rows]
        if len(found) != self.options.epochs:
            self.faults.append(f"the run {run_id} has metrics of {len(found)} of {self.options.epochs} epochs")
        elif found != self._metrics.setdefault(self.added[run_id], found):
            self.faults.append(f"the run {run_id} has other metrics than another one of its seed")
        self.counts["finished runs compared"] += 1

    # ---- the machine -------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """All that belong to this Studio: they have its folder of runs in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("CIST_RUNS") == str(self.store.root)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if "worker" in process.cmdline():
                    found.append(process)
        return found

    async def clock(self, file: Path) -> None:
        """Back by ten minutes for a while, and right again."""
        while self.goes_on():
            for seconds in (0, -600):
                set_clock(file, seconds)
                self.counts["steps of the clock"] += 1
                await asyncio.sleep(min(40.0, 10 * self.options.minutes, max(0.0, self.until - time.monotonic())))
        set_clock(file, 0)

    async def disk(self, mounted: bool) -> None:
        """Full for a tenth of the time, every two minutes or once in a shorter night."""
        ballast = self.folder / "ballast"
        period = min(60 * self.options.minutes, 120.0)
        while mounted and time.monotonic() + period <= self.until + 1:
            await asyncio.sleep(0.6 * period)
            start = time.monotonic()
            self.full.append((start, float("inf")))
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            await asyncio.sleep(0.1 * period)
            ballast.unlink()
            self.full[-1] = (start, time.monotonic())
            self.counts["times that the disk was full"] += 1
            await asyncio.sleep(0.3 * period)

    async def watch(self, server: psutil.Process) -> None:
        while self.goes_on():
            workers = 0.0
            for worker in self.workers():
                with contextlib.suppress(psutil.Error):
                    workers += worker.memory_info().rss / 2**20
            self.memory.append((time.monotonic() - self.began, Use.of(server).rss, workers))
            await asyncio.sleep(min(5.0, self.options.minutes))

    # ---- morning -----------------------------------------------------------------------------------------------------

    async def morning(self, address: str) -> None:
        """Resume what has not finished, and wait for it as long as it gets on, which takes what the machine has."""
        finished, end = 0, time.monotonic() + MORNING
        while (states := {run.id: run.state for run in self.store.list_runs()}) and time.monotonic() < end:
            count = sum(state is RunState.FINISHED for state in states.values())
            if count == len(states):
                break
            if count > finished:
                finished, end = count, time.monotonic() + MORNING
            self._try(self.resume_and_delete)
            await self._start_a_worker(address)
            await asyncio.sleep(1)
        for run_id in self.added:
            if run_id not in states:
                self.faults.append(f"the run {run_id} is not in the table")
            elif states[run_id] is not RunState.FINISHED:
                self.faults.append(f"the run {run_id} is {states[run_id]}: {self.store.get(run_id).reason}")
            else:
                self.compare(run_id)
        folders = {path.name for path in self.store.root.iterdir() if path.is_dir()}
        if folders != set(self.added):
            self.faults.append(f"directories without a run: {sorted(folders - set(self.added))}")

    async def orphans(self) -> list[str]:
        """What lives after the Studio has ended and the worker, which leaves by itself, had the time to."""
        if not self.options.linger:
            for worker in self.workers():
                worker.terminate()
        end = time.monotonic() + 120
        while (left := self.processes()) and time.monotonic() < end:
            await asyncio.sleep(1)
        said = [f"{process.pid} {' '.join(process.cmdline())}" for process in left]
        for process in left:
            process.kill()
        return said

    def growth(self) -> dict[str, Any]:
        """Memory in the second fifth of the night and in the last."""
        length = self.memory[-1][0]

        def median(low: float, high: float, which: int) -> float:
            return statistics.median(row[which] for row in self.memory if low * length <= row[0] <= high * length)

        early, late = median(0.2, 0.4, 1), median(0.8, 1.0, 1)
        judged = length >= JUDGED_FROM
        if judged and late > GROWTH[0] * early + GROWTH[1]:
            self.faults.append(f"the server's memory grew from {early:.0f} to {late:.0f} MiB")
        return {
            "server_second_fifth": round(early),
            "server_last_fifth": round(late),
            "server_most": round(max(row[1] for row in self.memory)),
            "worker_second_fifth": round(median(0.2, 0.4, 2)),
            "worker_last_fifth": round(median(0.8, 1.0, 2)),
            "judged": judged,
        }


@dataclass
class Guest(Visitor):
    """A visitor who uploads files."""

    session: str = ""
    _uploader: str = ""
    _urls: FileURLs | None = None

    async def look(self) -> None:
        """Have the page drawn again; what it says now counts."""
        self.errors.clear()
        await self._ask()
        await self.wait()

    async def upload(self, name: str, content: bytes) -> None:
        """Send a file to the first uploader of the page, as a browser does."""
        message = BackMsg()
        message.file_urls_request.request_id = "1"
        message.file_urls_request.file_names.append(name)
        message.file_urls_request.session_id = self.session
        await self.socket.send(message.SerializeToString())
        async with asyncio.timeout(60):
            while self._urls is None:
                self._take(await self.socket.recv(decode=False))
        await asyncio.to_thread(put, f"{self.url}{self._urls.upload_url}", self.url, name, content)
        told = {"name": name, "size": len(content), "file_id": self._urls.file_id, "file_urls": self._urls}
        self._values[self._uploader] = {"file_uploader_state_value": {"uploaded_file_info": [told]}}
        await self._ask()
        del self._values[self._uploader]
        await self.wait()

    def _take(self, payload: bytes) -> bool:
        ended = super()._take(payload)
        message = self._last
        if message.WhichOneof("type") == "new_session":
            self.session = message.new_session.initialize.session_id
        elif message.WhichOneof("type") == "file_urls_response":
            self._urls = message.file_urls_response.file_urls[0]
        return ended

    def _see(self, element: Any) -> None:
        super()._see(element)
        if element.WhichOneof("type") == "file_uploader" and not self._uploader:
            self._uploader = element.file_uploader.id


def put(url: str, address: str, name: str, content: bytes) -> None:
    """Send a file to the server, with the cookie that it gives to browsers."""
    with urllib.request.urlopen(f"{address}/_stcore/health", timeout=30) as answer:
        (token,) = re.findall(r"_streamlit_xsrf=([^;]+)", answer.headers.get("Set-Cookie", ""))
    line = "soak-line"
    head = f'--{line}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    headers = {
        "Content-Type": f"multipart/form-data; boundary={line}",
        "Cookie": f"_streamlit_xsrf={token}",
        "X-Xsrftoken": token,
    }
    body = head.encode() + content + f"\r\n--{line}--\r\n".encode()
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PUT"), timeout=60).close()


def logits(seed: int, samples: int = 300, classes: int = 10) -> bytes:
    """A file of logits with labels."""
    chance = np.random.default_rng(seed)
    values = chance.normal(size=(samples, classes)) * chance.gamma(3.0, 1.0, (samples, 1))
    file = io.BytesIO()
    np.savez(file, logits=values.astype(np.float32), labels=chance.integers(classes, size=samples))
    return file.getvalue()


def set_clock(file: Path, seconds: float) -> None:
    half = file.with_suffix(".partial")
    half.write_text(str(seconds))
    half.replace(file)


@contextlib.contextmanager
def disk_of_its_own(path: Path) -> Iterator[bool]:
    """A folder that can get full without anything else noticing; false where no file system may be mounted."""
    path.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "cist-soak", str(path)]
    mounted = mount is not None and not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


async def spend(night: Night, address: str, server: psutil.Process, clock: Path, *, mounted: bool) -> dict[str, Any]:
    async with visitor(address) as first:
        await first.load()
    before = Use.of(server)
    night.began = time.monotonic()
    await asyncio.gather(
        *(night.crowd(address, number) for number in range(night.options.people)),
        night.uploads(address),
        night.runs(address),
        night.clock(clock),
        night.disk(mounted),
        night.watch(server),
    )
    await night.morning(address)
    if night.options.linger:
        await asyncio.sleep(60)  # the server forgets who has left
    after = Use.of(server)
    if night.options.linger and after.handles > before.handles + 8:
        night.faults.append(f"the server had {before.handles} files open before and has {after.handles} after")
    return {"open_files": {"before": before.handles, "after": after.handles}, "memory_mib": night.growth()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of the night (default: %(default)s)")
    parser.add_argument("--people", type=int, default=6, help="at once (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="of a run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what happens when (default: %(default)s)")
    parser.add_argument("--no-linger", dest="linger", action="store_false", help="do not wait until all have gone")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not (0 < options.minutes <= 24 * 60 and 1 <= options.people <= 100 and 1 <= options.epochs <= 1000):
        parser.error("expected up to a day, 1 to 100 people and 1 to 1,000 epochs")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left then either
    with tempfile.TemporaryDirectory() as name, disk_of_its_own(Path(name) / "disk") as mounted:
        folder = Path(name)
        clock = folder / "moved"
        set_clock(clock, 0)
        night = Night(folder / "disk", options)
        environment = {f"CIST_{each.upper()}": str(night.folder / each) for each in ("runs", "cache", "added")}
        environment |= {"PYTHONPATH": os.pathsep.join([str(CLOCK), str(ROOT)]), "CIST_TEST_CLOCK": str(clock)}
        try:
            with studio(folder, **environment) as (address, server):
                measured = asyncio.run(spend(night, address, server, clock, mounted=mounted))
        finally:
            orphans = asyncio.run(night.orphans())
        night.faults += [f"still lives: {one}" for one in orphans]
        for log in (folder / "log.txt", night.store.root / "worker.log"):
            text = log.read_text() if log.exists() else ""
            if "Traceback" in text:
                night.faults.append(f"{log.name}: {text[text.index('Traceback') :][-1500:]}")
    row = {
        "minutes": options.minutes,
        "people": options.people,
        "machine": machine(),
        "disk": f"full {len(night.full)} times" if mounted else "not filled: no file system may be mounted here",
        "done": dict(sorted(night.counts.items())),
        **measured,
        "refused": dict(night.refusals),
        "faults": night.faults,
    }
    print(json.dumps(row, indent=2))
    options.output.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    return 1 if night.faults else 0


if __name__ == "__main__":
    sys.exit(main())
