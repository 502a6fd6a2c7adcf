"""What is kept of a language model's predictions, token by token, and read again at any temperature.

Of the logits over a vocabulary of V tokens, which would be 200 kB a token at V = 49,152, a token set keeps 2.5 kB: the
entropy curve and the logarithm of its partition function as a table, and the largest logits. No array has the size
tokens x V, and none V x V.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cist_core import kernels
from cist_core.checksums import CHECKSUM, checksum, compare, tensor_digest
from cist_core.documents import parse_json
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.files import file_state, write_whole
from cist_core.logits.absent_classes import listed
from cist_core.logits.logit_set import map_safetensors, safetensors_header

FloatArray = NDArray[np.float64]
FORMAT, PAIR_FORMAT = "cist-tokens-1", "cist-token-pair-2"
_CROSS, _TABLES = "cross.safetensors", ("cross", "reverse")
_LAYOUT = {
    "table": ("float32", "KN2"),
    "log_partition": ("float32", "KN"),
    "top": ("float32", "NT"),
    "top_ids": ("int32", "NT"),
    **dict.fromkeys(("maximum", "peak", "gap", "std", "shifted", "entropy", "log_partition_at_one"), ("float32", "N")),
    **dict.fromkeys(("rank", "ids", "sequences", "positions"), ("int32", "N")),
    **dict.fromkeys(("roles", "counted"), ("uint8", "N")),
}
"""Type and axes of each array in a file, besides the ratios: K of them, N tokens, T of the largest logits."""
_MAKE_AGAIN = "make the token set again from the model"


class TokenFacts(NamedTuple):
    """What is known of n tokens besides the logits that predict them.

    Attributes:
        ids: the actual tokens, which the rows predict, ``(n,)`` int64, numbers in the vocabulary.
        sequences: the number of the text that each is in, ``(n,)`` int64.
        positions: the place of each in its text, counted from 0, ``(n,)`` int64; the first token of a text is
            predicted by nothing, so it is none of these.
        roles: ``(n,)``, such as ``text``, ``prompt`` or ``response``.
        counted: ``(n,)`` boolean, whether predicting the token counts. It follows from lengths and roles, never from
            the token's id: padding may have the id of an end of text that counts.
    """

    ids: NDArray[np.int64]
    sequences: NDArray[np.int64]
    positions: NDArray[np.int64]
    roles: NDArray[np.str_]
    counted: NDArray[np.bool_]


class SoftTokens(NamedTuple):
    """The soft labels of n tokens, as far as they are known.

    Attributes:
        top: probabilities of `TokenSet.top_ids`, ``(n, T)`` float64, falling.
        actual: of the actual token, ``(n,)``.
        tail: of all tokens beyond the T largest together, ``(n,)``.
    """

    top: FloatArray
    actual: FloatArray
    tail: FloatArray


@dataclass(frozen=True, eq=False, repr=False)
class TokenSet:
    """N tokens as a language model predicts them, with its entropy curve for each.

    Build it with `cist_core.language.analysis.token_set` (one pass over the logits) or `TokenSet.load`. With
    ``d = z - max(z)`` over the V' tokens of the vocabulary that take part, and ``m`` the centred maximum,

        p_j(tau) = e^(d_j / tau - ln Z(m / tau)),    ln Z(r) = ln sum_j e^(r d_j / m).

    Attributes:
        facts: of the tokens, N of them.
        statistics: of the logits; ``top1`` is the number in the vocabulary.
        table: ``(N, K, 2)``, see `cist_core.kernels.curve_tables`; it may be memory-mapped.
        log_partition: ``ln Z``, ``(N, K)``.
        top: the T largest ``d``, falling from 0, ``(N, T)`` float32; T is 32, or V' if that is less.
        top_ids: their tokens, ``(N, T)`` int32.
        shifted: ``d`` of the actual token, ``(N,)`` float32.
        entropy: at temperature 1, in nats, ``(N,)`` float32.
        log_partition_at_one: ``ln Z`` at temperature 1, ``(N,)`` float32.
        rank: of the actual token, 1 for the most likely, ``(N,)`` int32.
        vocabulary_size: V.
        left_out: the tokens of the vocabulary that take no part, by number.
        provenance: where the logits came from, as text, their precision included.
    """

    facts: TokenFacts
    statistics: kernels.RowStatistics
    table: NDArray[np.float32]
    log_partition: NDArray[np.float32]
    top: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    shifted: NDArray[np.float32]
    entropy: NDArray[np.float32]
    log_partition_at_one: NDArray[np.float32]
    rank: NDArray[np.int32]
    vocabulary_size: int
    left_out: tuple[int, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def models(self) -> tuple[TokenSet]:
        """The token set of each model, as of a `TokenPair`: this one."""
        return (self,)

    @property
    def num_tokens(self) -> int:
        return len(self.rank)

    @property
    def num_classes(self) -> int:
        """V', the tokens of the vocabulary that take part."""
        return self.vocabulary_size - len(self.left_out)

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """The tokens of the vocabulary that take part, by number, ``(V',)``."""
        return np.delete(np.arange(self.vocabulary_size), np.asarray(self.left_out, np.int64))

    @property
    def nll(self) -> NDArray[np.float32]:
        """``-ln p`` of the actual tokens, at temperature 1, in nats, ``(N,)``."""
        return self.log_partition_at_one - self.shifted

    @property
    def log_sum_exp(self) -> NDArray[np.float32]:
        """``ln sum_j e^(z_j)``, ``(N,)``."""
        return self.statistics.peak + self.log_partition_at_one  # type: ignore[no-any-return]

    @property
    def mean(self) -> NDArray[np.float32]:
        """Of the logits that take part, ``(N,)``."""
        return self.statistics.peak - self.statistics.maximum  # type: ignore[no-any-return]

    def curves(self, *, counted_only: bool = True) -> EntropyCurves:
        """The entropy curves of the tokens, as all analysis of samples reads them; nothing is copied.

        Args:
            counted_only: leave out those whose prediction does not count, such as a prompt.

        Raises:
            CistError: if no token counts.
        """
        rows = np.flatnonzero(self.facts.counted) if counted_only else np.arange(self.num_tokens)
        if not len(rows):
            raise CistError(
                f"None of the {self.num_tokens:,} tokens counts; give texts with a response, or analyse all tokens."
            )
        statistics = self.statistics._replace(top1=self._kept_number(self.statistics.top1))
        return EntropyCurves(
            kernels.RowStatistics(*(column[rows] for column in statistics)),
            self.num_classes,
            table=self.table,
            rows=rows,
            labels=self._kept_number(self.facts.ids)[rows],
            left_out=self.left_out,
            fits_memory=False,
        )

    def soft_labels(self, tau: ArrayLike, tokens: NDArray[np.int64] | None = None) -> SoftTokens:
        """Probabilities at a temperature: of the largest, of the actual token, and of all others together.

        Args:
            tau: positive, one number or one for each of the tokens; ``m / tau`` has to lie in the table.
            tokens: which ones, by number; by default all.

        Raises:
            CistError: if a temperature is not positive, or so low that the table does not reach it.
        """
        rows = np.arange(self.num_tokens) if tokens is None else tokens
        temperatures, log_z = self._read(tau, rows)
        top = np.exp(self.top[rows] / temperatures[:, None] - log_z[:, None])
        total = top.sum(axis=1)
        if top.shape[1] == self.num_classes:
            return SoftTokens(top, self._actual(temperatures, log_z, rows), np.zeros(len(rows)))
        # ln Z is interpolated: where nearly all mass is on the largest, they may have a trace too much.
        top /= np.maximum(total, 1.0)[:, None]
        return SoftTokens(top, self._actual(temperatures, log_z, rows), np.maximum(1.0 - total, 0.0))

    def surprisal(self, tau: ArrayLike) -> FloatArray:
        """``-ln p`` of the actual tokens under ``softmax(z / tau)``, in nats, ``(N,)``.

        Args:
            tau: as in `soft_labels`.

        Raises:
            CistError: as `soft_labels`.
        """
        rows = np.arange(self.num_tokens)
        temperatures, log_z = self._read(tau, rows)
        return log_z - self.shifted / temperatures

    @cached_property
    def tokens_digest(self) -> str:
        """SHA-256 (hex) of which tokens these are: ids, texts, places, roles and which count, not what a model says."""
        digest = hashlib.sha256(FORMAT.encode())
        for column in (self.facts.ids, self.facts.sequences, self.facts.positions, self.facts.counted):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update(json.dumps(self.facts.roles.tolist()).encode())
        return digest.hexdigest()

    def check_same_tokens(self, other: TokenSet) -> None:
        """Refuse to compare models on other tokens, or over others; how far padding fills a vocabulary up is no matter.

        Raises:
            CistError: naming the first difference.
        """
        check_same_classes(self.kept, other.kept)
        if self.num_tokens != other.num_tokens:
            raise CistError(
                f"Expected two token sets of the same texts, but one has {self.num_tokens:,} tokens and the other "
                f"{other.num_tokens:,}; analyse the same texts with both models."
            )
        for name, ours, theirs in zip(TokenFacts._fields, self.facts, other.facts, strict=True):
            different = np.flatnonzero(ours != theirs)
            if len(different):
                place = int(different[0])
                raise CistError(
                    f"Expected two token sets of the same texts, but their {name} differ at {len(different):,} of "
                    f"{self.num_tokens:,} tokens, first at token {place:,} ({ours[place]} and {theirs[place]}); "
                    "analyse the same texts with both models."
                )

    def _kept_number(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """The number of a token among those that take part."""
        return np.asarray(ids - np.searchsorted(np.asarray(self.left_out, np.int64), ids), np.int64)

    def _actual(self, temperatures: FloatArray, log_z: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        return np.asarray(np.exp(self.shifted[rows] / temperatures - log_z))

    def _read(self, tau: ArrayLike, rows: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        """The temperatures of some tokens, and their ``ln Z``."""
        given = np.asarray(tau, np.float64)
        if given.shape not in ((), (len(rows),)):
            raise CistError(
                f"Expected one temperature or one for each of {len(rows):,} tokens, but got the shape {given.shape}."
            )
        if not (given > 0).all():  # NaN is refused as well
            raise CistError(f"Expected every temperature to be positive, but got {given[~(given > 0)].flat[0]:g}.")
        temperatures = np.broadcast_to(given, len(rows))
        ratios = self.statistics.maximum[rows] / temperatures
        largest = float(ratios.max(initial=0.0))
        if largest > kernels.MAX_TABLE_RATIO * (1 + 1e-6):  # a ratio that went through a temperature has rounded
            raise CistError(
                f"The ratio {largest:.4g} lies beyond the table of this token set, which ends at "
                f"{kernels.MAX_TABLE_RATIO:g}; use a higher temperature (a smaller rho)."
            )
        return temperatures, self._log_partition_at(np.minimum(ratios, kernels.MAX_TABLE_RATIO), rows)

    def _log_partition_at(self, ratios: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        """``ln Z`` by cubic Hermite interpolation, with the slope ``(ln Z - H) / r``."""
        nodes = kernels.ratio_grid()
        low = np.clip(np.searchsorted(nodes, ratios, side="right") - 1, 0, len(nodes) - 2)
        values, slopes = [], []
        for k in (low, low + 1):
            value = self.log_partition[rows, k].astype(np.float64)
            difference = value - self.table[rows, k, 0]
            slope = np.where(k > 0, difference / np.maximum(nodes[k], nodes[1]), -1.0)
            values.append(value)
            slopes.append(np.where(self.statistics.maximum[rows] > 0, slope, 0.0))
        step = nodes[low + 1] - nodes[low]
        t = (ratios - nodes[low]) / step
        rise, first, last = values[1] - values[0], slopes[0] * step, slopes[1] * step
        return np.asarray(values[0] + t * (first + t * (3 * rise - 2 * first - last + t * (first + last - 2 * rise))))

    # ---- on the disk -------------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file, about 2.5 kB a token, with a checksum of all that is in it.

        Raises:
            CistError: if the file cannot be written.
        """
        tensors = self._tensors()
        roles, _ = _codes(self.facts.roles)
        metadata = {
            "format": FORMAT,
            "vocabulary_size": str(self.vocabulary_size),
            "left_out": json.dumps(self.left_out),
            "roles": json.dumps(roles),
            "provenance": json.dumps(dict(self.provenance)),
        }
        _write(path, tensors, metadata)

    def _tensors(self) -> dict[str, NDArray[Any]]:
        """By name, those of larger numbers first, so that each is aligned. Node by node, as they are read."""
        statistics, facts = self.statistics, self.facts
        arrays: dict[str, NDArray[Any]] = {
            "ratios": kernels.ratio_grid(),
            "table": self.table.transpose(1, 0, 2),
            "log_partition": self.log_partition.T,
            "top": self.top,
            "top_ids": self.top_ids,
            **{name: getattr(statistics, name) for name in ("maximum", "peak", "gap", "std")},
            "shifted": self.shifted,
            "entropy": self.entropy,
            "log_partition_at_one": self.log_partition_at_one,
            "rank": self.rank,
            "ids": facts.ids.astype(np.int32),
            "sequences": facts.sequences.astype(np.int32),
            "positions": facts.positions.astype(np.int32),
            "roles": _codes(facts.roles)[1],
            "counted": facts.counted.astype(np.uint8),
        }
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def load(cls, path: str | PathLike[str]) -> TokenSet:
        """Open a file of `save`; the tables are memory-mapped, and its checksum is compared once in a process.

        Raises:
            CistError: if the file is missing, damaged, or no token set.
        """
        source = Path(path)
        metadata, tensors = _opened(source, FORMAT)
        try:
            _check_layout(tensors)
            roles = np.asarray(parse_json(metadata["roles"]), np.str_)
            table, log_partition = tensors.pop("table"), tensors.pop("log_partition")
            small = {name: np.array(array) for name, array in tensors.items()}
            ids, sequences, positions = (small.pop(name).astype(np.int64) for name in ("ids", "sequences", "positions"))
            vocabulary_size, count = int(metadata["vocabulary_size"]), len(ids)
            counted = small.pop("counted").astype(np.bool_)
            facts = as_facts(
                TokenFacts(ids, sequences, positions, roles[small.pop("roles")], counted), count, vocabulary_size
            )
            statistics = kernels.RowStatistics(
                **{name: small.pop(name) for name in ("maximum", "peak", "gap", "std")},
                top1=small["top_ids"][:, 0].astype(np.int64),
            )
            return cls(
                facts,
                statistics,
                table.transpose(1, 0, 2),
                log_partition.T,
                **small,
                vocabulary_size=vocabulary_size,
                left_out=tuple(parse_json(metadata["left_out"])),
                provenance=MappingProxyType(parse_json(metadata["provenance"])),
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CistError(f"{source} is a damaged token set ({error}); {_MAKE_AGAIN}.") from error

    def __repr__(self) -> str:
        counted = int(np.count_nonzero(self.facts.counted))
        return f"TokenSet({self.num_tokens:,} tokens, {counted:,} of them counted, vocabulary {self.vocabulary_size:,})"


class TokenSetHead(NamedTuple):
    """What a file says of a token set besides its numbers.

    Attributes:
        vocabulary_size: V.
        provenance: see `TokenSet`.
    """

    vocabulary_size: int
    provenance: Mapping[str, str]


def read_head(path: str | PathLike[str]) -> TokenSetHead:
    """The head of what `TokenSet.save` wrote; its numbers are neither read nor checked.

    Raises:
        CistError: if the file is missing, damaged, or no token set.
    """
    source = Path(path)
    try:
        state = file_state(source)
    except OSError as error:
        raise CistError(f"{source} cannot be read ({error.strerror or error}); {_MAKE_AGAIN}.") from error
    return _head(source, state)


@lru_cache(maxsize=256)
def _head(source: Path, state: tuple[int, int, int, int]) -> TokenSetHead:
    """Read again only when the state of the file has changed."""
    metadata, _ = map_safetensors(source)
    _check_format(source, metadata, FORMAT)
    try:
        provenance = parse_json(metadata["provenance"])
        return TokenSetHead(
            int(metadata["vocabulary_size"]), {str(name): str(value) for name, value in provenance.items()}
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise CistError(f"{source} is a damaged token set ({error}); {_MAKE_AGAIN}.") from error


@dataclass(frozen=True, eq=False, repr=False)
class TokenPair:
    """Two models on the same tokens, and how far apart their soft labels are at any two temperatures.

    Build it with `cist_core.language.analysis.token_pair`.

    Attributes:
        teacher: its token set.
        student: the other one's.
        cross: ``(N, K, 2)``, see `cist_core.kernels.cross_table`; 1.5 kB a token.
        reverse: the same with the models exchanged.
    """

    teacher: TokenSet
    student: TokenSet
    cross: NDArray[np.float32]
    reverse: NDArray[np.float32]

    @property
    def models(self) -> tuple[TokenSet, TokenSet]:
        """The token set of each model, the teacher's first."""
        return self.teacher, self.student

    def divergence(self, tau_teacher: ArrayLike, tau_student: ArrayLike) -> FloatArray:
        """``KL(softmax(z_t / tau_t) || softmax(z_s / tau_s))`` in nats, ``(N,)``, from the tables.

        Args:
            tau_teacher: positive temperatures in logit units, one or ``(N,)``.
            tau_student: the same for the student.

        Raises:
            CistError: as `TokenSet.soft_labels`.
        """
        return _divergence(self.teacher, self.student, self.cross, tau_teacher, tau_student)

    def reverse_divergence(self, tau_teacher: ArrayLike, tau_student: ArrayLike) -> FloatArray:
        """``KL(softmax(z_s / tau_s) || softmax(z_t / tau_t))`` in nats, ``(N,)``, likewise.

        There is no such table for the Jensen-Shannon divergence: the logarithm of a mean of two soft labels is no sum
        over functions of one ratio each, so it needs all logits at every temperature.

        Args:
            tau_teacher: as in `divergence`.
            tau_student: as in `divergence`.

        Raises:
            CistError: as `divergence`.
        """
        return _divergence(self.student, self.teacher, self.reverse, tau_student, tau_teacher)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write both token sets and what is between them, as three files; about 8 kB a token.

        Raises:
            CistError: if a file cannot be written.
        """
        metadata = {"format": PAIR_FORMAT}
        for name, model in (("teacher", self.teacher), ("student", self.student)):
            path = Path(folder) / f"{name}.safetensors"
            model.save(path)
            metadata[name] = map_safetensors(path)[0][CHECKSUM]
        tables = {name: np.ascontiguousarray(getattr(self, name).transpose(1, 0, 2)) for name in _TABLES}
        _write(Path(folder) / _CROSS, {"ratios": kernels.ratio_grid(), **tables}, metadata)

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> TokenPair:
        """Open what `save` wrote; the tables are memory-mapped.

        Raises:
            CistError: if a file is missing, damaged, or of another pair.
        """
        source = Path(folder) / _CROSS
        metadata, tensors = _opened(source, PAIR_FORMAT)
        models = []
        for name in ("teacher", "student"):
            path = Path(folder) / f"{name}.safetensors"
            models.append(TokenSet.load(path))
            if map_safetensors(path)[0].get(CHECKSUM) != metadata.get(name):
                raise CistError(f"{path} is another one than that of {source}; make the pair again from both models.")
        tables = [tensors.get(name) for name in _TABLES]
        shape = (*models[0].log_partition.T.shape, 2)
        if not all(table is not None and table.dtype == np.float32 and table.shape == shape for table in tables):
            raise CistError(f"{source} has no tables between these two models; make the pair again from both.")
        models[0].check_same_tokens(models[1])
        return cls(models[0], models[1], *(table.transpose(1, 0, 2) for table in tables if table is not None))


def _divergence(
    of: TokenSet, other: TokenSet, cross: NDArray[np.float32], tau_of: ArrayLike, tau_other: ArrayLike
) -> FloatArray:
    """``KL(p_of || p_other) = D(m / tau) / tau_other + ln Z_other - H_of``, as `kernels.cross_table` has it."""
    rows = np.arange(of.num_tokens)
    own_tau, _ = of._read(tau_of, rows)
    other_tau, log_z = other._read(tau_other, rows)
    ratios = np.minimum(of.statistics.maximum / own_tau, kernels.MAX_TABLE_RATIO)
    distance = kernels.read_table(cross, ratios) / other_tau
    return np.asarray(np.maximum(distance + log_z - kernels.read_table(of.table, ratios), 0.0))


def _codes(roles: NDArray[np.str_]) -> tuple[list[str], NDArray[np.uint8]]:
    names, codes = np.unique(roles, return_inverse=True)
    if len(names) > 256:
        raise CistError(f"Expected at most 256 different roles of tokens, but got {len(names):,}.")
    return names.tolist(), codes.reshape(-1).astype(np.uint8)


def _digests(tensors: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    return {
        name: tensor_digest(array.dtype.name, array.shape, np.ascontiguousarray(array).data.cast("B"))
        for name, array in tensors.items()
    }


def _write(path: str | PathLike[str], tensors: Mapping[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    whole = metadata | {CHECKSUM: checksum(metadata, _digests(tensors))}
    header = safetensors_header(whole, [(name, array.dtype, array.shape) for name, array in tensors.items()])

    def write(partial: Path) -> None:
        with partial.open("wb") as stream:
            stream.write(header)
            for array in tensors.values():
                stream.write(array.data.cast("B"))

    write_whole(path, write, what="The token set")


def _opened(source: Path, kind: str) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    metadata, tensors = map_safetensors(source)
    _check_format(source, metadata, kind)
    _check_content(source, file_state(source))
    ratios = tensors.pop("ratios", None)
    if ratios is None or not np.array_equal(ratios, kernels.ratio_grid()):
        raise CistError(f"{source} was made by another version, whose tables have other ratios; {_MAKE_AGAIN}.")
    return metadata, tensors


def _check_format(source: Path, metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("format") != kind:
        raise CistError(f"{source} is no token set (its format is {metadata.get('format', 'not said')!r}).")


def _check_layout(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays of another type or shape than `TokenSet` writes.

    Raises:
        ValueError: naming the first.
    """
    sizes = {"K": len(kernels.ratio_grid()), "N": len(tensors["rank"]), "T": tensors["top"].shape[-1], "2": 2}
    for name, (kind, axes) in _LAYOUT.items():
        found, shape = tensors[name], tuple(sizes[axis] for axis in axes)
        if found.dtype != np.dtype(kind) or found.shape != shape:
            raise ValueError(f"{name} is {found.dtype} of the shape {found.shape}, not {kind} of {shape}")


@lru_cache(maxsize=256)
def _check_content(source: Path, state: tuple[int, int, int, int]) -> None:
    """Compare the checksum, again only when the state of the file has changed."""
    metadata, tensors = map_safetensors(source)
    compare(source, metadata, _digests(tensors))


def check_same_classes(first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    """Refuse two models whose distributions are not over the same tokens, given those that take part in each.

    Sizes may differ: models of one tokenizer fill their vocabularies up to other sizes with what takes no part.

    Raises:
        CistError: naming the tokens that take part in one of them only.
    """
    if not np.array_equal(first, second):
        apart = np.setxor1d(first, second)
        raise CistError(
            f"Expected two models over the same tokens, but {len(first):,} of a vocabulary take part in one and "
            f"{len(second):,} in the other; only in one: {listed(apart, None)}. Use models that share a tokenizer, and "
            "mask the same tokens in both."
        )


def as_facts(facts: TokenFacts, count: int, vocabulary_size: int) -> TokenFacts:
    """Checked facts of ``count`` tokens.

    Raises:
        CistError: for another number of them, ids outside the vocabulary, or negative numbers.
    """
    columns: Sequence[NDArray[Any]] = [np.asarray(column) for column in facts]
    for name, column in zip(TokenFacts._fields, columns, strict=True):
        if column.shape != (count,):
            raise CistError(
                f"Expected {name} of the shape ({count},), one for each row of logits, but got {column.shape}; a row "
                "of logits predicts the token after it."
            )
    for name, column, end in zip(TokenFacts._fields, columns[:3], (vocabulary_size, 2**31, 2**31), strict=False):
        wrong = column[(column < 0) | (column >= end)] if column.dtype.kind in "iu" else column[:1]
        if len(wrong):
            raise CistError(f"Expected {name} of tokens as whole numbers from 0 to {end - 1:,}, but got {wrong[0]}.")
    if columns[4].dtype != np.bool_:
        raise CistError(f"Expected counted of tokens to be boolean, but got {columns[4].dtype}; a mask is mask.bool().")
    ids, sequences, positions = (column.astype(np.int64) for column in columns[:3])
    return TokenFacts(ids, sequences, positions, columns[3].astype(np.str_), columns[4])
