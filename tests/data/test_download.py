"""Downloads from a server on this machine, which stands in for the mirrors; the archives are small ones of our own."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from resources import file_size_limit
from torchvision import datasets

from cist_core.data.download import extract_gzip, extract_tar, fetch
from cist_core.data.loading import is_present, load_dataset
from cist_core.errors import Cancelled, CistError
from cist_core.partial_files import remove_abandoned


class Server:
    """Serves ``files`` by name; ``broken`` ones are announced in full and end early."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                outer.requests.append(name)
                if name not in outer.files:
                    self.send_error(404)
                    return
                content = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if name in outer.broken else content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def closed_url() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_port
    server.server_close()
    return f"http://127.0.0.1:{port}/"


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


CONTENT = bytes(range(256)) * 1000


def test_file_arrives_with_progress(server: Server, tmp_path: Path) -> None:
    server.files["data.gz"] = CONTENT
    seen: list[tuple[int, int]] = []
    target = tmp_path / "new" / "data.gz"
    fetch([server.url + "data.gz"], target, _md5(CONTENT), progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    fetch([server.url + "data.gz"], target, _md5(CONTENT))
    assert server.requests == ["data.gz"]  # what is there and whole is not asked for again


def test_a_second_mirror_is_tried(server: Server, closed_url: str, tmp_path: Path) -> None:
    server.files["data.gz"] = CONTENT
    fetch([closed_url + "data.gz", server.url + "data.gz"], tmp_path / "data.gz", _md5(CONTENT))
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_every_mirror_is_named_with_its_reason(server: Server, closed_url: str, tmp_path: Path) -> None:
    with pytest.raises(CistError) as caught:
        fetch([closed_url + "a.gz", server.url + "b.gz"], tmp_path / "data.gz", _md5(CONTENT))
    first, second = str(caught.value).partition("; check the connection")[0].split(", nor ")
    assert first.startswith(f"data.gz could not be downloaded from {closed_url}a.gz (")
    assert "refused" in first
    assert second == f"from {server.url}b.gz (Not Found)"


@pytest.mark.parametrize("fault", ["cut off", "other content", "absent", "no server"])
def test_failures_are_told_and_leave_nothing(server: Server, closed_url: str, tmp_path: Path, fault: str) -> None:
    server.files["data.gz"] = CONTENT[:-1] + b"?" if fault == "other content" else CONTENT
    if fault == "cut off":
        server.broken.add("data.gz")
    if fault == "absent":
        server.files.clear()
    url = closed_url if fault == "no server" else server.url
    reason = {"absent": "Not Found", "no server": "refused"}.get(fault, "arrived damaged|IncompleteRead")
    with pytest.raises(CistError, match=rf"data\.gz could not be downloaded from .*({reason}).*; check the connection"):
        fetch([url + "data.gz"], tmp_path / "data.gz", _md5(CONTENT))
    assert list(tmp_path.iterdir()) == []

    server.files["data.gz"] = CONTENT
    server.broken.clear()
    fetch([server.url + "data.gz"], tmp_path / "data.gz", _md5(CONTENT))
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    server.files["data.gz"] = CONTENT
    (tmp_path / "data.gz").write_bytes(CONTENT[:100])
    fetch([server.url + "data.gz"], tmp_path / "data.gz", _md5(CONTENT))
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_a_download_can_be_cancelled_from_its_progress(server: Server, tmp_path: Path) -> None:
    server.files["data.gz"] = CONTENT

    def stop(done: int, total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        fetch([server.url + "data.gz"], tmp_path / "data.gz", _md5(CONTENT), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_archives_that_cannot_be_unpacked_are_told_with_folder_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "data.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "file").touch()
    with pytest.raises(CistError, match=r"data\.gz cannot be unpacked in .*/file \(Not a directory\).*set CIST_DATA"):
        extract_gzip(tmp_path / "data.gz", tmp_path / "file" / "data")
    with pytest.raises(CistError, match=r"data\.tar cannot be unpacked in .*/file \(Not a directory\).*set CIST_DATA"):
        extract_tar(tmp_path / "file" / "data.tar", "data")


def test_a_full_disk_while_unpacking_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data.gz").write_bytes(gzip.compress(CONTENT))
    with (
        file_size_limit(1000),
        pytest.raises(CistError, match=r"cannot be unpacked in .*make room there, or set CIST_"),
    ):
        extract_gzip(tmp_path / "data.gz", tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data.gz"]


def _idx(array: np.ndarray) -> bytes:
    """The format of MNIST: two zeros, the type (8 is uint8), the rank, the sizes, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (100, 28, 28)),
        "train-labels-idx1-ubyte.gz": np.arange(100) % 10,
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (20, 28, 28)),
        "t10k-labels-idx1-ubyte.gz": np.arange(20) % 10,
    }
    server.files = {name: _idx(array) for name, array in arrays.items()}
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server.url])
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, _md5(file)) for name, file in server.files.items()])
    return arrays


def test_mnist_downloads_once_and_opens(server: Server, mnist: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(
        CistError, match=r"'mnist' is not \(or not completely\) in .*--download .*, `download=True` in Python"
    ):
        load_dataset("mnist", root=tmp_path)
    assert server.requests == []
    dataset = load_dataset("mnist", root=tmp_path, download=True)
    np.testing.assert_array_equal(dataset.images[:, :, :, 0], mnist["t10k-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(dataset.labels, mnist["t10k-labels-idx1-ubyte.gz"])
    train, validation = (load_dataset("mnist", split, root=tmp_path) for split in ("train", "validation"))
    assert (train.num_samples, validation.num_samples) == (90, 10)
    assert np.bincount(validation.labels).tolist() == [1] * 10
    assert len(server.requests) == 4


def test_what_is_present_is_told_from_the_names_of_the_files(mnist: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert is_present("mnist-5k", root=tmp_path)
    assert not is_present("mnist", root=tmp_path)
    load_dataset("mnist", root=tmp_path, download=True)
    assert is_present("mnist", root=tmp_path)
    assert not is_present("fashion-mnist", root=tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    assert not is_present("mnist", root=tmp_path)


def test_data_root_comes_from_the_environment(
    mnist: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "elsewhere"))
    load_dataset("mnist", download=True)
    assert (tmp_path / "elsewhere" / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file()


def test_offline_mnist_is_one_clear_error(
    mnist: dict[str, np.ndarray], closed_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", [closed_url])
    with pytest.raises(CistError, match=r"train-images-idx3-ubyte\.gz could not be downloaded .*by hand"):
        load_dataset("mnist", root=tmp_path, download=True)


def test_partly_downloaded_mnist_is_not_taken_for_whole(
    server: Server, mnist: dict[str, np.ndarray], tmp_path: Path
) -> None:
    server.broken.add("t10k-images-idx3-ubyte.gz")
    with pytest.raises(CistError, match="could not be downloaded"):
        load_dataset("mnist", root=tmp_path, download=True)
    with pytest.raises(CistError, match="not completely"):
        load_dataset("mnist", root=tmp_path)
    server.broken.clear()
    assert load_dataset("mnist", root=tmp_path, download=True).num_samples == 20
    assert server.requests.count("train-images-idx3-ubyte.gz") == 1


def test_cut_off_mnist_file_is_noticed_and_repaired(mnist: dict[str, np.ndarray], tmp_path: Path) -> None:
    load_dataset("mnist", root=tmp_path, download=True)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CistError, match="not completely"):
        load_dataset("mnist", root=tmp_path)
    assert load_dataset("mnist", root=tmp_path, download=True).num_samples == 20


class OldDtype:
    """Pickles as the dtype in the CIFAR archives does, whose ``align`` flag is a number."""

    def __reduce__(self) -> tuple[type[np.dtype], tuple[str, int, int]]:
        return np.dtype, ("u1", 0, 1)


def test_cifar_archive_opens_without_the_remark_on_its_age(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
    labels = [index % 10 for index in range(20)]
    files = {
        name: pickle.dumps({"data": pixels, "labels": labels, "age": OldDtype()}, protocol=2)
        for name in ("data_batch_1", "test_batch")
    }
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")}, protocol=2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    server.files["cifar.tar.gz"] = buffer.getvalue()
    monkeypatch.setattr(datasets.CIFAR10, "url", server.url + "cifar.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", _md5(buffer.getvalue()))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", _md5(files["data_batch_1"])]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", _md5(files["test_batch"])]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": _md5(files["batches.meta"])}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)

    dataset = load_dataset("cifar10", root=tmp_path, download=True)
    assert dataset.class_names == tuple("abcdefghij")
    assert is_present("cifar10", root=tmp_path)
    assert not is_present("cifar100", root=tmp_path)
    np.testing.assert_array_equal(dataset.images[:], pixels.reshape(20, 3, 32, 32).transpose(0, 2, 3, 1))
    assert load_dataset("cifar10", root=tmp_path).fingerprint == dataset.fingerprint
    assert server.requests == ["cifar.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-py"]


def test_what_takes_long_to_arrive_is_not_taken_for_abandoned(server: Server, tmp_path: Path) -> None:
    content = server.files["images.bin"] = bytes(200_000)

    def sweep(done: int, total: int) -> None:
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        remove_abandoned(tmp_path)

    fetch([server.url + "images.bin"], tmp_path / "images.bin", _md5(content), progress=sweep)
    assert (tmp_path / "images.bin").read_bytes() == content
