"""Files of the Hugging Face hub: from its cache on this machine, or downloaded when the user asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cist_core.data.hub_repository import PREFIX, is_repository
from cist_core.errors import CistError, first_line
from cist_core.zoo.foreign.wrapping import require


def fetch_file(repository: str, name: str, *, download: bool) -> Path:
    """One file of a repository.

    Raises:
        CistError: if it is not on this machine and may not be, or cannot be, downloaded.
    """
    (hub,) = require("hf", "huggingface_hub", purpose="A teacher from the Hugging Face hub")
    try:
        return Path(hub.hf_hub_download(repository, name, local_files_only=not download))
    except Exception as error:  # the hub's client fails with its own errors and those of its network library
        raise _not_there(repository, error, download) from error


def fetch_folder(repository: str, patterns: list[str], *, download: bool) -> Path:
    """The files of a repository that match the patterns, in one folder.

    Raises:
        CistError: for a name that is none, and as `fetch_file`.
    """
    if not is_repository(repository):
        raise CistError(f"Expected a repository of the Hugging Face hub, {PREFIX}OWNER/NAME, but got '{repository}'.")
    (hub,) = require("hf", "huggingface_hub", purpose="A teacher from the Hugging Face hub")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=patterns, local_files_only=not download))
    except Exception as error:  # see above
        raise _not_there(repository, error, download) from error


def _not_there(repository: str, error: Any, download: bool) -> CistError:
    if download:
        return CistError(
            f"https://huggingface.co/{repository} cannot be downloaded ({first_line(error)}); check the name, the "
            "network, and whether it needs an account (HF_TOKEN)."
        )
    return CistError(
        f"The weights of {repository} are not on this machine; fetch them from https://huggingface.co/{repository} "
        "with --download (`download=True` in Python)."
    )
