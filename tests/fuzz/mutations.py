"""Changes that keep enough of a file intact for its readers to get past the first bytes."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass

KINDS = ("flip", "cut", "splice", "repeat", "write", "drop", "number")
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_LARGEST = 1 << 18


@dataclass(frozen=True)
class Edit:
    """One change.

    Attributes:
        kind: one of `KINDS`.
        place: where, as a share of the content.
        amount: how far or how much.
        data: what is written.
        part: which entry of a ZIP file is changed; beyond the last, the file itself.
    """

    kind: str
    place: float
    amount: int
    data: bytes
    part: int


def apply(content: bytes, edits: list[Edit]) -> bytes:
    """The content after all changes; an entry of a ZIP file is changed inside, so that its checksum stays right."""
    for edit in edits:
        content = _inside(content, edit)[:_LARGEST]
    return content


def _inside(content: bytes, edit: Edit) -> bytes:
    if edit.part < 8:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                entries = [(info, archive.read(info)) for info in archive.infolist()]
        except Exception:  # no archive, or none any more
            return _changed(content, edit)
        if edit.part < len(entries):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for position, (info, body) in enumerate(entries):
                    changed = _changed(body, edit) if position == edit.part else body
                    archive.writestr(info.filename, changed, compress_type=info.compress_type)
            return buffer.getvalue()
    return _changed(content, edit)


def _changed(content: bytes, edit: Edit) -> bytes:
    at = int(edit.place * len(content))
    match edit.kind:
        case "flip":
            if not content:
                return content
            at = min(at, len(content) - 1)
            return content[:at] + bytes([content[at] ^ (1 << edit.amount % 8)]) + content[at + 1 :]
        case "cut":
            return content[:at]
        case "drop":
            return content[:at] + content[at + edit.amount :]
        case "splice":
            return content[:at] + content[edit.amount % (len(content) + 1) :]
        case "repeat":
            return content[:at] + content[at : at + edit.amount] * 3 + content[at + edit.amount :]
        case "number":
            width, code = ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))[edit.amount % 4]
            value = _NUMBERS[edit.amount % len(_NUMBERS)] & ((1 << 8 * width) - 1)
            return content[:at] + struct.pack("<" + code, value) + content[at + width :]
        case _:
            return content[:at] + edit.data + content[at + len(edit.data) :]
