"""The folders of this machine that visitors of the Studio may read from."""

from __future__ import annotations

import os
from pathlib import Path

from cist_core.errors import CistError


def roots() -> tuple[Path, ...]:
    """The folders that ``CIST_ROOTS`` names, separated as in ``PATH``; none unless somebody set it.

    A folder that is not there is left out.
    """
    named = (Path(text).expanduser() for text in os.environ.get("CIST_ROOTS", "").split(os.pathsep) if text.strip())
    return tuple(folder.resolve() for folder in named if folder.is_dir())


def under_roots(text: str) -> Path:
    """A path below one of the `roots`, with every symbolic link followed.

    Args:
        text: as a person typed it; a relative one is looked for in each root.

    Raises:
        CistError: if there are no roots, or the path is not there or leads out of them. The sentence is the same for a
            path that exists elsewhere and for one that does not, so that it tells nothing about this machine.
    """
    allowed = roots()
    if not allowed:
        raise CistError(
            "Paths on the server cannot be opened, because no folder is open to visitors; start the Studio with "
            "CIST_ROOTS set to the folders that may be read, or upload the file."
        )
    typed = Path(text.strip())
    for root in allowed:
        try:
            # Joined to an absolute path, the root falls away.
            found = (root / typed).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # not there, a loop of links, a NUL
            continue
        if any(found.is_relative_to(folder) for folder in allowed):
            return found
    raise CistError(f"There is no '{text}' in the folders that may be read: {', '.join(map(str, allowed))}.")
