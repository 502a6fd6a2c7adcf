"""A repository of data on the Hugging Face hub, through `datasets`: its splits, and one of them."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from cist_core.data.names import split_called
from cist_core.errors import CistError, first_line
from cist_core.installing import pip_install

PREFIX = "hf:"
_REPOSITORY = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
_NAME = re.compile(rf"(?P<repo>{_REPOSITORY})(:(?P<config>[\w.+-]+))?", re.ASCII)


def is_repository(name: str) -> bool:
    """Whether the hub could have a repository of this name: no path, no address.

    Example:
        >>> is_repository("openai-community/gpt2"), is_repository("../gpt2")
        (True, False)
    """
    return re.fullmatch(_REPOSITORY, name, re.ASCII) is not None and ".." not in name


def cached_folder(repository: str) -> Path | None:
    """Where the hub's cache on this machine has a model, without a look at the network; None where it has none."""
    if not is_repository(repository):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # the extra ``hf`` has gone, and what it has fetched is not read without it
        return None
    found = try_to_load_from_cache(repository, "config.json")
    return Path(found).parent if isinstance(found, str) else None


class HubRepository:
    """``hf:REPO`` or ``hf:REPO:CONFIG``; read from the cache of `datasets`, downloaded when that is asked for.

    Only the split that is read is prepared. No code of a repository runs: `datasets` has dropped scripts in version 4.

    Args:
        name: with the prefix.
        download: whether what is not in the cache may be fetched.
        extra: of this project, which brings `datasets`, for the error.

    Raises:
        CistError: for a name that is none.
    """

    def __init__(self, name: str, *, download: bool, extra: str = "hf") -> None:
        self.name, self._download, self._extra = name, download, extra
        match = _NAME.fullmatch(name.removeprefix(PREFIX))
        # `datasets` would open a folder of that name in the working directory.
        if match is None or not is_repository(match["repo"]) or Path(match["repo"]).exists():
            raise CistError(
                f"Expected '{name}' to name a repository of the Hugging Face hub, as in hf:ylecun/mnist or "
                "hf:OWNER/REPO:CONFIG; a folder on disk is given by its path, without 'hf:'."
            )
        self._repo, self._config = match["repo"], match["config"]

    @cached_property
    def _hub_splits(self) -> dict[str, str]:
        """The hub's name of every split, by ours."""
        names = self._ask("get_dataset_split_names", self._repo, self._config)
        return {split_called(str(name)): str(name) for name in names}

    @property
    def splits(self) -> tuple[str, ...]:
        """Our names of the splits."""
        return tuple(self._hub_splits)

    def load(self, split: str) -> Any:
        """One split, a ``datasets.Dataset``.

        Raises:
            CistError: if there is no such split, it is not here and may not be fetched, or cannot be.
        """
        if split not in self._hub_splits:
            raise CistError(f"'{self.name}' has no split '{split}'; there are: {', '.join(self.splits)}.")
        return self._ask("load_dataset", self._repo, self._config, split=self._hub_splits[split])

    def _ask(self, function: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of `datasets`, and turn whatever it raises into one sentence."""
        datasets = self._library()
        local = datasets.DownloadConfig(local_files_only=not self._download)
        try:
            return getattr(datasets, function)(*arguments, download_config=local, **options)
        except Exception as error:
            remedy = (
                "check the name and the connection"
                if self._download
                else "download it (--download on the command line, `download=True` in Python)"
            )
            raise CistError(f"The data set '{self.name}' cannot be opened ({first_line(error)}); {remedy}.") from error

    def _library(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise CistError(
                f"'{self.name}' is a data set of the Hugging Face hub, which the package datasets opens; "
                f"install it with {pip_install(self._extra)}."
            ) from error
        return datasets
