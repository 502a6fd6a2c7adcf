"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cist_core.errors import CistError


def own_folder(variable: str, kind: Literal["cache", "data"], *below: str) -> Path:
    """Where the project keeps files of its own: where an environment variable says, or in the user's folder.

    Args:
        variable: its name, such as ``CIST_CACHE``.
        kind: which of the user's folders; what lies in the cache can be made again.
        below: folders below that of the project, unless the variable is set.
    """
    override = os.environ.get(variable)
    if override:
        return Path(override).expanduser()
    import platformdirs

    find = platformdirs.user_cache_dir if kind == "cache" else platformdirs.user_data_dir
    return Path(find("cist-studio"), *below)


def write_whole(path: str | os.PathLike[str], write: Callable[[Path], object], *, what: str) -> None:
    """Let ``write`` fill a file beside ``path``, then give it that name; parent folders are made.

    Args:
        path: where the file goes; an older one there is replaced.
        write: called with the path to write to.
        what: names the content in the error, for example ``"The report"``.

    Raises:
        CistError: if the file cannot be written.
    """
    from safetensors import SafetensorError  # not an OSError, whatever the disk said

    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        write(partial)
        partial.chmod(mode)  # safetensors makes files that nobody else can read
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CistError(f"{what} cannot be written to {target} ({reason}); choose another place.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
