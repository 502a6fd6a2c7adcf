"""``python -m cist_core``: the same as ``cist``."""

from cist_core.cli import console

console()
