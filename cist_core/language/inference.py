"""From a language model, or two, and texts to token sets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from cist_core.cache_limit import cache_limit, keep_within_limit, mark_read
from cist_core.errors import CistError
from cist_core.language.analysis import token_pairs, token_set
from cist_core.language.batches import pad
from cist_core.language.models import LanguageModel
from cist_core.language.texts import Tokens
from cist_core.language.token_set import FORMAT, TokenFacts, TokenPair, TokenSet
from cist_core.language.vocabulary import shared_classes
from cist_core.logits.scratch import cache_dir
from cist_core.partial_files import remove_abandoned
from cist_core.progress import ProgressCallback

_RESULTS = re.compile(r"[0-9a-f]{64}\.safetensors")
"""Names of the files in the cache; see `_key`."""
PLACES_AT_ONCE = {"cpu": 2_048, "mps": 8_192, "cuda": 32_768}
"""Tokens and padding of a batch."""
_LOGITS_AT_ONCE = 1 << 24
"""Values of one chunk of logits: 64 MB in float32."""


def infer_tokens(
    model: LanguageModel,
    texts: Sequence[Tokens],
    *,
    cached: bool = True,
    progress: ProgressCallback | None = None,
) -> TokenSet:
    """What a model says of every token of the texts but their first ones, which nothing predicts.

    Tokens that do not count are in it too, and are marked. Classes that are no token of the tokenizer take no part. The
    result is cached (``CIST_CACHE``) by the digests of weights, tokenizer and texts.

    Args:
        model: any that opens.
        texts: of its tokenizer, none longer than it reads.
        cached: whether to look in the cache, and leave it there.
        progress: told how many tokens are done.

    Returns:
        The token set, text by text; ``sequences`` are their places in the list.

    Raises:
        CistError: if no text has two tokens, one contains a token that the model has no class for, or the cache has no
            room.
    """
    count = _count(texts)
    for text in texts:
        model.vocabulary.check_ids(text.ids)
    cache_limit()  # refused before the work, not after
    path = cache_dir() / "tokens" / f"{_key(model, texts)}.safetensors"
    if cached and path.is_file():
        try:
            found = TokenSet.load(path)
            mark_read(path)
            # The same weights may have been read under another name.
            return replace(found, provenance={**found.provenance, **_provenance(model)})
        except CistError:  # damaged, or of another version: it is made again
            pass
    chunks = ((logits, facts) for (logits,), facts in _chunks([model], texts))
    found = token_set(chunks, count=count, provenance=_provenance(model), progress=progress)
    if not cached:
        return found
    remove_abandoned(path.parent)
    found.save(path)
    found = TokenSet.load(path)
    keep_within_limit(path, _RESULTS)
    return found


def infer_pair(
    teacher: LanguageModel,
    student: LanguageModel,
    texts: Sequence[Tokens],
    *,
    progress: ProgressCallback | None = None,
) -> TokenPair:
    """The same of two models over one vocabulary, and their divergence at any two temperatures; not cached.

    Raises:
        CistError: as `infer_tokens`, or if their vocabularies are not one.
    """
    (pair,) = infer_pairs(teacher, [student], texts, progress=progress)
    return pair


def infer_pairs(
    teacher: LanguageModel,
    students: Sequence[LanguageModel],
    texts: Sequence[Tokens],
    *,
    progress: ProgressCallback | None = None,
) -> list[TokenPair]:
    """The same of several students under one teacher, which reads the texts once.

    Raises:
        CistError: as `infer_pair`.
    """
    for student in students:
        shared_classes(teacher.vocabulary, student.vocabulary)
    for text in texts:
        teacher.vocabulary.check_ids(text.ids)
    models = [teacher, *students]
    return token_pairs(
        _chunks(models, texts), count=_count(texts), provenances=list(map(_provenance, models)), progress=progress
    )


def _count(texts: Sequence[Tokens]) -> int:
    count = sum(max(0, len(text.ids) - 1) for text in texts)
    if not count:
        raise CistError("None of the texts has two tokens, so there is nothing to predict; give longer ones.")
    return count


def _provenance(model: LanguageModel) -> dict[str, str]:
    return {
        "teacher": model.name,
        "precision": model.precision,
        "weights_sha256": model.weights_sha256,
        "vocabulary_sha256": model.vocabulary.sha256,
    }


def _key(model: LanguageModel, texts: Sequence[Tokens]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {model.weights_sha256} {model.tokenizer_sha256} {model.dtype}".encode())
    digest.update(model.vocabulary.classes.tobytes())  # what takes no part is found from these, and may be found better
    for text in texts:
        digest.update(f"\n{len(text.ids)} {' '.join(text.roles)}\n".encode())
        digest.update(text.ids.tobytes() + text.counted.tobytes())
    return digest.hexdigest()


def _chunks(
    models: Sequence[LanguageModel], texts: Sequence[Tokens]
) -> Iterator[tuple[list[torch.Tensor], TokenFacts]]:
    """Logits of each model; classes that are no token are masked."""
    rows = max(1, _LOGITS_AT_ONCE // max(model.head.num_classes for model in models))
    places = min(PLACES_AT_ONCE[model.device.type] for model in models)
    for numbers in _batches([len(text.ids) for text in texts], places):
        batch = pad([texts[number] for number in numbers])
        found = batch.predictions(counted_only=False)
        with torch.inference_mode():
            hidden = [model.hidden_states(batch).flatten(0, 1)[found.places.to(model.device)] for model in models]
        for start in range(0, len(found.ids), rows):
            part = slice(start, start + rows)
            with torch.inference_mode():
                logits = [_logits(model, states[part]) for model, states in zip(models, hidden, strict=True)]
            of, at = found.texts[part].numpy(), found.positions[part].numpy()
            roles, counted = zip(
                *((texts[numbers[t]].roles[p], texts[numbers[t]].counted[p]) for t, p in zip(of, at, strict=True)),
                strict=True,
            )
            yield (
                logits,
                TokenFacts(
                    found.ids[part].numpy(), np.asarray(numbers)[of], at, np.asarray(roles), np.asarray(counted)
                ),
            )


def _logits(model: LanguageModel, states: torch.Tensor) -> torch.Tensor:
    logits = model.head.logits(states).cpu()
    logits[:, np.setdiff1d(np.arange(model.vocabulary.size), model.vocabulary.classes)] = -torch.inf
    return logits


def _batches(lengths: Sequence[int], places: int) -> Iterator[list[int]]:
    """Texts one after the other, as many as fit with padding; those of one token predict nothing."""
    batch: list[int] = []
    for number, length in enumerate(lengths):
        if length < 2:
            continue
        if batch and (len(batch) + 1) * max(length, *(lengths[one] for one in batch)) > places:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
