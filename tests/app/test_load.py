"""Several people at once, on a real server: what they share, and what is given back when they have left."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from load import Use, Visitor, live, studio, visitor

from app.forms.references import Named
from app.housekeeping import Sweeper
from app.state import Source
from cist_core import LogitSet

resource = pytest.importorskip("resource")

PEOPLE = 5
HERE = Path(__file__).resolve().parents[2]


def test_people_come_and_move_and_leave_nothing_open(tmp_path: Path) -> None:
    with studio(tmp_path, "--server.disconnectedSessionTTL=1") as (address, server):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if sys.platform == "linux":
            server.rlimit(psutil.RLIMIT_NOFILE, (256, hard))
        asyncio.run(_come_and_go(address, server))
        if sys.platform == "linux":
            assert server.rlimit(psutil.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


async def _come_and_go(address: str, server: psutil.Process) -> None:
    async with visitor(address) as first:
        await first.load()
        await _overtake(first)
        assert not first.errors
    before = Use.of(server).handles
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(visitor(address)) for _ in range(PEOPLE)]
        pages = ("overview", "entropy")
        await asyncio.gather(*(person.load(pages[seed % 2]) for seed, person in enumerate(people)))
        await asyncio.gather(*(live(person, seed, 1.5, 0.1) for seed, person in enumerate(people)))
        assert [error for person in people for error in person.errors] == []
        assert all(person.moves for person in people)
        assert len([file for file in server.open_files() if file.path.endswith(".safetensors")]) <= 2
    until = time.monotonic() + 60
    while Use.of(server).handles > before and time.monotonic() < until:
        await asyncio.sleep(0.2)
    assert Use.of(server).handles <= before


async def _overtake(person: Visitor) -> None:
    """Five moves at once: the last one stands, and those between are dropped."""
    values = (2.0, 2.5, 3.0, 3.5, 4.0)
    for value in values:
        await person.tell("tau", value)
    whole = 0
    while person.value_of("tau") != values[-1]:
        await person.wait()
        whole += 1
    assert whole < len(values)


def test_the_limit_of_open_files_is_raised_as_far_as_the_machine_allows() -> None:
    code = (
        "import resource\n"
        "from app.housekeeping import HANDLES, raise_handles\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "hard = HANDLES if hard == resource.RLIM_INFINITY else hard\n"
        "for allowed in (hard, 512):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (256, allowed))\n"
        "    raise_handles()\n"
        "    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(allowed, HANDLES), allowed)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)


class _OnceOnly:
    """A loop that keeps what it is asked to call later."""

    def __init__(self) -> None:
        self.later: list[object] = []

    def call_soon_threadsafe(self, function, *args) -> None:
        function(*args)

    def call_later(self, delay: float, function, *args) -> None:
        self.later.append(function)


@pytest.mark.parametrize(
    "server",
    [
        SimpleNamespace(),
        SimpleNamespace(_get_async_objs=lambda: SimpleNamespace(eventloop=_OnceOnly())),
        SimpleNamespace(_get_async_objs=lambda: SimpleNamespace(eventloop=_OnceOnly()), _session_mgr=SimpleNamespace()),
    ],
)
def test_a_streamlit_that_keeps_its_sessions_otherwise_is_left_alone_and_logged(server, caplog) -> None:
    Sweeper(server).start()
    assert [record.name for record in caplog.records] == ["app.housekeeping"]


def test_the_sweeper_looks_again_after_a_look_that_failed() -> None:
    class Broken:
        def expire(self) -> None:
            raise OSError("once")

    loop = _OnceOnly()
    storage = SimpleNamespace(_session_storage=SimpleNamespace(_cache=Broken()))
    sweeper = Sweeper(SimpleNamespace(_get_async_objs=lambda: SimpleNamespace(eventloop=loop), _session_mgr=storage))
    with pytest.raises(OSError, match="once"):
        sweeper.start()
    assert loop.later == [sweeper.look]


def _opened(logits: np.ndarray, **described: object) -> Source:
    logit_set = LogitSet.create(logits, **described)  # type: ignore[arg-type]
    return Source.of("mine", "some", "all", Named("mine", "some", "all"), logit_set)


def test_what_two_sessions_have_open_is_one_until_both_have_left() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 3
    first, second = _opened(logits), _opened(logits.copy())
    assert second is first
    others = (
        _opened(logits * 1.01),
        _opened(logits, class_names=["a", "b", "c", "d"]),
        _opened(logits, provenance={"teacher": "another"}),
        _opened(logits, labels=np.zeros(50, dtype=np.int64)),
    )
    assert all(other is not first for other in others)
    curves = first.curves
    del first, second
    gc.collect()
    assert _opened(logits).curves is not curves
