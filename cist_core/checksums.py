"""The checksum in our own safetensors files: of everything that is in them, compared when they are opened.

The format has none of its own, and reads flipped bits as other numbers. Files of others, and of our earlier versions,
have no checksum and are opened without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cist_core.errors import CistError

CHECKSUM = "cist_sha256"
"""The name of the checksum among a file's metadata."""
PENDING = "?" * 64
"""Keeps the room in a file that is still being filled."""


def checksum(metadata: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a file's metadata, the checksum itself aside, and of the digests of its tensors, by name.

    The file's own header is not hashed as it stands: its order is no part of the content.
    """
    rest = {name: value for name, value in metadata.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps([rest, dict(digests)], sort_keys=True).encode()).hexdigest()


def tensor_digest(dtype: str, shape: tuple[int, ...], content: Any) -> str:
    """SHA-256 (hex) of a tensor: type, shape and bytes, which are given as a contiguous buffer."""
    digest = hashlib.sha256(f"{dtype}{shape}".encode())
    digest.update(content)
    return digest.hexdigest()


def compare(source: object, metadata: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Refuse a file whose content is not what was written, if its checksum tells.

    Raises:
        CistError: naming the file.
    """
    if CHECKSUM in metadata and metadata[CHECKSUM] != checksum(metadata, digests):
        raise CistError(
            f"{source} is damaged: its content does not have the checksum that was written with it; write the file "
            "again, or restore it from a copy."
        )
