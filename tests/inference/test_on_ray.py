"""Inference by the nodes of a real Ray cluster: the same file as on one machine, whatever is killed."""

import builtins
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray_cluster import REPOSITORY, Cluster, a_cluster
from torch import Tensor, nn

from cist_core.errors import BrokenOff, Cancelled, CistError
from cist_core.inference.run import infer
from cist_core.logits.logit_set import LogitSet
from cist_core.zoo.teacher import Teacher
from tests.slow_teacher import BATCH_SIZE, Deadly, Narrow, images, slow_teacher

pytestmark = [
    pytest.mark.slow,
    # Ray Data reads all of its own settings, those included that it wants nobody to read any more.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray"),
]
# Against waiting for ever, for processes that start in seconds on a free machine.
SECONDS = 300.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    own = builtins.print
    with a_cluster() as made:
        yield made
    builtins.print = own  # Ray Data puts its own in place, which other tests cannot pickle


@pytest.fixture(autouse=True)
def _in_the_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.head)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> LogitSet:
    folder = tmp_path_factory.mktemp("here")
    return infer(slow_teacher(0.0), images(), device="cpu", cache_dir=folder).logit_set


def same(found: LogitSet, expected: LogitSet) -> None:
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert {**found.provenance, "content_sha256": ""} == {**expected.provenance, "content_sha256": ""}


def test_the_command_writes_the_logits_of_this_machine(tmp_path: Path) -> None:
    found = {}
    for place in ("here", "ray"):
        out = tmp_path / f"{place}.safetensors"
        what = ["--teacher", "mnist5k-cnn", "--data", "mnist-5k", "--limit", "1300", "--device", "cpu"]
        command = [sys.executable, "-m", "cist_core", "infer", *what, "--executor", place, "--json", "--out", str(out)]
        environment = {**os.environ, "CIST_CACHE": str(tmp_path / place), "PYTHONPATH": str(REPOSITORY)}
        said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
        assert said.returncode == 0, said.stderr
        assert json.loads(said.stdout)["cached"] is False  # and nothing of Ray stands there
        found[place] = LogitSet.load(out)
    same(found["ray"], found["here"])


def test_a_node_that_is_killed_loses_nothing(cluster: Cluster, here: LogitSet, tmp_path: Path) -> None:
    shards: list[int] = []
    killed = threading.Event()

    def kill_once(done: int, _: int) -> None:
        shards.append(done)
        if len(shards) == 2:
            cluster.replace(cluster.node_of_process("MapWorker"))
            killed.set()

    slow = slow_teacher(0.5)
    found = infer(
        slow, images(), batch_size=BATCH_SIZE, device="cpu", cache_dir=tmp_path, executor="ray", progress=kill_once
    )
    assert killed.is_set()
    assert shards == sorted(shards)
    same(found.logit_set, here)


def test_a_killed_command_is_gone_on_with_from_its_shards(here: LogitSet, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.slow_teacher", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with program:
        deadline = time.monotonic() + SECONDS
        while not any(list_of_rows.stat().st_size for list_of_rows in (tmp_path / "logits").glob(".*.rows")):
            assert program.poll() is None, program.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        program.send_signal(signal.SIGKILL)
    found = infer(slow_teacher(0.0), images(), device="cpu", cache_dir=tmp_path, executor="ray")
    assert 0 < found.resumed < len(here.labels)
    assert not found.cached
    same(found.logit_set, here)
    again = infer(slow_teacher(0.0), images(), device="cpu", cache_dir=tmp_path)
    assert again.cached


def test_what_goes_wrong_on_a_node_is_said_here(tmp_path: Path) -> None:
    teacher = slow_teacher(0.0)
    narrow = replace(teacher, model=Narrow(teacher.model))
    with pytest.raises(CistError, match=r"to return logits of shape \(\d+, 10\), but got \(\d+, 9\)"):
        infer(narrow, images(), device="cpu", cache_dir=tmp_path, executor="ray")
    with pytest.raises(CistError, match="has no GPU; choose another --device"):
        infer(teacher, images(), device="cuda", cache_dir=tmp_path, executor="ray")
    with pytest.raises(CistError, match="cannot be sent to other machines"):
        infer(replace(teacher, model=Unsendable(teacher)), images(), device="cpu", cache_dir=tmp_path, executor="ray")
    with pytest.raises(Cancelled):
        infer(teacher, images(), device="cpu", cache_dir=tmp_path, executor="ray", should_stop=lambda: True)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_process_that_dies_each_time_is_not_started_for_ever(here: LogitSet, tmp_path: Path) -> None:
    """Ray itself would start it without end."""
    teacher, given = slow_teacher(0.0), images()
    pictures = np.array(given.images)
    pictures[1300] = 255  # in the third shard
    deadly, damaged = replace(teacher, model=Deadly(teacher.model)), replace(given, images=pictures)
    with pytest.raises(BrokenOff, match=r"the samples 1024 to 1535 has died 5 times.*fewer --workers"):
        infer(deadly, damaged, device="cpu", cache_dir=tmp_path, executor="ray", workers=1)
    whole = infer(teacher, damaged, device="cpu", cache_dir=tmp_path)
    assert whole.resumed == 1024
    np.testing.assert_allclose(np.delete(whole.logit_set.logits, 1300, 0), np.delete(here.logits, 1300, 0), atol=1e-5)


class Unsendable(nn.Module):
    """As a network that holds a session of ONNX Runtime."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.model, self.session = teacher.model, threading.Lock()

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def test_without_a_cluster_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(CistError, match=r"There is no cluster of Ray at '127\.0\.0\.1:1'"):
        infer(slow_teacher(0.0), images(), device="cpu", cache_dir=tmp_path, executor="ray")
