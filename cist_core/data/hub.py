"""Images of the Hugging Face hub, through `datasets` (extra ``hf``)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from cist_core.data.collection import DataDescription, Loaded
from cist_core.data.hub_repository import HubRepository
from cist_core.data.table_layout import find_layout
from cist_core.data.tables import ArrowRows, TableImages, TableRows, Tables


class HubDataset(Tables):
    """``hf:REPO`` or ``hf:REPO:CONFIG``; see `HubRepository`."""

    kind: ClassVar[str] = "data set of the Hugging Face hub"

    def __init__(self, name: str, *, download: bool) -> None:
        """Raises CistError for a name that is none, or without the extra ``hf``."""
        self.path = Path(name)
        self._hub = HubRepository(name, download=download)
        self._opened: dict[str, TableRows] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return self._hub.splits

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
        dataset = self._hub.load(split)
        name = self._hub.name
        return ArrowRows(dataset.data.table, find_layout(dataset.features.arrow_schema, name), name)
