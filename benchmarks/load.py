"""Many people at once: what a move of a slider costs the server, and what it gives back when they have left.

    python benchmarks/load.py [--sessions 50] [--seconds 60] [--page overview] [--thought 1] [--samples 0] [--crowds 1]
                              [--servers 1]

A fresh Studio listens on this machine alone. Sessions are opened on it as browsers open them, over WebSockets and in
Streamlit's own messages. Each moves tau by the sliders' component, waits until the script is done, thinks, and moves
again; all of them are connected before the first move counts, and leave together. Several crowds come one after the
other: what the first one warms stays, and what grows from crowd to crowd would be lost for good. Several servers share
their folders, and each session stays with one, as behind a proxy with sticky sessions; what a proxy costs is not in it.
Figures are those of the last crowd and go to `load.json`, a row a setting: processor seconds are those of the servers,
whatever else the machine does; times are not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from google.protobuf.message import Message
from machine import machine
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("load.json")
PAGES = ("overview", "entropy", "ratio", "weights", "samples", "rho")
MOST_SESSIONS, MOST_CROWDS, MOST_SECONDS, MOST_SERVERS = 500, 500, 600, 16
LONGEST_RUN = 120.0  # seconds; a session that waits longer for an answer has failed
GONE_SECONDS = (1, 10, 30, 60)
SLIDERS = "cist_sliders"
TAUS = (0.5, 8.0)


@dataclass
class Visitor:
    """One session, as a browser would hold it.

    Attributes:
        socket: to the server.
        url: that the browser would show.
        errors: exceptions and red boxes on the page, in its words.
        components: names of those of our own that the server has shown since the page was opened.
        moves: seconds from each move to the end of the script.
    """

    socket: ClientConnection
    url: str
    query: str = ""
    errors: list[str] = field(default_factory=list)
    components: set[str] = field(default_factory=set)
    moves: list[float] = field(default_factory=list)
    received: int = 0
    _page: str = ""
    _sliders: str = ""
    _values: dict[str, dict[str, Any]] = field(default_factory=dict)
    _kept: dict[str, ForwardMsg] = field(default_factory=dict)
    _last: ForwardMsg = field(default_factory=ForwardMsg)

    async def load(self, page: str = "overview") -> None:
        """Open a page, by its name in the address."""
        self.components.clear()
        await self._ask(page=page)
        await self.wait()

    @property
    def has_sliders(self) -> bool:
        """Whether the page that is open has the two sliders."""
        return bool(self._sliders)

    async def move(self, slider: str, value: float) -> None:
        """Let a slider come to rest at a value, and wait for the end of the script."""
        start = time.perf_counter()
        await self.tell(slider, value)
        await self.wait()
        self.moves.append(time.perf_counter() - start)

    async def tell(self, slider: str, value: float) -> None:
        """Let a slider come to rest at a value, and do not wait."""
        told = {"event": "rest", "value": {"slider": slider, "value": value, "at": time.time()}}
        await self._ask(trigger=json.dumps([told]))

    def value_of(self, key: str) -> float:
        """Where the server has put a slider, ``tau`` or ``rho``."""
        (value,) = (value for name, value in self._values.items() if name.endswith(f"-{key}"))
        return float(value["double_array_value"]["data"][0])

    async def _ask(self, *, page: str = "", trigger: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string = self.query
        state.page_script_hash, state.page_name = self._page, page
        state.context_info.url, state.context_info.color_scheme = self.url, "light"
        state.cached_message_hashes.extend(self._kept)
        for name, value in self._values.items():
            state.widget_states.widgets.add(id=name, **value)
        if trigger:
            state.widget_states.widgets.add(
                id=f"$$STREAMLIT_INTERNAL_KEY_{self._sliders}__events", json_trigger_value=trigger
            )
        await self.socket.send(message.SerializeToString())

    async def wait(self) -> None:
        """For the end of a run that went through."""
        async with asyncio.timeout(LONGEST_RUN):
            while not self._take(await self.socket.recv(decode=False)):
                pass

    def _take(self, payload: bytes) -> bool:
        """Whether this message of the server ends a run that went through."""
        self.received += len(payload)
        message = ForwardMsg.FromString(payload)
        if message.WhichOneof("type") == "ref_hash":
            message = self._kept[message.ref_hash]
        elif message.metadata.cacheable:
            self._kept[message.hash] = message
        self._last = message
        match message.WhichOneof("type"):
            case "navigation":
                self._page = message.navigation.page_script_hash
            case "delta" if message.delta.WhichOneof("type") == "new_element":
                self._see(message.delta.new_element)
            case "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    self.errors.append("The app does not compile.")
                return message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
        return False

    def _see(self, element: Any) -> None:
        """Hold the values of the simpler widgets, which a browser sends along with every move; the server keeps the
        others.
        """
        match element.WhichOneof("type"):
            case "exception":
                self.errors.append(f"{element.exception.type}: {element.exception.message}")
            case "alert" if element.alert.format == element.alert.ERROR:
                self.errors.append(element.alert.body)
            case "bidi_component":
                self.components.add(element.bidi_component.component_name.rpartition(".")[2])
                self._values[element.bidi_component.id] = {"json_value": "{}"}
                if element.bidi_component.component_name.endswith(SLIDERS):
                    self._sliders = element.bidi_component.id
            case "slider":
                self._hold(element.slider, "double_array_value", lambda values: {"data": list(values)})
            case "number_input":
                self._hold(element.number_input, "double_value", float)
            case "checkbox":
                self._hold(element.checkbox, "bool_value", bool)
            case "text_input":
                self._hold(element.text_input, "string_value", str)

    def _hold(self, widget: Message, field_name: str, convert: Any) -> None:
        widget: Any = widget
        if widget.set_value or widget.id not in self._values:
            self._values[widget.id] = {field_name: convert(widget.value if widget.set_value else widget.default)}


Person = TypeVar("Person", bound=Visitor)


@asynccontextmanager
async def visitor(
    address: str,
    *,
    query: str = "",
    kind: type[Person] = Visitor,  # type: ignore[assignment]
    **connection: Any,
) -> AsyncIterator[Person]:
    """A session with a Studio that listens at an address such as ``http://127.0.0.1:8501``.

    Further arguments are those of `websockets.asyncio.client.connect`.
    """
    stream = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
    async with connect(
        stream,
        subprotocols=["streamlit"],  # type: ignore[list-item]
        max_size=None,
        compression=None,
        open_timeout=60,
        ping_interval=None,  # a browser sends none
        **connection,
    ) as socket:
        yield kind(socket, address, query)


async def live(person: Visitor, seed: int, seconds: float, thought: float) -> None:
    """Think, move tau, and so on for some seconds."""
    chance, until = random.Random(seed), time.monotonic() + seconds
    await asyncio.sleep(chance.uniform(0, thought))
    while time.monotonic() < until:
        low, high = TAUS
        await person.move("tau", round(low * (high / low) ** chance.random(), 3))
        await asyncio.sleep(thought)


@dataclass
class Use:
    """What the servers take of the machine, all together."""

    cpu: float
    rss: float
    uss: float
    handles: int
    threads: int

    @classmethod
    def of(cls, *servers: psutil.Process) -> Use:
        times = [server.cpu_times() for server in servers]
        memory = [server.memory_full_info() for server in servers]
        return cls(
            sum(each.user + each.system for each in times),
            sum(each.rss for each in memory) / 2**20,
            sum(each.uss for each in memory) / 2**20,
            sum(server.num_fds() for server in servers),
            sum(server.num_threads() for server in servers),
        )


@dataclass
class Crowd:
    """What one crowd saw, and what the server took for it."""

    people: list[Visitor]
    failed: list[str]
    loaded_seconds: float
    wall: float
    received: int
    loaded: Use
    moved: Use


async def come_and_leave(servers: Mapping[str, psutil.Process], options: argparse.Namespace) -> Crowd:
    """All sessions of a crowd, from the first that comes to the moment when all have left."""
    async with AsyncExitStack() as stack:
        addresses = itertools.islice(itertools.cycle(servers), options.sessions)
        people = [await stack.enter_async_context(visitor(address)) for address in addresses]
        start = time.perf_counter()
        await asyncio.gather(*(person.load(options.page) for person in people))
        loaded_seconds = time.perf_counter() - start
        loaded = Use.of(*servers.values())
        bytes_before = sum(person.received for person in people)
        start = time.perf_counter()
        lives = [live(person, seed, options.seconds, options.thought) for seed, person in enumerate(people)]
        ended = await asyncio.gather(*lives, return_exceptions=True)
        wall = time.perf_counter() - start
        moved = Use.of(*servers.values())
    failed = [f"{type(end).__name__}: {end}" for end in ended if end is not None]
    failed += [error for person in people for error in person.errors]
    received = sum(person.received for person in people) - bytes_before
    return Crowd(people, failed, loaded_seconds, wall, received, loaded, moved)


async def measure(servers: Mapping[str, psutil.Process], options: argparse.Namespace) -> dict[str, Any]:
    """All crowds, from the first session that comes to a minute after the last has left; servers by their addresses."""
    for address in servers:
        async with visitor(address) as first:
            await first.load(options.page)  # the server imports its libraries, and reads the sliders' grid
    alone = Use.of(*servers.values())
    failed: list[str] = []
    earlier: list[int] = []
    for _ in range(options.crowds - 1):
        crowd = await come_and_leave(servers, options)
        failed += crowd.failed
        await asyncio.sleep(options.pause)
        earlier.append(round(Use.of(*servers.values()).rss))
    before = Use.of(*servers.values())
    crowd = await come_and_leave(servers, options)
    failed += crowd.failed
    loaded, moved, wall = crowd.loaded, crowd.moved, crowd.wall
    moves = sorted(move for person in crowd.people for move in person.moves)
    after, waited = {}, 0.0
    for seconds in GONE_SECONDS if options.linger else ():
        await asyncio.sleep(seconds - waited)
        waited = seconds
        after[str(seconds)] = Use.of(*servers.values())
    return {
        "moves": len(moves),
        "errors": failed,
        "moves_per_second": round(len(moves) / wall, 2),
        "move_s": {
            "p50": round(statistics.median(moves), 3),
            "p95": round(float(np.quantile(moves, 0.95)), 3),
            "max": round(moves[-1], 3),
        },
        "cpu_s_per_move": round((moved.cpu - loaded.cpu) / len(moves), 4),
        "server_cores_busy": round((moved.cpu - loaded.cpu) / wall, 2),
        "kib_per_move": round(crowd.received / len(moves) / 1024, 1),
        "all_pages_loaded_s": round(crowd.loaded_seconds, 2),
        "cpu_s_per_first_page": round((loaded.cpu - before.cpu) / options.sessions, 3),
        "memory_mib": {
            "before": _memory(alone),
            "rss_after_earlier_crowds": earlier,
            "loaded": _memory(loaded),
            "after_moves": _memory(moved),
            "uss_per_session": round((moved.uss - alone.uss) / options.sessions, 2),
            "seconds_after_leaving": {seconds: _memory(use) for seconds, use in after.items()},
        },
        "handles": {
            "before": alone.handles,
            "all_connected": moved.handles,
            "per_session": round((moved.handles - alone.handles) / options.sessions, 2),
            "seconds_after_leaving": {seconds: use.handles for seconds, use in after.items()},
        },
        "threads": {"before": alone.threads, "all_connected": moved.threads},
    }


def _memory(use: Use) -> dict[str, float]:
    return {"rss": round(use.rss), "uss": round(use.uss)}


@contextmanager
def studio(folder: Path, *streamlit: str, **environment: str) -> Iterator[tuple[str, psutil.Process]]:
    """A fresh Studio on this machine alone, which keeps what it writes in a folder: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "streamlit", "run", "app/server.py",
        f"--server.port={port}", "--server.address=127.0.0.1", *streamlit,
    ]  # fmt: skip
    own = {f"CIST_{name.upper()}": str(folder / name) for name in ("runs", "cache", "added")}
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | own | environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=50, help="people at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="that they move sliders for (default: %(default)s)")
    parser.add_argument("--thought", type=float, default=1.0, help="seconds between moves (default: %(default)s)")
    parser.add_argument("--page", choices=PAGES, default="overview")
    parser.add_argument("--samples", type=int, default=0, help="of synthetic logits of 100 classes; 0: what ships")
    parser.add_argument("--crowds", type=int, default=1, help="that come one after the other (default: %(default)s)")
    parser.add_argument("--servers", type=int, default=1, help="processes that share them (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=60, help="seconds between crowds (default: %(default)s)")
    parser.add_argument("--no-linger", dest="linger", action="store_false", help="do not wait a minute at the end")
    parser.add_argument("--label", default="", help="of the row in the file, such as 'before'")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not (1 <= options.sessions <= MOST_SESSIONS and 0 < options.seconds <= MOST_SECONDS):
        parser.error(f"expected 1 to {MOST_SESSIONS} sessions and up to {MOST_SECONDS} seconds")
    if not 1 <= options.servers <= MOST_SERVERS:
        parser.error(f"expected 1 to {MOST_SERVERS} servers")
    if not (1 <= options.crowds <= MOST_CROWDS and 0 <= options.pause <= MOST_SECONDS):
        parser.error(f"expected 1 to {MOST_CROWDS} crowds and up to {MOST_SECONDS} seconds between them")
    with tempfile.TemporaryDirectory() as folder:
        environment = {}
        if options.samples:
            import numpy as np
            from app_rerun import CLASSES, write_sample_models

            models = Path(folder) / "models"
            models.mkdir()
            chance = np.random.default_rng(0)
            scales = chance.gamma(3.0, 1.0, (options.samples, 1))
            write_sample_models(models, (chance.normal(size=(options.samples, CLASSES)) * scales).astype(np.float32))
            environment["CIST_SAMPLE_MODELS"] = str(models)
        with ExitStack() as stack:
            servers = [stack.enter_context(studio(Path(folder), **environment)) for _ in range(options.servers)]
            measured = asyncio.run(measure(dict(servers), options))
        log = (Path(folder) / "log.txt").read_text()
    if "Traceback" in log:
        measured["errors"].append(log[log.index("Traceback") :][-2000:])
    row = {
        "label": options.label,
        "page": options.page,
        "sessions": options.sessions,
        "crowds": options.crowds,
        "servers": options.servers,
        "seconds": options.seconds,
        "thought_s": options.thought,
        "samples": options.samples or "as shipped",
        "machine": machine("streamlit", "tornado", "numpy"),
        **measured,
    }
    print(json.dumps(row, indent=2))
    rows = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else []
    what = ("label", "page", "sessions", "crowds", "samples", "servers")
    rows = [each for each in rows if any(each.get(name, 1) != row[name] for name in what)] + [row]
    options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
