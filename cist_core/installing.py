"""How an optional part is installed, for errors to say."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def pip(arguments: str) -> str:
    """A command of the pip that belongs to the Python that runs.

    That of a virtual environment which is not active, as ``make`` builds one, is named from the folder that holds it:
    the ``pip`` of the shell is another one's.
    """
    prefix = Path(sys.prefix)
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return f"pip {arguments}"
    python = prefix.name + ("\\Scripts\\python" if os.name == "nt" else "/bin/python")
    return f"{shlex.quote(python)} -m pip {arguments}"


def pip_install(extra: str) -> str:
    """The command that adds an extra of ``cist-studio``."""
    return pip(f"install 'cist-studio[{extra}]'")
