"""Checkpoints: each file whole or not there, the last two kept, no code run when one is read."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch

from cist_core.errors import CistError
from cist_core.files import write_whole

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after ``step`` steps, then remove all but the last two.

    Raises:
        CistError: if it cannot be written; the ones before it are left alone.
    """
    content = io.BytesIO()  # torch's own writer has no words for a full disk
    torch.save(state, content)
    path = folder / f"step-{step:09d}.pt"
    write_whole(path, lambda file: file.write_bytes(content.getbuffer()), what="The checkpoint", make_folders=False)
    for old in _newest_first(folder)[KEPT:]:
        with contextlib.suppress(OSError):
            old.unlink()


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; None if there is none at all.

    Raises:
        CistError: if there are checkpoints, but none can be read.
    """
    found = _newest_first(folder)
    for path in found:
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged archive can fail in any way
            continue
        return state
    if found:
        raise CistError(f"None of the checkpoints in {folder} can be read; start anew in another --run-dir.")
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)
