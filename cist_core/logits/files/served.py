"""Log-probabilities as vLLM's server answers them and axolotl's data sets keep them: the k most probable classes.

A record is an object of JSON, one a line (``.jsonl``), one or a list of them a file (``.json``), or a row of a Parquet
table. What is read of it, a list with one item for each token:

- ``prompt_logprobs`` (vLLM, of the answer or of each of its ``choices``): null for the first token, then an object from
  the number of a class to its ``logprob``. vLLM adds the token that stands in the prompt where it is none of the k.
- ``choices[].logprobs`` (vLLM, of what was generated): ``content`` with ``top_logprobs`` of each token in a chat,
  ``top_logprobs`` in a completion. Classes are their text there unless the server was asked for their numbers. The
  token that was drawn comes first, and in a chat takes the place of the last of the k where it is none of them.
- A field whose name ends in ``logprobs`` (axolotl's ``logprobs_field``): null, or a list of ``{"token": "token_id:7",
  "logprob": -0.1}``; or, with ``target_token_ids`` beside it, lists of numbers in both.
- ``target_logprobs``, ``target_token_ids`` and ``target_mask``: what axolotl prepares of them. It divides by the sum
  over the k classes unless told otherwise, which `refuse_renormalised` notices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.documents import MOST_BYTES, parse_json, read_document
from cist_core.errors import CistError, first_line
from cist_core.logits.files.columns import Kind
from cist_core.logits.files.distillkit import NO_TOKEN, PACKED
from cist_core.logits.files.limits import ReadingLimits
from cist_core.logits.files.tables import ParquetTable

ENDINGS = (".json", ".jsonl", ".parquet")
PREPARED, PREPARED_IDS, PREPARED_MASK = "target_logprobs", "target_token_ids", "target_mask"
LOOKED_AT = 100
"""Records among which one has to have log-probabilities: a server may have refused the first."""

_PREFIX = "token_id:"
_CLASS = re.compile(_PREFIX + "([0-9]{1,9})")
_ROWS = 16  # of a Parquet table that are in memory at once
_RENORMALISED = 1e-3


@dataclass(frozen=True)
class Served:
    """What was read.

    Attributes:
        ids: ``(N, k)``, classes of each position that has any.
        log_probs: ``(N, k)``, descending.
        tokens: ``(N,)``, the one that came, `NO_TOKEN` where it is not said; None where it is said of none.
        said: what was read and what was left out, as text.
    """

    ids: NDArray[np.int64]
    log_probs: NDArray[Any]
    tokens: NDArray[np.int64] | None
    said: str


def is_served(source: Path, limits: ReadingLimits) -> bool:
    """Whether one of the first records has a field of log-probabilities.

    Raises:
        CistError: if the file cannot be read.
    """
    if source.suffix.lower() not in ENDINGS or not source.is_file():
        return False
    return any(_has_any(record) for _, record in islice(_records(source, limits), LOOKED_AT))


def read_served(source: Path, limits: ReadingLimits) -> Served:
    """Read the log-probabilities of all records, one position after another.

    Raises:
        CistError: if there are none, or they are not what vLLM and axolotl write.
    """
    gathered = _Gathered()
    for where, record in _records(source, limits):
        try:
            gathered.add(_tracks(record))
        except CistError as error:
            raise CistError(f"{where}: {error}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error, 120)
            raise CistError(
                f"{where}: its log-probabilities are not as vLLM or axolotl writes them ({reason}); write the file "
                "again."
            ) from error
        limits.check_shape((gathered.values,), "the log-probabilities")
    return gathered.served()


def refuse_renormalised(sums: NDArray[Any]) -> None:
    """Refuse axolotl's `PREPARED` log-probabilities whose tail was divided away.

    Args:
        sums: of the probabilities of every row, ``(N,)``.

    Raises:
        CistError: if every one is 1.
    """
    if sums.size and (np.abs(sums - 1) < _RENORMALISED).all():
        raise CistError(
            f"the probabilities of '{PREPARED}' sum to 1 in every row: axolotl divides by their sum when it prepares a "
            "data set, and what the other classes had is lost; read the data set from before, with the field that its "
            "'logprobs_field' names."
        )


@dataclass(frozen=True)
class _Track:
    """The positions of one text: the name under which they were found, and one item each."""

    name: str
    positions: Sequence[Any]
    ids: Sequence[Any] | None = None
    mask: Sequence[Any] | None = None
    tokens: Sequence[Any] | None = None

    def rows(self) -> Iterator[tuple[list[int], list[float], int]]:
        """Classes, log-probabilities and token of each position; no classes where it has none."""
        ids, mask, tokens = (each or [None] * len(self.positions) for each in (self.ids, self.mask, self.tokens))
        for position, classes, counted, token in zip(self.positions, ids, mask, tokens, strict=True):
            came = NO_TOKEN if token is None else _class(token)
            if not position or (counted is not None and not np.any(counted)):
                yield [], [], came
            elif classes is not None:
                if len(classes) != len(position):
                    raise ValueError(f"it has {len(classes):,} classes and {len(position):,} log-probabilities")
                there = counted if isinstance(counted, list) else [True] * len(position)
                numbers = list(zip(classes, position, there, strict=True))
                yield (
                    [_class(one) for one, _, counts in numbers if counts],
                    [_number(value) for _, value, counts in numbers if counts],
                    came,
                )
            else:
                pairs = _most_probable(list(_pairs(position)), came)
                yield [each for each, _ in pairs], [value for _, value in pairs], came


@dataclass
class _Gathered:
    """The rows of all texts so far, each text cut to the classes that all its rows have."""

    ids: list[NDArray[np.int64]] = field(default_factory=list)
    log_probs: list[NDArray[np.float64]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    values: int = 0
    least: int = 0
    most: int = 0
    empty: int = 0
    short: int = 0
    without: int = 0

    def add(self, tracks: Sequence[_Track]) -> None:
        self.without += not tracks
        for track in tracks:
            rows = list(track.rows())
            most = max((len(ids) for ids, *_ in rows), default=0)
            self.empty += sum(not ids for ids, *_ in rows)
            self.short += sum(0 < 2 * len(ids) < most for ids, *_ in rows)
            rows = [row for row in rows if row[0] and 2 * len(row[0]) >= most]
            found = [_sorted(ids, values) for ids, values, _ in rows]
            if track.name not in self.names:
                self.names.append(track.name)
            if not found:
                continue
            k = min(len(ids) for ids, _ in found)
            self.ids.append(np.stack([ids[:k] for ids, _ in found]))
            self.log_probs.append(np.stack([values[:k] for _, values in found]))
            self.tokens += [token for *_, token in rows]
            if track.name == PREPARED:
                self.prepared += [float(np.exp(values).sum()) for _, values in found]
            self.values += k * len(found)
            self.least = min(self.least or k, k)
            self.most = max(self.most, most)

    def served(self) -> Served:
        if not self.ids:
            raise CistError(
                "found no log-probabilities; ask vLLM for 'prompt_logprobs' or 'logprobs' and store its answers, or "
                "give axolotl's data set with the field that its 'logprobs_field' names."
            )
        if self.prepared:
            refuse_renormalised(np.array(self.prepared))
        k = self.least
        said = f"{', '.join(map(repr, self.names))} of {_counted(len(self.ids), 'text')}, "
        said += f"{_counted(k, 'class', 'classes')} a position"
        if self.most > k:
            said += f"; where a position has up to {self.most:,}, the less probable ones belong to the tail"
        if self.empty:
            said += f"; {_counted(self.empty, 'position')} without any left out"
        if self.short:
            said += f"; {_counted(self.short, 'position')} with less than half as many left out"
        if self.without:
            said += f"; {_counted(self.without, 'record')} without any left out"
        values = np.concatenate([part[:, :k] for part in self.log_probs])
        single = values.astype(np.float32)  # what a server computes, written with all digits
        tokens = np.array(self.tokens, np.int64)
        return Served(
            np.concatenate([part[:, :k] for part in self.ids]),
            single if (single == values).all() else values,
            None if (tokens == NO_TOKEN).all() else tokens,
            said,
        )


def _sorted(ids: list[int], values: list[float]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.argsort(-np.array(values), kind="stable")
    return np.array(ids, np.int64)[order], np.array(values)[order]


def _has_any(record: Any) -> bool:
    """Whether something is said of log-probabilities, be it that there are none."""
    if not isinstance(record, Mapping):
        return False
    return any(_is_ours(str(name)) for answer in (record, *_choices(record)) for name in answer)


def _choices(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = record.get("choices")
    return [each for each in choices if isinstance(each, Mapping)] if isinstance(choices, list) else []


def _tracks(record: Any) -> list[_Track]:
    """What a record has: of the prompt before what was generated."""
    if not isinstance(record, Mapping):
        return []
    found = _field(record)
    prompt = None
    for choice in _choices(record):
        of_prompt = _field(choice)
        if of_prompt and of_prompt[0].positions != prompt:  # of several answers each has the prompt
            found += of_prompt
            prompt = of_prompt[0].positions
        found += _generated(choice)
    return found


def _field(answer: Mapping[str, Any]) -> list[_Track]:
    """The field of log-probabilities, one list a token; fields of one number a token are others."""
    named = {str(name): value for name, value in answer.items() if _is_ours(str(name)) and _lists(value)}
    if len(named) > 1:
        named.pop(PREPARED, None)
    if len(named) > 1:
        raise CistError(f"it has several fields of log-probabilities, {', '.join(map(repr, named))}; keep one of them.")
    found = []
    for name, positions in named.items():
        numbers = any(isinstance(each, list) and each and not isinstance(each[0], Mapping) for each in positions)
        ids = answer[PREPARED_IDS] if numbers else None
        found.append(_Track(name, positions, ids, answer.get(PREPARED_MASK) if name == PREPARED else None))
    return found


def _lists(positions: Any) -> bool:
    return isinstance(positions, list) and not any(isinstance(each, int | float | str) for each in positions)


def _generated(choice: Mapping[str, Any]) -> list[_Track]:
    given = choice.get("logprobs")
    if not isinstance(given, Mapping):
        return []
    if content := given.get("content"):
        tokens = [each["token"] for each in content]
        return [_Track("logprobs", [each["top_logprobs"] for each in content], tokens=tokens)]
    top = given.get("top_logprobs")
    return [_Track("logprobs", top, tokens=given["tokens"])] if top else []


def _pairs(position: Any) -> Iterator[tuple[int, float]]:
    """Of one position; of vLLM's, which have ranks, the token of the prompt only where it is among the first."""
    if isinstance(position, Mapping):
        for token, value in position.items():
            if not isinstance(value, Mapping):
                yield _class(token), _number(value)
            elif (rank := value.get("rank")) is not None and rank > len(position) == 1:
                raise CistError(
                    "a position has the prompt's own token alone; ask vLLM for 'prompt_logprobs' of 1 or more."
                )
            elif rank is None or rank <= len(position):
                yield _class(f"{_PREFIX}{token}"), _number(value["logprob"])
        return
    for each in position:
        yield _class(each["token"]), _number(each["logprob"])


