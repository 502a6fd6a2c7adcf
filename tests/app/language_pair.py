"""The language models that ship, as far as their cards: where a test reads no weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cist_core.cards import sample_models_folder

_CARD = {"vocabulary": 4096, "data": "old texts", "licence": "MIT", "nll": {"test": 4.0}}


def put_pair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the shipped models in ``folder``, with the cards of the pair among them."""
    shipped = sample_models_folder()
    assert shipped is not None
    (folder / "language").mkdir(parents=True)
    for path in shipped.iterdir():
        if path.is_dir() and path.name != "language":
            (folder / path.name).symlink_to(path)
    (folder / "language" / "texts").symlink_to(shipped / "language" / "texts")
    for name, role, parameters in (
        ("scripture-gpt", "teacher", 3_400_000),
        ("scripture-gpt-small", "student", 850_000),
    ):
        (folder / "language" / name).mkdir()
        card = {**_CARD, "title": f"The {role}", "role": role, "parameters": parameters}
        (folder / "language" / name / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(folder))
