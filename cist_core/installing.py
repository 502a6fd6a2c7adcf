"""How an optional part is installed, for errors to say."""

from __future__ import annotations

import sys
from pathlib import Path


def pip_install(extra: str) -> str:
    """The command that adds an extra to the Python that runs.

    A virtual environment below the working directory, such as the one that ``make`` builds, is named: the ``pip`` of a
    shell in which it is not active belongs to another Python.

    Args:
        extra: of the distribution ``cist-studio``.
    """
    prefix, here = Path(sys.prefix), Path.cwd()
    own = prefix.is_relative_to(here) and prefix != here
    python = f"{Path(sys.executable).relative_to(here)} -m " if own else ""
    return f"{python}pip install 'cist-studio[{extra}]'"
