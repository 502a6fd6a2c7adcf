"""Let a language model read a text, and keep what it expected: a token set, and its passages as people read them.

    python -m cist_core.language.reading TEXT FOLDER MODEL [STUDENT]

Started by the app, which shows what comes to lie in the folder and loads neither torch nor the model. The process has a
limit on its memory, on the time for opening the models, and on the time for the text.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core.errors import CistError, first_line
from cist_core.files import write_whole
from cist_core.language.passage import LONGEST, describe
from cist_core.language.sources import tokens_for
from cist_core.language.texts import Tokens, load_texts, remarks
from cist_core.language.token_set import TokenPair, TokenSet
from cist_core.process_limits import limit_memory, limit_time
from cist_core.wording import byte_size

if TYPE_CHECKING:
    from cist_core.language.models import LanguageModel

TOKENS, PAIR, BEFORE, INDEX, FAULT = "tokens.safetensors", "pair", "before", "index.json", "fault.txt"
"""Of a reading: the token set of one model, or the folder of the pair of two; that of the teacher and the untrained
student; what there is; why there is nothing."""
MOST_TOKENS = 8_192
"""Of one reading."""
AT_ONCE = 4
"""Readings that are made at a time, for everybody together."""
OPENING_SECONDS, SECONDS = 900, 300
"""That opening the models may take, which converts one in GGUF the first time; and then the reading of the text."""


def read(text: Path, folder: Path, *models: LanguageModel) -> None:
    """Write a reading of a text into a folder; its index comes last.

    Args:
        text: a file, see `read_texts`.
        folder: where to.
        models: one, perhaps a student beside it, and perhaps that student before its training.

    Raises:
        CistError: if the text cannot be read, or the folder not be written.
    """
    from cist_core.language.inference import infer_pairs, infer_tokens

    teacher, *students = models
    parts = tokens_for(models, load_texts(text))
    texts, cut = _first([part for part in parts if len(part.ids) > 1], MOST_TOKENS)
    if not texts:
        raise CistError("The text has fewer than two tokens, and each is predicted from those before it; give more.")
    found: TokenSet | TokenPair
    before: TokenPair | None = None
    if students:
        found, *others = infer_pairs(teacher, students, texts)
        found.save(folder / PAIR)
        for before in others:
            before.save(folder / BEFORE)
    else:
        found = infer_tokens(teacher, texts, cached=False)
        found.save(folder / TOKENS)
    passages: list[dict[str, Any]] = []
    for number, part in enumerate(texts):
        for start in range(0, len(part.ids), LONGEST):
            file = f"passage-{len(passages)}.json"
            shown = describe(found, part, teacher.tokenizer, before=before, sequence=number, start=start)
            _write(folder / file, json.dumps(shown))
            passages.append({"file": file, "sequence": number, "start": start})
    said = remarks(texts)
    if cut:
        said = [*said, f"The last {cut:,} tokens are left out: a reading has {MOST_TOKENS:,} at most."]
    index = {
        "models": [{"title": model.name, "precision": model.precision} for model in models],
        "remarks": said,
        "passages": passages,
    }
    _write(folder / INDEX, json.dumps(index))


def _first(texts: Sequence[Tokens], most: int) -> tuple[list[Tokens], int]:
    """Whole texts of so many tokens in all, at least one, and how many tokens that could be predicted are left out."""
    total, kept = 0, 0
    for text in texts:
        if kept and total + len(text.ids) > most:
            break
        total, kept = total + len(text.ids), kept + 1
    return list(texts[:kept]), sum(len(text.ids) - 1 for text in texts[kept:])


def _write(path: Path, content: str) -> None:
    write_whole(path, lambda partial: partial.write_text(content, encoding="utf-8"), what="The passage", durable=False)


def read_within_limits(
    text: Path, folder: Path, names: str, open_models: Callable[[], Sequence[LanguageModel]]
) -> None:
    """`read`, as the whole work of a process: within its limits; what went wrong is left in the folder as a sentence.

    Args:
        text: as in `read`.
        folder: as in `read`.
        names: what the models are called.
        open_models: opens them, which has a limit of its own: no text is too long because a model had to be converted.
    """

    def work() -> None:
        limit_time(
            OPENING_SECONDS,
            f"{names} could not be opened within {OPENING_SECONDS // 60} minutes; try again when the machine has less "
            "to do, or use a smaller model.",
        )
        models = open_models()
        limit_time(SECONDS, f"The text was not read within {SECONDS} seconds; give a shorter one.")
        read(text, folder, *models)

    try:
        fault = _fault_of(work, limit_memory(AT_ONCE))
    except CistError as error:
        fault = str(error)
    if fault is not None:
        _write(folder / FAULT, fault)


def main() -> None:
    text, folder, *references = sys.argv[1:]
    read_within_limits(Path(text), Path(folder), " and ".join(references), lambda: _open(references))


def _open(references: Sequence[str]) -> list[LanguageModel]:
    from cist_core.language.models import open_language_model

    return [open_language_model(reference) for reference in references]


def _fault_of(work: Callable[[], None], allowed: int | None) -> str | None:
    """Do it; returns why it could not be done, or None.

    Args:
        work: to do.
        allowed: bytes of memory that it may take; None for no limit.
    """
    try:
        work()
    except CistError as error:
        return str(error)
    except Exception as error:  # a library that failed in a way that nobody foresaw
        traceback.print_exc()  # into the log of the folder
        if isinstance(error, MemoryError) or any(word in str(error) for word in ("allocate memory", "out of memory")):
            limit = "there is" if allowed is None else f"the {byte_size(allowed)} that reading may take here"
            return f"Reading the text needs more memory than {limit}; give a shorter one, or raise CIST_ADDED_MEMORY."
        return f"The text cannot be read ({type(error).__name__}: {first_line(error)})."
    return None


if __name__ == "__main__":
    main()
