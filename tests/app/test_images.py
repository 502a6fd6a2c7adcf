"""The images of CIFAR-100 come to Samples by one press: downloaded, or from a copy on the server."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from app import images
from app.thumbnails import missing_images, thumbnails, use_copy
from tests.app.driver import open_app, shown_by, view_of

CIFAR = {"teacher": "cifar100-resnet20"}


@pytest.fixture(autouse=True)
def nothing_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("CIST_ROOTS", raising=False)
    monkeypatch.setattr(images, "downloads", {})


@pytest.fixture(scope="module")
def served(shared_file, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """The archive of CIFAR-100 as its authors pack it, with the real test images, on a server of this machine."""
    with np.load(shared_file("cifar100_test.npz"), allow_pickle=False) as file:
        images, labels, classes = file["images"], file["labels"], file["classes"]
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))
    files = {
        "test": {"data": rows, "fine_labels": labels.tolist()},
        "train": {"data": rows[:100], "fine_labels": labels[:100].tolist()},
        "meta": {"fine_label_names": classes.tolist()},
    }
    packed = {name: pickle.dumps(content, protocol=2) for name, content in files.items()}
    folder = tmp_path_factory.mktemp("served")
    with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz", compresslevel=1) as archive:
        for name, content in packed.items():
            entry = tarfile.TarInfo(f"cifar-100-python/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    known = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in packed.items()}
    archived = (folder / "cifar-100-python.tar.gz").read_bytes()
    yield {
        "url": f"http://127.0.0.1:{server.server_port}/cifar-100-python.tar.gz",
        "tgz_md5": hashlib.md5(archived, usedforsecurity=False).hexdigest(),
        "train_list": [["train", known["train"]]],
        "test_list": [["test", known["test"]]],
        "meta": {"filename": "meta", "key": "fine_label_names", "md5": known["meta"]},
        "images": images,
    }
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def offered(app) -> bool:
    return any("images of CIFAR-100 are not here" in words.value for words in app.markdown)


def pictures(app) -> int:
    """How many pictures the gallery and the inspector show."""
    return len(app.get("image"))


def downloaded(app) -> None:
    """Wait for the download, and see what the page makes of it."""
    images.downloads["cifar100"].join(timeout=120)
    app.run()
    assert not app.exception


def pointed_at(file: Path, monkeypatch: pytest.MonkeyPatch):
    """Samples, after somebody has named this file of an open folder as the copy of the images."""
    monkeypatch.setenv("CIST_ROOTS", str(file.parent))
    app = open_app("samples", **CIFAR)
    app.text_input(key="images_path").set_value(file.name)
    app.button(key="images_use").click().run()
    return app


def test_one_press_downloads_the_images_and_they_are_shown(served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("url", "tgz_md5", "train_list", "test_list", "meta"):
        monkeypatch.setattr(datasets.CIFAR100, name, served[name])
    app = open_app("samples", **CIFAR)
    assert offered(app)
    assert pictures(app) == 0
    assert app.button(key="images_download").label == "Download (169.0 MB)"
    app.button(key="images_download").click().run(timeout=120)
    assert not app.exception
    app.slider(key="tau").set_value(2.0).run()  # which ends what a page does, not what it has begun
    downloaded(app)
    assert not app.error
    assert not offered(app)
    assert pictures(app) == 17  # sixteen in the gallery, one in the inspector
    assert thumbnails(view_of(app), [0, 9_999]) is not None


def test_an_archive_of_another_checksum_is_refused_and_said(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.CIFAR100, "url", served["url"])  # the checksum stays that of the authors
    app = open_app("samples", **CIFAR)
    app.button(key="images_download").click().run(timeout=120)
    downloaded(app)
    assert "it arrived damaged" in app.error[0].value
    assert offered(app)
    assert pictures(app) == 0


def test_a_copy_on_the_server_is_pointed_at(shared_file, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared_file("cifar100_test.npz")
    app = pointed_at(file, monkeypatch)
    assert not app.error
    assert not offered(app)
    assert pictures(app) == 17
    app.switch_page("../pages/overview.py").run()  # and everywhere else
    assert all(sample["picture"] for sample in shown_by(app, "cist_samples")["samples"])


def live_pictures(app) -> list[str | None]:
    """The pictures of the samples on Overview."""
    return [sample["picture"] for sample in shown_by(app, "cist_samples")["samples"]]


def test_a_copy_is_shown_at_once_and_to_nobody_else(shared_file, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared_file("cifar100_test.npz")
    monkeypatch.setenv("CIST_ROOTS", str(file.parent))
    one, other = open_app("overview", **CIFAR), open_app("overview", **CIFAR)
    assert live_pictures(one) == [None] * 4
    one.switch_page("../pages/samples.py").run()
    one.text_input(key="images_path").set_value(file.name)
    one.button(key="images_use").click().run()
    one.switch_page("../pages/overview.py").run()
    assert all(live_pictures(one))
    assert live_pictures(other.run()) == [None] * 4


def test_a_copy_that_has_gone_is_asked_for_again(shared_file, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "open" / "images.npz"
    copy.parent.mkdir()
    copy.write_bytes(shared_file("cifar100_test.npz").read_bytes())
    app = pointed_at(copy, monkeypatch)
    assert not offered(app)
    copy.unlink()
    assert offered(app.run())
    assert not app.exception


def test_a_copy_is_one_of_its_split(shared_file, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared_file("cifar100_test.npz")
    monkeypatch.setenv("CIST_ROOTS", str(file.parent))
    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setattr("app.thumbnails.session_copies", lambda: kept)
    monkeypatch.setattr("app.thumbnails.may_read_server_paths", lambda: True)
    source = view_of(open_app("samples", **CIFAR)).source
    use_copy(source, file.name)
    assert missing_images(source) is None
    assert missing_images(replace(source, split="train")) == "cifar100"


def test_what_holds_other_images_is_refused(shared_file, monkeypatch: pytest.MonkeyPatch) -> None:
    app = pointed_at(shared_file("cifar10_test.npz"), monkeypatch)
    assert "which has 100 classes" in app.error[0].value
    assert offered(app)


def test_nothing_outside_of_the_open_folders_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    np.savez(tmp_path / "hidden.npz", images=np.zeros((2, 32, 32, 3), np.uint8), labels=[0, 99])
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path / "open"))
    app = open_app("samples", **CIFAR)
    app.text_input(key="images_path").set_value("../hidden.npz")
    app.button(key="images_use").click().run()
    assert "in the folders that may be read" in app.error[0].value


def test_without_open_folders_a_sentence_says_how_to_open_one() -> None:
    app = open_app("samples", **CIFAR)
    assert any("CIST_ROOTS" in caption.value for caption in app.caption)
    assert not [field for field in app.text_input if field.key == "images_path"]


def test_where_the_images_are_at_hand_nothing_is_offered() -> None:
    app = open_app("samples")
    assert not [button for button in app.button if button.key == "images_download"]
    assert pictures(app) == 17
