"""Pictures, folders and lists of them that lie, lead elsewhere or are none."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from security.case import Hostile, these
from security.forge import MEBI, black, npy_header, npz, png, stored, write_zip

CASES: list[Hostile] = []


def _pictures(**files: bytes) -> Callable[[Path], None]:
    """A folder of two classes: a good picture in the first, the given files in the second."""

    def make(path: Path) -> None:
        for name, content in {"cat/good.png": png(1, 1), **files}.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    return make


def _one(name: str, content: bytes) -> Callable[[Path], None]:
    return _pictures(**{f"dog/{name}": content})


def _drawn(name: str, draw: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: _one(name, draw())(path)


def _linked(path: Path) -> None:
    _pictures()(path)
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.png").write_bytes(png(2, 2))
    (path / "dog").mkdir()
    (path / "dog" / "link.png").symlink_to(outside / "secret.png")


def _linked_folder(path: Path) -> None:
    _pictures()(path)
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.png").write_bytes(png(2, 2))
    (path / "dog").symlink_to(outside, target_is_directory=True)


def _circle(path: Path) -> None:
    _pictures()(path)
    (path / "dog").mkdir()
    (path / "dog" / "self.png").symlink_to("self.png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
CASES += these(
    "data",
    [
        (
            "picture of 30,000 × 30,000 in 900 kB",
            "bomb-pictures",
            _drawn("bomb.png", lambda: png(30_000, 30_000, black(30_000, 30_000))),
        ),
        (
            "picture of 12,000 × 12,000, below what Pillow refuses",
            "large-pictures",
            _drawn("large.png", lambda: png(12_000, 12_000, black(12_000, 12_000))),
        ),
        ("picture of 1 × 60,000,000", "strip-pictures", _one("strip.png", png(1, 60_000_000))),
        ("picture header of 2³¹ × 2³¹", "header-pictures", _one("header.png", png(2**31 - 1, 2**31 - 1))),
        (
            "picture whose comment inflates to 64 MiB",
            "comment-pictures",
            _drawn("comment.png", lambda: png(1, 1, chunks=[(b"zTXt", b"c\0\0" + zlib.compress(bytes(64 * MEBI)))])),
        ),
        (
            "picture cut short",
            "short-pictures",
            _one("short.png", png(64, 64, zlib.compress(np.random.default_rng(1).bytes(65 * 64)))[:2000]),
        ),
        ("SVG called `.png`", "svg-pictures", _one("drawing.png", _SVG)),
        ("PostScript called `.png`, which Pillow would hand to Ghostscript", "eps-pictures", _one("program.png", EPS)),
        ("text called `.jpg`", "text-pictures", _one("text.jpg", b"hello")),
        ("empty picture", "empty-pictures", _one("empty.png", b"")),
        ("link to a picture outside of the folder", "linked-pictures", _linked),
        ("class folder that is a link to elsewhere", "linked-classes", _linked_folder),
        ("link to itself", "circle-pictures", _circle),
        ("folder of one class", "one-class", lambda path: _pictures()(path)),
        ("image archive without labels", "unlabelled.npz", npz(images=np.zeros((2, 4, 4), np.uint8))),
        ("image archive of floats", "floats.npz", npz(images=np.zeros((2, 4, 4)), labels=np.arange(2))),
        (
            "image archive with labels of another length",
            "length.npz",
            npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(3)),
        ),
        (
            "image archive with negative labels",
            "negative.npz",
            npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2) - 1),
        ),
        (
            "image archive with a label of 10¹⁸",
            "classes.npz",
            npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 10**18])),
        ),
        ("image archive of no size", "flat.npz", npz(images=np.zeros((2, 0, 4), np.uint8), labels=np.arange(2))),
        ("image archive cut short", "short.npz", npz(images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))[:200]),
        (
            "image archive header of 10¹² pictures",
            "shape.npz",
            lambda path: write_zip(
                path,
                [
                    stored("images.npy", npy_header((10**12, 32, 32, 3), "|u1")),
                    stored("labels.npy", npy_header((10**12,), "<i8")),
                ],
            ),
        ),
        ("data of no known kind", "data.mp4", b"x"),
    ],
)


def _table_of_paths(row: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path.parent / "good.png").write_bytes(png(1, 1))
        (path.parent.parent / "secret.png").write_bytes(png(1, 1))
        path.write_text(f"path,label\ngood.png,cat\n{row},dog\n")

    return make


CASES += these(
    "data",
    [
        ("list of paths that leads out of its folder", "climbing.csv", _table_of_paths("../secret.png")),
        ("list of paths that names a file of the system", "absolute.csv", _table_of_paths("/etc/passwd")),
        ("list of paths with an address", "address.csv", _table_of_paths("http://127.0.0.1/a.png")),
        ("list of paths with a byte of zero", "zero.csv", _table_of_paths("a\0.png")),
        ("list of paths without labels", "labels.csv", b"path,size\na.png,3\n"),
    ],
)
