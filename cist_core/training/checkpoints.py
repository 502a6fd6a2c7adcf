"""Checkpoints: each file whole or not there, the last two kept, checked and no code run when one is read."""

from __future__ import annotations

import contextlib
import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from cist_core.errors import CistError, first_line
from cist_core.files import write_whole

KEPT = 2

log = logging.getLogger("cist_core.training")


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
    """The newest checkpoint that is whole, on the CPU; None if there is none at all.

    Each array in the file has a checksum (CRC-32, of the zip format that torch writes), and all are compared first. A
    newer checkpoint that is passed over is said in the log and among the state's ``warnings``, and is renamed.

    Raises:
        CistError: if there are checkpoints, but none is whole.
    """
    passed: list[tuple[Path, str]] = []
    for path in _newest_first(folder):
        try:
            _check(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged archive can fail in any way
            passed.append((path, first_line(error)))
            continue
        for damaged, reason in passed:
            sentence = f"The checkpoint {damaged.name} is damaged ({reason}); the run goes on from {path.name} instead."
            log.warning("%s", sentence)
            state.setdefault("warnings", []).append(sentence)
            with contextlib.suppress(OSError):  # else it would count as one of the last two
                damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
        return state
    if passed:
        path, reason = passed[0]
        raise CistError(
            f"None of the checkpoints in {folder} can be read ({path.name}: {reason}); start anew in another --run-dir."
        )
    return None


def _check(path: Path) -> None:
    """Compare the checksums in the archive with its content.

    Raises:
        ValueError: if one differs.
        zipfile.BadZipFile: if it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} differs")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)
