"""A real cluster of Ray on this machine, for the tests that need one."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

REPOSITORY = Path(__file__).parents[1]
_SMALL = {"object_store_memory": 80_000_000}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Cluster:
    """A head that runs nothing and two nodes with one CPU, as processes of this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._make = RayCluster
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": self.port}
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 0}
        # Ray gives its workers, and all that jobs start, a niceness of 15: beside processes of 0 they hardly run.
        quick["worker_niceness"] = 0
        self._cluster = self._make(initialize_head=True, head_node_args={**head, **_SMALL, "_system_config": quick})
        self.nodes = [self._cluster.add_node(num_cpus=1, **_SMALL) for _ in range(2)]

    def kill_node_of(self, job: dict[str, object]) -> None:
        self.replace(next(node for node in self.nodes if node.node_id == job["driver_node_id"]))

    def node_of_process(self, word: str) -> Any:
        """One that runs a process with this word in its command line."""
        for node in self.nodes:
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            if any(word in " ".join(process.cmdline()) for process in raylet.children()):
                return node
        raise AssertionError(f"No node runs {word}.")

    def replace(self, node: Any) -> None:
        """Kill one of them, and let another join."""
        self._cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)
        self.nodes.append(self._cluster.add_node(num_cpus=1, **_SMALL))

    @property
    def head(self) -> str:
        """What a program needs to become a part of it."""
        return str(self._cluster.address)

    def close(self) -> None:
        self._cluster.shutdown()


@contextlib.contextmanager
def a_cluster() -> Iterator[Cluster]:
    """One for the tests of a module, which are skipped where Ray is not installed."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    pytest.importorskip("aiohttp_cors", reason="the extra 'ray' brings Ray's dashboard, which is not installed")
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(REPOSITORY)  # of the nodes as well
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster()
    try:
        yield made
    finally:
        made.close()
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
