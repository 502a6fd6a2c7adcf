"""Writes what no library would write: archives that inflate without end, headers that lie, pickles with a payload."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STORED, DEFLATED = 0, 8
MEBI = 1 << 20

RAW = np.arange(12, dtype=np.float32).tobytes()
ENTRY = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}
GOOD = np.array([[2.0, 0, -1], [0, 3, 0], [-1, 0, 1], [4, 1, 2]], np.float32)
"""Logits of four samples and three classes that every reader takes; `RAW` and `ENTRY` are as many bytes, and what a
safetensors header says of them."""
BOMB_MIB = 3072


@dataclass(frozen=True)
class Member:
    """One entry of `write_zip` as it stands in the file, whatever it inflates to."""

    name: str
    stored: bytes
    size: int
    crc: int
    method: int = DEFLATED
    flags: int = 0


def stored(name: str, content: bytes, **lies: int) -> Member:
    return Member(name, content, lies.get("size", len(content)), zlib.crc32(content), STORED, lies.get("flags", 0))


def zeros_after(name: str, head: bytes, mebibytes: int, *, claimed: int | None = None) -> Member:
    """``head`` and then so many MiB of zeros, about 1 kB of file for each of them.

    A flushed block of deflate can be repeated: nothing is compressed twice.
    """
    start = zlib.compressobj(9, zlib.DEFLATED, -15)
    beginning = start.compress(head) + start.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = again.compress(bytes(MEBI)) + again.flush(zlib.Z_FULL_FLUSH)
    size = len(head) + mebibytes * MEBI
    return Member(name, beginning + block * mebibytes + b"\x03\x00", claimed if claimed is not None else size, 0)


def write_zip(path: Path, members: Sequence[Member], *, once: bool = False) -> None:
    """A ZIP file of these members; with ``once`` only the first is stored, and every entry points at it."""
    body, directory = bytearray(), bytearray()
    for position, member in enumerate(members):
        name = member.name.encode()
        fields = struct.pack(
            "<HHHHHIIIHH",
            20,
            member.flags,
            member.method,
            0,
            0,
            member.crc,
            len(member.stored),
            min(member.size, 0xFFFFFFFF),
            len(name),
            0,
        )
        offset = 0 if once else len(body)
        if position == 0 or not once:
            body += b"PK\x03\x04" + fields + name + member.stored
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(bytes(body + directory) + b"PK\x05\x06" + end)


def npy_header(shape: object, dtype: object = "<f4", *, fortran: bool = False) -> bytes:
    """The first bytes of a ``.npy`` file, whatever they claim."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def safetensors(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with this header; ``length`` is what its first eight bytes claim instead of the truth."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def png(width: int, height: int, data: bytes | None = None, *, chunks: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A grey PNG of this size on paper; ``data`` is its deflated content, by default that of one white line."""
    content = zlib.compress(b"\x00" + b"\xff" * width) if data is None else data

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    inner = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + inner + chunk(b"IDAT", content) + chunk(b"IEND", b"")


class Payload:
    """An object that, when it is unpickled, makes a file called ``it-ran`` beside the one it came from."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, (f"open({str(self._flag)!r}, 'w').close()",)


def payload(path: Path, protocol: int = 2) -> bytes:
    return pickle.dumps(Payload(flag_beside(path)), protocol)


def flag_beside(path: Path) -> Path:
    return path.parent / "it-ran"


def black(width: int, height: int) -> bytes:
    """The deflated content of a black grey picture, made in little memory."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(width + 1)) for _ in range(height)), packer.flush()])


class Words(str):
    """Stands in a header as it is, without quotes."""

    __repr__ = str.__str__


def torch_save(path: Path, content: object, *, legacy: bool = False) -> None:
    import torch

    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def small_state(classes: int = 10) -> dict[str, Any]:
    from cist_core.zoo.architectures import ARCHITECTURES

    return dict(ARCHITECTURES["resnet8"].build(classes).state_dict())


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    return buffer.getvalue()


def parquet(**columns: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return make


def tensor(content: Callable[[], object]) -> Callable[[Path], None]:
    return lambda path: torch_save(path, content())
