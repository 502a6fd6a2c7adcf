"""What tells a run from all others that have a copy in a store."""

from __future__ import annotations

from cist_core.training.run_directory import RunDirectory

ID_FILE = "mirror-id"
"""Holds a text that no other run has, in the directory as in its copy: two runs may have the same config."""


def mirror_id(directory: RunDirectory) -> str | None:
    """What tells a run with a copy from all others; None for one that has never had any."""
    try:
        return (directory.path / ID_FILE).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
