"""Callbacks that record logits inside other people's training loops; each module needs its framework installed."""

from __future__ import annotations

import os
from pathlib import Path


def path_of_rank(path: str | os.PathLike[str], rank: int, world_size: int) -> Path:
    """Where one process of a distributed run writes its own samples.

    Example:
        >>> path_of_rank("teacher.safetensors", 0, 1).name, path_of_rank("teacher.safetensors", 1, 4).name
        ('teacher.safetensors', 'teacher-rank1.safetensors')
    """
    whole = Path(path)
    return whole if world_size == 1 else whole.with_name(f"{whole.stem}-rank{rank}{whole.suffix}")
