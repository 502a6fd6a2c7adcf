"""What DistillKit (github.com/arcee-ai/DistillKit) captures of a teacher: the most probable classes of every token.

A capture is a folder of Parquet files. A row is a text: its tokens (``input_ids``), and columns of lists of lists with
one inner list for each token but the first, the distribution from which that token came. They have three layouts:

- *Plain*: ``token_ids`` and ``top_values``, k classes and their log-probabilities.
- *Packed*: two columns of bytes, whose sizes follow from ``compression_config.yaml`` beside the files.
  ``bytepacked_indices`` has k classes, the most probable first, each in the bits that ``d - 1`` needs, high bits first;
  zeros fill up the last byte. ``compressed_logprobs`` has, with the low byte of each number first: ``exact_k``
  log-probabilities of the type ``exact_dtype`` (with ``delta_encoding`` the first, and of each further one what it
  adds to that before it); a number of ``term_dtype`` for each of ``polynomial_terms``, a curve through the other
  ``k - exact_k``; and for each of ``residual_bins`` a scale and ``num_elements`` whole numbers of ``element_bits`` bits
  for what the curve misses.
- *Earlier*: ``packed_indices``, ``exact_values`` and ``coeffs``. Whether their values are log-probabilities, or logits
  less their mean, is not said anywhere, so they are refused.

By how much a curve misses, rounded remainders and all, is not stored, and so bounds nothing. Of the packed layout only
the exact log-probabilities are read; the classes whose log-probabilities are fitted belong to the tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.documents import parse_yaml, read_document
from cist_core.errors import CistError, first_line
from cist_core.logits.files.columns import Kind
from cist_core.logits.files.limits import ReadingLimits
from cist_core.logits.files.opening import errors_naming
from cist_core.logits.files.tables import ParquetTable, Table

CONFIG = "compression_config.yaml"
TOKENS = "input_ids"
PLAIN, PACKED, EARLIER = (
    ("token_ids", "top_values"),
    ("bytepacked_indices", "compressed_logprobs"),
    ("packed_indices", "exact_values", "coeffs"),
)
NO_TOKEN = -1
"""Where a distribution predicts a token that is not there."""

_STORE_PLAINLY = "store DistillKit's 'token_ids' and 'top_values' instead"
_TEXTS = 16  # that are in memory at once
_VALUES = 1 << 20


@dataclass(frozen=True)
class _Float:
    """A type of numbers: how NumPy reads its bytes, and the distance from 1 to the next one."""

    code: str
    step: float

    @property
    def size(self) -> int:
        return np.dtype(self.code).itemsize

    def read(self, raw: NDArray[np.uint8]) -> NDArray[np.float64]:
        """``(N, k)`` numbers of ``(N, k * size)`` bytes."""
        numbers = np.ascontiguousarray(raw).view(self.code)
        if self.code == "<u2":  # bfloat16, the upper half of a float32, which NumPy does not have
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers.astype(np.float64)


_FLOATS = {
    "float16": _Float("<f2", 2.0**-10),
    "bfloat16": _Float("<u2", 2.0**-7),
    "float32": _Float("<f4", 2.0**-23),
    "float64": _Float("<f8", 2.0**-52),
}


@dataclass(frozen=True)
class Packing:
    """What the bytes of a packed capture are, from its `CONFIG`.

    Attributes:
        classes: ``d``, among which the k most probable are.
        k: how many of them each token has.
        exact_k: of how many the log-probability is stored itself.
        exact_dtype: as which type.
        differences: whether each but the first is stored as its difference from the one before.
        log_prob_bytes: of ``compressed_logprobs``, a token.
    """

    classes: int
    k: int
    exact_k: int
    exact_dtype: str
    differences: bool
    log_prob_bytes: int

    @property
    def id_bits(self) -> int:
        return (self.classes - 1).bit_length()

    @property
    def id_bytes(self) -> int:
        return -(-self.k * self.id_bits // 8)

    @classmethod
    def of(cls, config: Any) -> Packing:
        """From the content of the file; what is left out is as DistillKit has it then.

        Raises:
            CistError: for anything that it cannot be, or a capture without exact log-probabilities.
        """
        if not isinstance(config, Mapping):
            raise CistError(f"Expected the names and values of a capture's packing, but got {str(config)!r:.60}.")
        classes, k, exact_k = _whole(config, "d", 2), _whole(config, "k", 1), _whole(config, "exact_k", 0)
        if not exact_k <= k <= classes:
            raise CistError(f"Expected exact_k <= k <= d, but got {exact_k:,}, {k:,} and {classes:,}.")
        differences = config.get("delta_encoding", True)
        if not isinstance(differences, bool):
            raise CistError(f"Expected delta_encoding to be true or false, but got {differences!r:.60}.")
        dtype = _dtype(config, "exact_dtype", "float32")
        terms = len(_items(config, "polynomial_terms"))
        size = exact_k * _FLOATS[dtype].size + terms * _FLOATS[_dtype(config, "term_dtype", "float32")].size
        for each in _items(config, "residual_bins"):
            if not isinstance(each, Mapping):
                raise CistError(f"Expected each of residual_bins to have names and values, but got {each!r:.60}.")
            bits = _whole(each, "element_bits", 1) * _whole(each, "num_elements", 1)
            size += _FLOATS[_dtype(each, "scale_dtype", None)].size + -(-bits // 8)
        if not exact_k:
            raise CistError(
                "exact_k is 0: all log-probabilities are fitted, and by how much they miss is not stored; capture with "
                f"an exact_k of 16 or more, or {_STORE_PLAINLY}."
            )
        return cls(classes, k, exact_k, dtype, differences, size)

    def read(self, id_bytes: NDArray[np.uint8], log_prob_bytes: NDArray[np.uint8]) -> tuple[Any, Any]:
        """The classes whose log-probabilities are exact, and these: ``(N, exact_k)`` both.

        Raises:
            CistError: if the bytes are more or fewer than these, or log-probabilities rise.
        """
        for name, found, expected in zip(
            PACKED, (id_bytes, log_prob_bytes), (self.id_bytes, self.log_prob_bytes), strict=True
        ):
            if found.shape[1] != expected:
                raise CistError(
                    f"'{name}' has {found.shape[1]:,} bytes a token, and {CONFIG} makes {expected:,} of "
                    f"d {self.classes:,}, k {self.k:,} and exact_k {self.exact_k:,}; put the one beside the files with "
                    "which they were written."
                )
        kind = _FLOATS[self.exact_dtype]
        log_probs = kind.read(log_prob_bytes[:, : self.exact_k * kind.size])
        if self.differences:
            log_probs = np.cumsum(log_probs, axis=1)
        before, after = log_probs[:, :-1], log_probs[:, 1:]
        if (after > before + kind.step * (1 + np.abs(before))).any():
            raise CistError(
                f"the log-probabilities of a token rise, and those of DistillKit fall; put the {CONFIG} beside the "
                "files with which they were written."
            )
        return self._ids(id_bytes), log_probs

    def _ids(self, raw: NDArray[np.uint8]) -> NDArray[np.int64]:
        wanted = self.exact_k * self.id_bits
        ids = np.empty((len(raw), self.exact_k), np.int64)
        step = max(1, _VALUES // wanted)
        for start in range(0, len(raw), step):
            bits = np.unpackbits(raw[start : start + step], axis=1, count=wanted)
            words = np.zeros((len(bits), self.exact_k, 32), np.uint8)
            words[..., 32 - self.id_bits :] = bits.reshape(len(bits), self.exact_k, self.id_bits)
            ids[start : start + step] = np.packbits(words, axis=-1).view(">u4")[..., 0]
        return ids


@dataclass(frozen=True)
class Capture:
    """What was read of a capture.

    Attributes:
        ids: ``(N, k)``, the classes whose log-probabilities are exact.
        log_probs: ``(N, k)``.
        stored_as: the type to which these were rounded; None where their digits tell.
        classes: among which the most probable were, or None.
        tokens: ``(N,)``, the one that each row predicts, `NO_TOKEN` where none is there; or None.
        said: what was read, as text.
    """

    ids: NDArray[Any]
    log_probs: NDArray[Any]
    stored_as: str | None
    classes: int | None
    tokens: NDArray[np.int64] | None
    said: str


def layout_of(table: Table) -> tuple[str, ...] | None:
    """The columns of lists of lists by which a table is a capture, or None."""
    nested = {name for place, name in enumerate(table.names) if table.known_kinds.get(place) is Kind.OTHER}
    return next((layout for layout in (PACKED, PLAIN, EARLIER) if nested.issuperset(layout)), None)


def capture_files(source: Path) -> list[Path]:
    """The Parquet files of a folder in the order of their numbers, or the one file."""
    if source.is_dir():
        return sorted(source.glob("*.parquet"), key=lambda path: (len(path.name), path.name))
    return [source] if source.suffix.lower() == ".parquet" else []


def read_capture(source: Path, limits: ReadingLimits) -> Capture:
    """Read a capture, or one file of it.

    Raises:
        CistError: if there is none, it has the earlier layout, or its columns and its config do not fit.
    """
    files = capture_files(source)
    if not files:
        raise CistError(f"There is no Parquet file in {source}.")
    config = (source if source.is_dir() else source.parent) / CONFIG
    parts: list[tuple[Any, Any, Any]] = []
    layouts = set()
    packing, count = None, 0
    for path in files:
        with errors_naming(path):
            table = ParquetTable(path, limits, nested=True)
            layout = layout_of(table)
            layouts.add(_readable(layout, table.names))
            if layout == PACKED and packing is None:
                packing = _packing(config, limits)
            for texts in _texts(table, layout or (), limits):
                parts.append(_part(texts, packing if layout == PACKED else None))
                count += len(parts[-1][0])
                limits.check_shape((count, parts[-1][0].shape[1]), "the capture")
    if len(layouts) > 1 or len({ids.shape[1] for ids, *_ in parts}) > 1:
        raise CistError(f"the files of {source} do not hold as many classes a token in one layout; read them singly.")
    if not parts:
        raise CistError(f"{source} holds no text of two tokens, so it has no distribution.")
    ids, log_probs = (np.concatenate(each) for each in list(zip(*parts, strict=True))[:2])
    tokens = None if any(each[2] is None for each in parts) else np.concatenate([each[2] for each in parts])
    if packing is None:
        return Capture(ids, log_probs, None, None, tokens, "DistillKit's plain layout")
    said = f"DistillKit's packed layout, {packing.exact_k:,} of {packing.k:,} classes a token"
    if packing.exact_k < packing.k:
        said += "; the log-probabilities of the others are fitted, so these belong to the tail"
    if packing.exact_dtype == "float32":  # which may hold what a bfloat16 teacher gave
        return Capture(ids, log_probs.astype(np.float32), None, packing.classes, tokens, said)
    return Capture(ids, log_probs, packing.exact_dtype, packing.classes, tokens, said)


def _readable(layout: tuple[str, ...] | None, names: Sequence[str]) -> tuple[str, ...]:
    if layout is None:
        raise CistError(
            f"found the columns {list(names)[:8]}, but neither {' and '.join(map(repr, PACKED))} nor "
            f"{' and '.join(map(repr, PLAIN))}, lists of lists, as DistillKit writes them."
        )
    if layout == EARLIER:
        raise CistError(
            "'packed_indices', 'exact_values' and 'coeffs' are DistillKit's earlier layout, which does not say whether "
            f"its values are log-probabilities or logits less their mean; {_STORE_PLAINLY}."
        )
    return layout


def _packing(path: Path, limits: ReadingLimits) -> Packing:
    try:
        packing = Packing.of(parse_yaml(read_document(path)))
    except FileNotFoundError as error:
        raise CistError(
            f"there is no {CONFIG} beside it, without which its bytes say nothing; DistillKit writes one into the "
            "folder of a capture, and where one is published its page has it as 'logprob_compressor'."
        ) from error
    except (OSError, ValueError) as error:
        raise CistError(f"{CONFIG} beside it cannot be read ({first_line(error, 200)}); write it again.") from error
    except CistError as error:
        raise CistError(f"{CONFIG} beside it: {error}") from error
    limits.check_shape((1, packing.classes), f"a token of {CONFIG}")
    return packing


@dataclass(frozen=True)
class _Texts:
    """Some rows of a file: their two columns flattened to one row a token, and how many that are in each text."""

    ids: NDArray[Any]
    log_probs: NDArray[Any]
    counts: NDArray[np.int64]
    tokens: list[NDArray[np.int64]] | None


def _texts(table: ParquetTable, layout: tuple[str, ...], limits: ReadingLimits) -> Iterator[_Texts]:
    columns = [*layout, *([TOKENS] if TOKENS in table.names else [])]
    for batch in table.batches(columns, rows=_TEXTS, limits=limits):
        first, counts = _flattened(batch.column(layout[0]), layout[0])
        second, also = _flattened(batch.column(layout[1]), layout[1])
        if not np.array_equal(counts, also):
            raise CistError(f"'{layout[0]}' and '{layout[1]}' have other numbers of tokens; write the file again.")
        if not len(first):
            continue
        tokens = batch.column(TOKENS).to_pylist() if TOKENS in columns else None
        if tokens and (batch.column(TOKENS).null_count or batch.column(TOKENS).flatten().null_count):
            raise CistError(f"'{TOKENS}' lacks some of its tokens; write the file again.")
        yield _Texts(first, second, counts, tokens and [np.asarray(each, np.int64) for each in tokens])


def _flattened(column: Any, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """``(tokens, width)`` of a column of lists of lists, and the tokens of each text."""
    import pyarrow.compute as pc

    inner = column.flatten()
    values = inner.flatten()
    widths = pc.list_value_length(inner).to_numpy(zero_copy_only=False)
    if column.null_count or inner.null_count or values.null_count or len(np.unique(widths)) > 1:
        raise CistError(f"'{name}' does not have as many values for each token, or some are missing.")
    counts = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    return values.to_numpy(zero_copy_only=False).reshape(len(inner), -1 if len(inner) else 0), counts


def _part(texts: _Texts, packing: Packing | None) -> tuple[Any, Any, Any]:
    """The classes, log-probabilities and predicted tokens of some texts."""
    ids, log_probs = texts.ids, texts.log_probs
    if packing is not None:
        ids, log_probs = packing.read(_as_bytes(ids, PACKED[0]), _as_bytes(log_probs, PACKED[1]))
    return ids, log_probs, None if texts.tokens is None else _predicted(texts.tokens, texts.counts)


def _as_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise CistError(f"'{name}' holds something else than bytes, whole numbers from 0 to 255; write it again.")
    return values.astype(np.uint8)


def _predicted(tokens: Sequence[NDArray[np.int64]], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    found = []
    for text, count in zip(tokens, counts, strict=True):
        if count not in (len(text) - 1, len(text)):
            raise CistError(
                f"a text of {len(text):,} tokens has {count:,} distributions; DistillKit writes one for each token but "
                "the first, so these belong to other tokens."
            )
        found.append(np.append(text[1:], NO_TOKEN)[:count])
    return np.concatenate(found)


def _whole(config: Mapping[Any, Any], name: str, least: int) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CistError(f"Expected {name} to be a whole number of {least} or more, but got {value!r:.60}.")
    return value


def _dtype(config: Mapping[Any, Any], name: str, otherwise: str | None) -> str:
    value = config.get(name, otherwise)
    if value not in _FLOATS:
        raise CistError(f"Expected {name} to be one of {', '.join(_FLOATS)}, but got {value!r:.60}.")
    return str(value)


def _items(config: Mapping[Any, Any], name: str) -> list[Any]:
    value = config.get(name) or []
    if not isinstance(value, list):
        raise CistError(f"Expected {name} to be a list, but got {value!r:.60}.")
    return value
