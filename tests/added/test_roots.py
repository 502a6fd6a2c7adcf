"""Paths on the server lead nowhere but below the configured folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from cist_core import CistError
from cist_core.added import AddSpec, check_paths, roots, under_roots


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two roots, ``a`` and ``b``, and a secret beside them."""
    for name in ("a", "b", "a-secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.npz").write_bytes(b"")
    monkeypatch.setenv("CIST_ROOTS", f"{tmp_path / 'a'}:{tmp_path / 'b'}:{tmp_path / 'missing'}")
    return tmp_path


def test_no_root_is_the_default_and_the_sentence_says_how_to_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIST_ROOTS", raising=False)
    assert roots() == ()
    with pytest.raises(CistError, match="CIST_ROOTS"):
        under_roots("/etc/passwd")


@pytest.mark.parametrize("text", ["a.npz", "{}/a/a.npz", "{}/b/../a/a.npz", "  b.npz "])
def test_paths_below_a_root_are_found(places: Path, text: str) -> None:
    found = under_roots(text.format(places))
    assert found.is_file()
    assert found.parent in roots()


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "../a-secret/a-secret.npz",
        "{}/a-secret/a-secret.npz",
        "{}/a/../a-secret/a-secret.npz",
        "",
        "a\0b",
    ],
)
def test_nothing_else_is_and_the_sentence_does_not_tell_whether_it_exists(places: Path, text: str) -> None:
    typed = text.format(places)
    if not typed:  # the root itself is a folder below a root, and fine
        assert under_roots(typed) in roots()
        return
    with pytest.raises(CistError, match="in the folders that may be read"):
        under_roots(typed)


def test_a_symbolic_link_out_of_a_root_is_followed_and_refused(places: Path) -> None:
    (places / "a" / "link").symlink_to(places / "a-secret")
    (places / "a" / "loop").symlink_to(places / "a" / "loop")
    (places / "a" / "inner").symlink_to(places / "b")
    for text in ("link/a-secret.npz", "loop"):
        with pytest.raises(CistError):
            under_roots(text)
    assert under_roots("inner/b.npz") == places / "b" / "b.npz"


@pytest.mark.parametrize("architecture", ["{}/secret", "{}/nowhere", "../secret", "~", "."])
def test_an_architecture_is_no_path(places: Path, architecture: str) -> None:
    """A folder with a `config.json` is one on the command line."""
    (places / "secret").mkdir(exist_ok=True)
    (places / "secret" / "config.json").write_text("{}")
    file = places / "a" / "net.pt"
    file.write_bytes(b"")
    model = {"teacher": str(file), "data": "mnist-5k", "architecture": architecture.format(places)}
    with pytest.raises(CistError, match="Expected the architecture to be a name of the list"):
        check_paths(AddSpec.of(title="net", model=model), places, server_paths=True)


@pytest.mark.parametrize("architecture", [None, "resnet20-plain", "torchvision:resnet18", "timm:resnet18.a1_in1k"])
def test_an_architecture_is_a_name(places: Path, architecture: str | None) -> None:
    file = places / "a" / "net.pt"
    file.write_bytes(b"")
    model = {"teacher": str(file), "data": "mnist-5k", "architecture": architecture}
    check_paths(AddSpec.of(title="net", model=model), places, server_paths=True)
