"""Data sets of the Hugging Face hub, through `datasets` (extra ``hf``)."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cist_core.data.collection import DataDescription, Loaded
from cist_core.data.names import split_called
from cist_core.data.table_layout import find_layout
from cist_core.data.tables import ArrowRows, TableImages, TableRows, Tables
from cist_core.errors import CistError, first_line

PREFIX = "hf:"
# As the hub has it: no path, no address.
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?)(:(?P<config>[\w.+-]+))?", re.ASCII)


class HubDataset(Tables):
    """``hf:REPO`` or ``hf:REPO:CONFIG``; read from the cache of `datasets`, downloaded when that is asked for.

    Only the split that is read is prepared. No code of a repository runs: `datasets` has dropped scripts in version 4.
    """

    kind: ClassVar[str] = "data set of the Hugging Face hub"

    def __init__(self, name: str, *, download: bool) -> None:
        """Raises CistError for a name that is none, or without the extra ``hf``."""
        self.path = Path(name)
        self._text, self._download = name, download
        match = _NAME.fullmatch(name.removeprefix(PREFIX))
        # `datasets` would open a folder of that name in the working directory.
        if match is None or ".." in match["repo"] or Path(match["repo"]).exists():
            raise CistError(
                f"Expected '{name}' to name a repository of the Hugging Face hub, as in hf:ylecun/mnist or "
                "hf:OWNER/REPO:CONFIG; a folder on disk is given by its path, without 'hf:'."
            )
        self._repo, self._config = match["repo"], match["config"]
        self._opened: dict[str, TableRows] = {}

    @cached_property
    def _hub_splits(self) -> dict[str, str]:
        """The hub's name of every split, by ours."""
        names = self._ask("get_dataset_split_names", self._repo, self._config)
        return {split_called(str(name)): str(name) for name in names}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._hub_splits)

    @property
    def unused(self) -> tuple[str, ...]:
        return super().unused if self._opened else ()  # known once a split is here

    @property
    def class_order(self) -> str | None:
        return super().class_order if self._opened else None  # known once a split is here

    def describe(self) -> DataDescription:
        """Names only: their sizes and classes are known once they are here."""
        return DataDescription(self.kind, dict.fromkeys(self.splits), None, None, None)

    def read(self, split: str) -> Loaded:
        from datasets import config

        self._opened = {split: self._rows(split)}
        labels, names = self._labels
        rows = self._opened[split]
        return TableImages(rows, np.arange(len(rows)), (Path(config.HF_DATASETS_CACHE),)), labels[split], names

    def _open(self) -> dict[str, TableRows]:
        return self._opened

    def _rows(self, split: str) -> TableRows:
        dataset = self._ask("load_dataset", self._repo, self._config, split=self._hub_splits[split])
        table = dataset.data.table
        return ArrowRows(table, find_layout(dataset.features.arrow_schema, self._text), self._text)

    def _ask(self, function: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of `datasets`, and turn whatever it raises into one sentence."""
        datasets = _library(self._text)
        local = datasets.DownloadConfig(local_files_only=not self._download)
        try:
            return getattr(datasets, function)(*arguments, download_config=local, **options)
        except Exception as error:
            remedy = (
                "check the name and the connection"
                if self._download
                else "download it (--download on the command line, `download=True` in Python)"
            )
            raise CistError(f"The data set '{self._text}' cannot be opened ({first_line(error)}); {remedy}.") from error


def _library(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise CistError(
            f"'{name}' is a data set of the Hugging Face hub, which the package datasets opens; "
            "install it with pip install 'cist-studio[hf]'."
        ) from error
    return datasets
