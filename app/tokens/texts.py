"""The texts that a model may read: one's own, and those that were added with a model."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from app.catalogue import Seen, may_read, titles
from cist_core.added import Added
from cist_core.added.roots import HUB
from cist_core.errors import CistError
from cist_core.wording import byte_size

ADDED = "tokens_added"
"""Query parameter of the page: the id of a text that was added and is to be read."""
MOST_CHARACTERS = 20_000
MOST_BYTES_OF_TEXT = 16_000_000
"""Of a text that was added, which has 200,000 tokens at most; its file may have grown since."""


class OwnText(NamedTuple):
    """What somebody has given to be read.

    Attributes:
        text: whose tokens count.
        prompt: that stands before it; empty for none.
    """

    text: str
    prompt: str = ""

    @property
    def characters(self) -> int:
        return len(self.text) + len(self.prompt)

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from other texts."""
        return self.text, self.prompt

    def check(self) -> None:
        """Refuse one that is blank or too long.

        Raises:
            CistError: of one that is too long with both lengths.
        """
        if not self.text.strip():
            raise CistError(
                "There is no text to read: tokens of a prompt do not count, and blanks say nothing. Give one under "
                "“Your own text”."
            )
        if self.characters > MOST_CHARACTERS:
            raise CistError(
                f"The text has {self.characters:,} characters with its prompt, and {MOST_CHARACTERS:,} are read here; "
                "give a part of it."
            )

    @property
    def file_name(self) -> str:
        """Of `content`, as `cist_core.language.texts.read_texts` knows files."""
        return "text.jsonl" if self.prompt else "text.txt"

    @property
    def content(self) -> bytes:
        record = json.dumps({"prompt": self.prompt, "response": self.text}, ensure_ascii=False)
        # Half a character, as a browser may send it, is none in UTF-8.
        return (f"{record}\n" if self.prompt else self.text).encode("utf-8", "replace")


class AddedText(NamedTuple):
    """A text that somebody has added with a language model, perhaps another one, as its file has it.

    Attributes:
        added: what was added.
        title: that tells it from others.
        file: that holds the text.
    """

    added: Added
    title: str
    file: Path

    @property
    def key(self) -> tuple[object, ...]:
        return self.added.id, state_of(self.file)

    @property
    def file_name(self) -> str:
        """As of one's own; its own name might be that of another file of a reading."""
        return f"text{'.jsonl' if self.file.suffix.lower() == '.jsonl' else '.txt'}"

    @property
    def length(self) -> int | None:
        """Tokens of a row under which it was added; None for what a reading has as well."""
        assert self.added.spec is not None
        assert self.added.spec.language is not None
        return self.added.spec.language.length

    @property
    def content(self) -> bytes:
        """All of it, however much a reading has.

        Raises:
            CistError: as `check`, or if the file has become too large.
        """
        self.check()
        try:
            with self.file.open("rb") as stream:
                found = stream.read(MOST_BYTES_OF_TEXT + 1)
        except OSError as error:
            raise CistError(
                f"The file of “{self.title}” cannot be read ({error.strerror or error}); put it back, or choose "
                "another text."
            ) from error
        if len(found) > MOST_BYTES_OF_TEXT:
            raise CistError(
                f"The file of “{self.title}” has more than {byte_size(MOST_BYTES_OF_TEXT)} by now, which are read "
                "here; give a part of it as your own text."
            )
        return found

    def check(self) -> None:
        """Refuse one whose file is gone, or may not be read any more; how long it may be was asked when it was added.

        Raises:
            CistError: naming what was added.
        """
        if not may_read(self.added, str(self.file)):
            raise CistError(
                f"The file of “{self.title}” is not on the Studio's machine any more, or not in a folder that may be "
                "read; put it back, or choose another text."
            )


Text = OwnText | AddedText


def added_texts(seen: Seen) -> dict[str, AddedText]:
    """The texts in files that the visitor has added, by id; those of others are nobody else's to read: their files may
    hold more than was shown of them, and something else by now.
    """
    files = {
        added.id: (added, added.spec.language.texts)
        for added in seen.ready.values()
        if added.id in seen.mine
        and added.spec is not None
        and added.spec.language is not None
        and not added.spec.language.texts.startswith(HUB)
    }
    called = titles(list(files), seen)
    return {added_id: AddedText(added, called[added_id], Path(file)) for added_id, (added, file) in files.items()}


def state_of(path: Path | None) -> list[tuple[str, int]]:
    """What tells a file, or the files of a folder, from others of the same names; empty where there is nothing."""
    with suppress(OSError):  # it is just being taken away, or must not be looked at
        files = [] if path is None or not path.exists() else [path] if path.is_file() else sorted(path.iterdir())
        return [(file.name, file.stat().st_mtime_ns) for file in files]
    return []