def _most_probable(pairs: list[tuple[int, float]], drawn: int) -> list[tuple[int, float]]:
    """Without the token that was drawn where it is the least probable: it may be there for having been drawn."""
    if drawn == NO_TOKEN:
        return pairs
    least = min((value for token, value in pairs if token != drawn), default=math.inf)
    return [(token, value) for token, value in pairs if token != drawn or value >= least]


def _counted(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _class(token: Any) -> int:
    if isinstance(token, int) and not isinstance(token, bool):
        return token
    found = _CLASS.fullmatch(token) if isinstance(token, str) else None
    if found is None:
        raise CistError(
            f"the class {token!r:.60} is no 'token_id:NUMBER'; ask vLLM with 'return_tokens_as_token_ids', as two "
            "classes can have one text."
        )
    return int(found[1])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.60} is no number")
    return float(value)


def _records(source: Path, limits: ReadingLimits) -> Iterator[tuple[str, Any]]:
    """Each record, and where it stands."""
    ending = source.suffix.lower()
    if ending == ".parquet":
        table = ParquetTable(source, limits, nested=True)
        for number, row in enumerate(_rows_of(table, limits)):
            yield f"row {number:,}", row
    elif ending == ".jsonl":
        for number, line in enumerate(_lines(source), 1):
            if line.strip():
                yield f"line {number:,}", _parsed(line, f"line {number:,} ")
    else:
        content = _parsed(read_document(source), "it ")
        for number, record in enumerate(content if isinstance(content, list) else [content], 1):
            yield f"record {number:,}", record


def _rows_of(table: ParquetTable, limits: ReadingLimits) -> Iterator[Any]:
    nested = [name for place, name in enumerate(table.names) if table.known_kinds.get(place) is Kind.OTHER]
    if any(map(_is_ours, nested)):
        wanted = [name for name in table.names if _is_ours(name) or name in (PREPARED_IDS, PREPARED_MASK)]
        for batch in table.batches(wanted, rows=_ROWS, limits=limits):
            yield from batch.to_pylist()


def _is_ours(name: str) -> bool:
    return name.endswith("logprobs") and name not in PACKED


def _parsed(text: str | bytes, what: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise CistError(f"{what}cannot be read as JSON ({first_line(error, 200)}); write it again.") from error


def _lines(source: Path) -> Iterator[bytes]:
    with source.open("rb") as stream:
        while line := stream.readline(MOST_BYTES + 1):
            if len(line) > MOST_BYTES:
                raise CistError(f"a line has more than {MOST_BYTES:,} bytes; store one answer a line.")
            yield line
