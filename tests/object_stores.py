"""Stores for copies of runs: an S3 on this machine, the memory of this process, and a folder.

A conftest.py that imports the fixtures gives them to the tests beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

on_every_store = pytest.mark.parametrize("url", ["s3", "memory", "file"], indirect=True)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an empty S3."""
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel("ERROR")
    made = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        made.stop()


def access_to(address: str) -> dict[str, str]:
    """The environment variables by which this machine's S3 is used."""
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder for one run that nobody else has."""
    kind = getattr(request, "param", "memory")
    if kind == "memory":
        return f"memory://{tmp_path.name}/one"
    if kind == "file":
        (tmp_path / "store").mkdir()
        return (tmp_path / "store" / "one").as_uri()
    for name, value in access_to(request.getfixturevalue("s3")).items():
        monkeypatch.setenv(name, value)
    import boto3

    boto3.client("s3").create_bucket(Bucket="a-bucket")
    return f"s3://a-bucket/{tmp_path.name}/one"
