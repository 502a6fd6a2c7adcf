"""A set of logits with its labels and where they came from: what every analysis starts from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cist_core.checksums import CHECKSUM, checksum, compare
from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.files import write_whole
from cist_core.logits import calibration
from cist_core.logits.absent_classes import Absences, listed, said_of_suspects
from cist_core.logits.choices import LIKE_MASKS
from cist_core.logits.known_files import FileState, Known, recall, remember
from cist_core.logits.sample_names import SampleNames
from cist_core.logits.scratch import scratch_array
from cist_core.plain_text import written_out
from cist_core.wording import percent

FloatArray = NDArray[np.floating[Any]]
LabelArray = NDArray[np.int64]

# Validation, hashing and accuracy read this many values at a time, so a memory-mapped file larger than memory passes.
CHUNK_VALUES = 1 << 24
COPIED_VALUES = 1 << 20  # copies are made in smaller blocks
_CACHED_VALUES = 1 << 18  # and what takes several steps in those that fit a processor's cache

# What a notebook shows of a set.
QUICK_VALUES, _NAMES_SHOWN = 1 << 26, 6
_ORIGIN, _HASHES = ("teacher", "data", "split"), ("sha256", "fingerprint")

# The kernels compute in float32, where the squared differences of larger numbers would overflow.
_LARGEST_LOGIT = 1e15

IGNORED_LABEL = -100
"""What PyTorch and Hugging Face label a sample or a position with that counts for nothing."""

# What NumPy can map; a tensor of another type (BF16) is left out.
SAFETENSORS_TYPES: dict[str, type[np.generic]] = {
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_LONGEST_HEADER = 64 << 20

SAMPLE_NAMES = "sample_names"
"""The tensor of bytes that holds what the samples are called."""

LEFT_OUT = "left_out"
"""The metadata that hold the numbers of classes which take no part and have no column any more."""


@dataclass(frozen=True, eq=False, repr=False)
class LogitSet:
    """Validated logits of one model on one set of samples.

    Build it with `LogitSet.create` (arrays), `LogitSet.load` (our own files) or `cist_core.logits.files.read_logits`
    (foreign files).

    Attributes:
        logits: ``(N, C)`` float16 or float32, finite, row-contiguous; may be memory-mapped.
        labels: ``(N,)`` int64 in ``[0, C)``, or None.
        class_names: C names, or None.
        provenance: where the logits came from, as text: ``teacher``, ``data``, ``split``, ...
        constant_rows: number of rows whose logits are all equal; their entropy is ``ln C`` at any temperature.
        sample_names: what the file calls its samples, or None; see `cist_core.logits.alignment.align`.
        left_out: the classes that take no part, by their numbers among those that were given; the others follow each
            other in ``logits``, ``labels`` and ``class_names``.

    Example:
        >>> logit_set = LogitSet.create([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]], labels=[0, 2])
        >>> logit_set.num_samples, logit_set.num_classes, logit_set.accuracy
        (2, 3, 0.5)
    """

    logits: FloatArray
    labels: LabelArray | None
    class_names: tuple[str, ...] | None
    provenance: Mapping[str, str]
    constant_rows: int = field(default=0)
    sample_names: SampleNames | None = None
    left_out: tuple[int, ...] = ()

    @classmethod
    def create(
        cls,
        logits: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
        provenance: Mapping[str, str] | None = None,
        sample_names: SampleNames | Mapping[str, ArrayLike] | None = None,
        leave_out_labelled: bool = False,
    ) -> LogitSet:
        """Validate arrays and wrap them.

        A class that is masked in every sample takes no part (`absent_classes.takes_part`): its column is left
        out, the other classes are numbered anew, and ``provenance["absent classes"]`` says which ones were left out.
        Where the classes have no names and their numbers changed, they are called by their old numbers.

        Args:
            logits: ``(N, C)`` with N >= 1 and C >= 2, an array or a tensor. float16 and float32 are kept, anything else
                numeric becomes float32.
            labels: ``(N,)`` integers in ``[0, C)``, or another form of them; see `as_labels`.
            class_names: C names; like all text from files they are `written_out`.
            provenance: free text.
            sample_names: columns of N names each, by what they are called.
            leave_out_labelled: leave out the samples whose label is a class that takes no part, and say in
                ``provenance["left out"]`` how many they were; else they are refused.

        Raises:
            CistError: for a wrong shape or type, NaN or ``+inf``, labels out of range or of a class that takes no part,
                or a class that is masked in some samples only.

        Example:
            >>> masked = LogitSet.create([[2.0, -1e9, 0.0], [0.0, -1e9, 3.0]], labels=[0, 2])
            >>> masked.logits.tolist(), masked.labels.tolist(), masked.class_names, masked.left_out
            ([[2.0, 0.0], [0.0, 3.0]], [0, 1], ('0', '2'), (1,))
        """
        return cls._of(
            _as_matrix(logits),
            labels,
            class_names=class_names,
            provenance=provenance,
            sample_names=sample_names,
            leave_out_labelled=leave_out_labelled,
        )

    @classmethod
    def _of(
        cls,
        array: NDArray[Any],
        labels: ArrayLike | None,
        *,
        class_names: Sequence[str] | None,
        provenance: Mapping[str, str] | None,
        sample_names: SampleNames | Mapping[str, ArrayLike] | None,
        leave_out_labelled: bool = False,
        from_file: bool = False,
        known: Known | None = None,
    ) -> LogitSet:
        """See `create`. The rows of a file are hashed while they are looked at, or not looked at if they are known."""
        count, classes = array.shape
        names = None if class_names is None else _names(class_names)
        for what, given in (("provenance", provenance), ("sample_names", sample_names)):
            if not (given is None or isinstance(given, Mapping | SampleNames)):
                raise CistError(f"Expected {what} as a mapping, but got {type(given).__name__}; give {{'name': ...}}.")
        if names is not None and len(names) != classes:
            raise CistError(f"Expected {classes} class names, one for each column of the logits, but got {len(names)}.")
        checked = None if labels is None else as_labels(labels, count, classes, names)
        columns = sample_names.columns if isinstance(sample_names, SampleNames) else dict(sample_names or {})
        called = SampleNames.of(columns, count)
        names = None if names is None else tuple(map(written_out, names))  # the labels may be the names as they stand
        said = {written_out(str(key)): written_out(str(value)) for key, value in (provenance or {}).items()}
        if known is not None:
            found = cls(_in_rows(array), checked, names, MappingProxyType(said), known.constant_rows, called)
            found.__dict__["fingerprint"] = known.fingerprint
            return found

        digest = Digest(array) if from_file and _is_in_rows(array) else None
        low, high, absences = extremes(array, digest)
        _check_above(array, low, high)
        absences.check(names)
        left_out = absences.everywhere
        if len(left_out):
            said["absent classes"] = absences.said(names)
            rows, checked = renumbered(checked, left_out, names, leave_out=leave_out_labelled)
            if rows is not None:
                gone = f"{count - len(rows):,} of {count:,} samples: their label is a class that takes no part"
                said["left out"] = f"{said['left out']}; {gone}" if "left out" in said else gone
                called = None if called is None else called.take(rows)
            kept = np.delete(np.arange(classes), left_out)
            names = _names_of(kept, names)
            array = _taken(array, rows, kept)
            low, high, _ = extremes(array)
        _check_size(low)
        _check_size(high)
        suspects = said_of_suspects(_row_chunks(array), low, names)
        if suspects is not None:
            said[LIKE_MASKS] = suspects
        constant_rows = int(np.count_nonzero(low == high))
        absent = tuple(left_out.tolist())
        found = cls(_in_rows(array), checked, names, MappingProxyType(said), constant_rows, called, absent)
        if digest is not None and not absent:
            found.__dict__["fingerprint"] = digest.finish(checked)
        return found

    @property
    def num_samples(self) -> int:
        return int(self.logits.shape[0])

    @property
    def num_classes(self) -> int:
        return int(self.logits.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the logits and labels: equal content has an equal fingerprint, whatever file it is in."""
        digest = Digest(self.logits)
        for rows in self._chunks():
            digest.add(rows)
        return digest.finish(self.labels)

    @cached_property
    def accuracy(self) -> float | None:
        """Share of samples whose largest logit is the label's (the first class wins a tie); None without labels."""
        return None if self.labels is None else float(np.mean(self.answers == self.labels))

    @cached_property
    def answers(self) -> LabelArray:
        """The class with the largest logit of each sample, ``(N,)``; the first one wins a tie."""
        return np.concatenate([rows.argmax(axis=1) for rows in self._chunks()])

    @property
    def lowest(self) -> LabelArray:
        """The class with the smallest logit of each sample, ``(N,)``; the first one wins a tie."""
        return np.concatenate([rows.argmin(axis=1) for rows in self._chunks()])

    @cached_property
    def nll(self) -> float | None:
        """Mean negative log-likelihood of the labels at temperature 1, in nats; None without labels."""
        if self.labels is None:
            return None
        return calibration.nll(self.logits, self.labels)

    @property
    def given_classes(self) -> int:
        """How many classes there were with those that take no part."""
        return self.num_classes + len(self.left_out)

    @property
    def kept_classes(self) -> LabelArray:
        """The number that each class had among those that were given, ``(C,)``."""
        return np.delete(np.arange(self.given_classes), list(self.left_out))

    def whole(self) -> FloatArray:
        """Logits of all classes that were given, ``(N, C + left out)``: ``-inf`` at those that take no part."""
        if not self.left_out:
            return self.logits
        rows: FloatArray = np.full((self.num_samples, self.given_classes), -np.inf, self.logits.dtype)
        rows[:, self.kept_classes] = self.logits
        return rows

    def take(self, indices: ArrayLike) -> LogitSet:
        """The samples at the given positions, as a set of its own."""
        index = np.asarray(_as_array(indices, "indices"))
        if index.dtype.kind not in "iub" or (
            index.size
            and index.dtype.kind != "b"
            and not -len(self.logits) <= index.min() <= index.max() < len(self.logits)
        ):
            raise CistError(
                f"Expected the positions of samples, from 0 to {len(self.logits) - 1}, but got {_shortened(index)}; "
                "give whole numbers in that range."
            )
        if index.dtype.kind == "b" and index.shape != (len(self.logits),):
            raise CistError(f"Expected a mask of {len(self.logits)} samples, but got one of the shape {index.shape}.")
        rows = _as_matrix(self.logits[index])
        low, high, _ = extremes(rows)
        # Which classes take part is known of the whole set, and not judged anew of a few samples.
        return replace(
            self,
            logits=_in_rows(rows),
            labels=None if self.labels is None else self.labels[index],
            sample_names=None if self.sample_names is None else self.sample_names.take(index),
            constant_rows=int(np.count_nonzero(low == high)),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file: ``logits``, ``labels``, ``sample_names``; class names and provenance as metadata.

        The file appears whole or not at all, has a checksum of all that is in it, and is the same to the byte whenever
        one set is written.

        Raises:
            CistError: if the file cannot be written.
        """
        tensors: dict[str, NDArray[Any]] = {} if self.labels is None else {"labels": self.labels}
        tensors["logits"] = self.logits
        names = None if self.sample_names is None else self.sample_names.to_bytes()
        if names is not None:
            tensors[SAMPLE_NAMES] = np.frombuffer(names, np.uint8)
        metadata = {"format": "cist-logits-1", "provenance": json.dumps(dict(self.provenance))}
        if self.class_names is not None:
            metadata["class_names"] = json.dumps(self.class_names)
        if self.left_out:
            metadata[LEFT_OUT] = json.dumps(self.left_out)
        metadata[CHECKSUM] = set_checksum(metadata, self.fingerprint, names)
        write_whole(path, lambda file: _write_safetensors(file, tensors, metadata), what="The logits")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LogitSet:
        """Open a safetensors file without reading its logits into memory (they are memory-mapped).

        Any safetensors file with a 2-D tensor ``logits`` opens; ``labels`` and our metadata are optional. If the file
        has a checksum of ours, it is compared. A file is read for all that once, and again after it has changed: what
        was found is remembered (`known_files`).

        Raises:
            CistError: if the file is missing, is not safetensors, is damaged, or holds no valid logits.
        """
        source = Path(path)
        state = FileState.of(source)
        metadata, tensors = map_safetensors(source)
        if "logits" not in tensors:
            raise CistError(
                f"{source} holds the tensors {sorted(tensors)}, but no numeric one named 'logits'; "
                "name the (N, C) one 'logits' and store it as F16 or F32."
            )
        names = metadata.get("class_names")
        try:
            known = _believed(recall(state), metadata, tensors.get(SAMPLE_NAMES))
            found = cls._of(
                _as_matrix(tensors["logits"]),
                tensors.get("labels"),
                class_names=None if names is None else _parsed(names, list),
                provenance=_parsed(metadata.get("provenance", "{}"), dict),
                sample_names=read_sample_names(tensors.get(SAMPLE_NAMES), len(tensors["logits"])),
                from_file=True,
                known=known,
            )
            shown = known_of(found) if known is None else known
            before = () if found.left_out else _left_out_before(metadata, found.num_classes)
            if before:
                fingerprint = found.fingerprint
                found = replace(found, left_out=before)
                found.__dict__["fingerprint"] = fingerprint  # it is of logits and labels alone
        except CistError as error:
            raise CistError(f"{source}: {error}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise CistError(f"{source} has damaged metadata ({error}); write the file again.") from error
        if CHECKSUM in metadata:
            compare(source, metadata, _digests(found.fingerprint, _held(tensors.get(SAMPLE_NAMES))))
        if known is None and shown is not None:
            remember(state, shown)
        return found

    def __repr__(self) -> str:
        origin = "".join(f", {name}={self.provenance[name]!r}" for name in _ORIGIN if name in self.provenance)
        return (
            f"LogitSet({self.num_samples:,} samples, {self.num_classes:,} classes, {self._accuracy_in_words()}, "
            f"{self.logits.dtype.name}{origin})"
        )

    def _repr_html_(self) -> str:
        """The set in a notebook: one fact a row, and where it came from."""
        from cist_core.notebook import table

        names = self.class_names or ()
        facts = [
            ("Class names", f"{', '.join(names[:_NAMES_SHOWN])}{', …' if len(names) > _NAMES_SHOWN else ''}"),
            ("Constant rows", f"{self.constant_rows:,}" if self.constant_rows else ""),
            *((name, value) for name, value in self.provenance.items() if not name.endswith(_HASHES)),
        ]
        size = f"{self.num_samples:,} samples, {self.num_classes:,} classes"
        return table(f"Logits: {size}, {self._accuracy_in_words()}", [fact for fact in facts if fact[1]])

    def _accuracy_in_words(self) -> str:
        """That of a huge file is not computed only to show the set."""
        if self.labels is None:
            return "no labels"
        known = self.logits.size <= QUICK_VALUES or "accuracy" in self.__dict__
        return f"accuracy {percent(float(self.accuracy or 0.0))}" if known else "with labels"

    def _chunks(self) -> Iterator[FloatArray]:
        return _row_chunks(self.logits)


def _believed(known: Known | None, metadata: Mapping[str, str], names: NDArray[Any] | None) -> Known | None:
    """What is known of a file, unless the checksum in it says otherwise."""
    if known is None or CHECKSUM not in metadata:
        return known
    same = metadata[CHECKSUM] == set_checksum(metadata, known.fingerprint, _held(names))
    return known if same else None


def _held(names: NDArray[Any] | None) -> bytes | None:
    return None if names is None else names.tobytes()


def known_of(logit_set: LogitSet) -> Known | None:
    """What spares whoever opens the file of a set the reading of it; None where validating it changes or notes more."""
    if logit_set.left_out or LIKE_MASKS in logit_set.provenance:
        return None
    return Known(logit_set.fingerprint, logit_set.constant_rows)


def check_whole(path: Path, metadata: Mapping[str, str]) -> None:
    """Compare the checksum of a file of logits with these metadata, if it has one of ours.

    Raises:
        CistError: if the file is damaged.
    """
    if CHECKSUM in metadata and recall(FileState.of(path)) is None:
        LogitSet.load(path)


def set_checksum(metadata: Mapping[str, str], fingerprint: str, names: bytes | None) -> str:
    """The checksum of a file with these metadata, a set of this fingerprint and the bytes of its samples' names."""
    return checksum(metadata, _digests(fingerprint, names))


def _digests(fingerprint: str, names: bytes | None) -> dict[str, str]:
    """The fingerprint is of logits and labels together."""
    return {"logits": fingerprint} | ({} if names is None else {SAMPLE_NAMES: hashlib.sha256(names).hexdigest()})


def safetensors_header(
    metadata: Mapping[str, str], tensors: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]
) -> bytes:
    """The head of a safetensors file: its own length, then names, types, shapes and places of the tensors as JSON.

    The library writes the metadata in another order each time.

    Args:
        metadata: of the file.
        tensors: name, type and shape of each, in the order in which their bytes follow.
    """
    types = {np.dtype(kind): name for name, kind in SAFETENSORS_TYPES.items()}
    head: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, dtype, shape in tensors:
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        head[name] = {"dtype": types[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)  # aligns the tensors
    return len(text).to_bytes(8, "little") + text


def _write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """The tensors of larger numbers come first, so that each is aligned."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    with path.open("wb") as stream:
        stream.write(safetensors_header(metadata, [(name, array.dtype, array.shape) for name, array in ordered]))
        for _, array in ordered:
            for rows in _row_chunks(array) if array.ndim == 2 else [array]:
                stream.write(_bytes(rows))


def _parsed(text: str, kind: type) -> Any:
    value = parse_json(text)
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}, not {text[:40]}")
    return value


def _left_out_before(metadata: Mapping[str, str], classes: int) -> tuple[int, ...]:
    """The classes that had been left out of a set when it was saved."""
    places = tuple(int(place) for place in json.loads(metadata.get(LEFT_OUT, "[]")))
    if list(places) != sorted({*places}) or not all(0 <= place < classes + len(places) for place in places):
        raise ValueError(f"'{LEFT_OUT}' is {str(places)[:80]}")
    return places


def read_sample_names(stored: Any, count: int) -> SampleNames | None:
    """The names of samples from the bytes that `LogitSet.save` writes, if there are some; of anything else nothing.

    Raises:
        CistError: if they are damaged.
    """
    if stored is None or stored.dtype != np.uint8 or stored.ndim != 1:
        return None
    return SampleNames.from_bytes(stored.tobytes(), count)


def check_same_samples(
    teacher: tuple[int, ...],
    other: tuple[int, ...],
    *,
    labels: tuple[LabelArray | None, LabelArray | None] = (None, None),
    name: str = "the student",
) -> None:
    """Refuse a model whose logits cannot be of a teacher's samples.

    Args:
        teacher: ``(N, C)``, the shape of the teacher's logits.
        other: that of the other model's.
        labels: of both, in this order; they are compared where both have some.
        name: the other model, as the error is to call it.

    Raises:
        CistError: if samples, classes or labels differ.

    Example:
        >>> check_same_samples((300, 10), (300, 10))
        >>> check_same_samples((300, 10), (299, 10), name="resnet20")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        cist_core.errors.CistError: Expected resnet20 to have logits of the teacher's 300 samples and 10 classes, ...
    """
    if tuple(teacher) != tuple(other):
        raise CistError(
            f"Expected {name} to have logits of the teacher's {teacher[0]:,} samples and {teacher[1]:,} classes, but "
            f"they have {other[0]:,} samples and {other[1]:,} classes; use the same data and split for both."
        )
    expected, found = labels
    if expected is not None and found is not None and not np.array_equal(expected, found):
        raise CistError(
            f"Expected {name} to have logits of the teacher's samples in the same order, but the labels differ, first "
            f"at sample {int(np.argmax(expected != found))}; use the same data and split for both."
        )


def centre_for_storage(logits: FloatArray) -> NDArray[np.float16]:
    """``z - max(z)`` in float16: shifting changes no soft label, and small numbers keep their digits.

    Entropy read from it stays within 4e-4 nats of the float32 logits at temperature 1; raw float16 logits only
    within 6e-3. Logits more than 65,504 below their maximum are clipped there, where they carry no probability.
    """
    shifted = logits.astype(np.float32) - logits.max(axis=1, keepdims=True).astype(np.float32)
    centred: NDArray[np.float16] = np.maximum(shifted, np.finfo(np.float16).min).astype(np.float16)
    return centred


class Digest:
    """The fingerprint of a set, from its rows one block after another."""

    def __init__(self, logits: NDArray[Any]) -> None:
        self._sha256 = hashlib.sha256(f"{logits.dtype.name}{logits.shape}".encode())

    def add(self, rows: NDArray[Any]) -> None:
        self._sha256.update(_bytes(rows))

    def finish(self, labels: LabelArray | None) -> str:
        if labels is not None:
            self._sha256.update(b"labels")
            self._sha256.update(_bytes(labels))
        return self._sha256.hexdigest()


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def _row_chunks(array: FloatArray) -> Iterator[FloatArray]:
    step = max(1, CHUNK_VALUES // array.shape[1])
    for start in range(0, array.shape[0], step):
        yield array[start : start + step]


def _as_array(values: Any, name: str) -> NDArray[Any]:
    """As NumPy has it; of tensors a copy on the CPU, without their gradient, in float32 where NumPy lacks their type.

    Raises:
        ValueError: if rows differ in length.
        CistError: if there are no values to read, or masked ones.
    """
    if _is_tensor(values):
        values = _tensor_as_array(values, name)
    elif isinstance(values, list | tuple) and any(map(_is_tensor, values)):
        values = [_tensor_as_array(item, name) if _is_tensor(item) else item for item in values]
    if np.ma.is_masked(values):
        raise CistError(f"The `{name}` hold masked values, which say nothing; leave their samples out.")
    return np.asanyarray(values)


def _names(class_names: object) -> tuple[str, ...]:
    if isinstance(class_names, str | bytes) or not isinstance(class_names, Iterable):
        raise CistError(f"Expected class_names as a list of names, but got {class_names!r}; give one for each class.")
    return tuple(str(name) for name in class_names)


def _shortened(array: NDArray[Any]) -> str:
    return np.array2string(array, threshold=6, edgeitems=3)


def _is_tensor(values: object) -> bool:
    """Of torch, which is not imported for it."""
    return hasattr(values, "detach") and hasattr(values, "cpu")


def _tensor_as_array(tensor: Any, name: str) -> NDArray[Any]:
    try:
        here = tensor.detach().to_dense().cpu().resolve_conj().resolve_neg()
        known = not here.is_floating_point() or here.element_size() > 1
        known = known and str(here.dtype) != "torch.bfloat16"
        array: NDArray[Any] = (here if known else here.float()).numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise CistError(
            f"The `{name}` are a tensor that NumPy cannot read ({first_line(error)}); give them as a dense tensor of "
            "numbers."
        ) from error
    return array


def _as_matrix(logits: ArrayLike) -> NDArray[Any]:
    try:
        array = _as_array(logits, "logits")
    except ValueError as error:
        if isinstance(error, CistError):
            raise
        raise CistError(
            "Expected `logits` to be a rectangular (samples, classes) array, but its rows differ in length."
        ) from error
    if array.ndim != 2:
        remedy = "give an array, a tensor or a list of rows"
        if array.ndim == 1:
            remedy = "a single sample is a row: logits[None]"
        elif array.ndim == 3:
            remedy = "put batches or tokens under one another: logits.reshape(-1, logits.shape[-1])"
        raise CistError(f"Expected `logits` to have the shape (samples, classes), but got {array.shape}; {remedy}.")
    if array.shape[0] < 1 or array.shape[1] < 2:
        raise CistError(f"Expected at least 1 sample and 2 classes of logits, but got the shape {array.shape}.")
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise CistError(
            f"Expected `logits` to be real numbers, but got the type {array.dtype}; give floating-point numbers."
        )
    return array


def _in_rows(array: NDArray[Any]) -> FloatArray:
    """In rows and of a type that the kernels read; copied only where it is not."""
    return array if _is_in_rows(array) else _taken(array)


def _is_in_rows(array: NDArray[Any]) -> bool:
    return _kept_type(array.dtype) is array.dtype and array.flags.c_contiguous and array.flags.aligned


def _kept_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype in (np.float16, np.float32) and dtype.isnative else np.dtype(np.float32)


def _taken(
    array: NDArray[Any], rows: NDArray[np.int64] | None = None, columns: NDArray[np.int64] | None = None
) -> FloatArray:
    """A copy of some rows and columns, or of all, a block at a time, for an array may be larger than memory."""
    count = len(array) if rows is None else len(rows)
    copy: FloatArray = scratch_array(
        (count, array.shape[1] if columns is None else len(columns)), _kept_type(array.dtype)
    )
    step = max(1, COPIED_VALUES // array.shape[1])
    with np.errstate(over="ignore"):  # what is beyond float32 is refused by who looks at the copy
        for start in range(0, count, step):
            block = array[start : start + step] if rows is None else array[rows[start : start + step]]
            copy[start : start + step] = block if columns is None else block[:, columns]
    return copy


def extremes(array: NDArray[Any], digest: Digest | None = None) -> tuple[NDArray[Any], NDArray[Any], Absences]:
    """The smallest and the largest number of each row, and which classes are masked, in one pass.

    The digest takes in a block in another thread meanwhile, so that a file is read once.
    """
    absences, parts = Absences(array.shape[1]), []
    with contextlib.ExitStack() as stack:
        helper = None if digest is None else stack.enter_context(ThreadPoolExecutor(1))
        for rows in _row_chunks(array):
            hashing = None if digest is None or helper is None else helper.submit(digest.add, rows)
            low, high = row_extremes(rows)
            absences.add(rows, low)
            parts.append((low, high))
            if hashing is not None:
                hashing.result()
    lows, highs = zip(*parts, strict=True)
    return np.concatenate(lows), np.concatenate(highs), absences


def row_extremes(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The smallest and the largest number of each row; NaN and infinities reach one of the two.

    NumPy compares float16 one by one. Their bits, those below the sign turned over in negative numbers, are integers in
    the same order, with NaN beyond the infinities.
    """
    if rows.dtype != np.float16:
        return rows.min(axis=1), rows.max(axis=1)
    low, high = np.empty((2, len(rows)), np.int16)
    bits = rows.view(np.int16)
    step = max(1, _CACHED_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        ordered = _turned(bits[start : start + step])
        ordered.min(axis=1, out=low[start : start + step])
        ordered.max(axis=1, out=high[start : start + step])
    return _turned(low).view(np.float16), _turned(high).view(np.float16)


def _turned(bits: NDArray[np.int16]) -> NDArray[np.int16]:
    """From the bits of float16 to integers in their order, and back."""
    turned: NDArray[np.int16] = (bits >> 15) & np.int16(0x7FFF)
    turned ^= bits
    return turned


def _check_above(array: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    """Refuse NaN and ``+inf``, which the fast kernels would not notice, and rows that are ``-inf`` throughout."""
    fine = np.isfinite(high) & ~np.isnan(low)
    if fine.all():
        return
    row = int(np.argmin(fine))
    values = np.asarray(array[row])
    if high[row] == -np.inf:
        raise CistError(f"Every logit of sample {row} is -inf, so no class takes part in it; remove that sample.")
    column = int(np.flatnonzero(np.isnan(values) | (values == np.inf))[0])
    raise CistError(
        f"Expected finite logits, but the value at sample {row}, class {column} is {values[column]}; remove that "
        "sample or export the logits again in float32."
    )


def renumbered(
    labels: LabelArray | None,
    absent: Sequence[int] | NDArray[np.int64],
    names: Sequence[str] | None,
    *,
    leave_out: bool = False,
) -> tuple[NDArray[np.int64] | None, LabelArray | None]:
    """The samples whose label takes part, None for all, and their labels as numbers of the classes that do.

    Args:
        labels: ``(N,)``, numbers of all classes.
        absent: the classes that take no part, by number, ascending.
        names: of all classes.
        leave_out: whether samples that are labelled with one of them are left out; else they are refused.

    Raises:
        CistError: if there are such samples, or none is left.
    """
    if labels is None:
        return None, None
    wrong = np.isin(labels, absent)
    rows = None
    if wrong.any():
        places, counts = np.unique(labels[wrong], return_counts=True)
        count = int(counts.sum())
        said = f"{count:,} of {len(labels):,} samples are labelled with a class that takes no part"
        if not leave_out:
            raise CistError(
                f"{said} ({listed(places, names)}); leave them out, or check the labels and the mask (a class map "
                "leaves out the samples of a class that it maps to nothing)."
            )
        if count == len(labels):
            raise CistError(f"{said} ({listed(places, names)}), so no sample is left; check the labels and the mask.")
        rows = np.flatnonzero(~wrong)
        labels = labels[rows]
    numbers: LabelArray = labels - np.searchsorted(np.asarray(absent, np.int64), labels)
    return rows, numbers


def _names_of(kept: NDArray[np.int64], names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What the classes that are left are called; by their old numbers where these say more than the new ones."""
    if names is not None:
        return tuple(names[place] for place in kept)
    return None if kept[-1] == len(kept) - 1 else tuple(map(str, kept.tolist()))


def _check_size(values: NDArray[Any]) -> None:
    largest = max(-float(values.min()), float(values.max()))
    if largest > _LARGEST_LOGIT:
        raise CistError(
            f"Expected logits of at most {_LARGEST_LOGIT:g} in size, but got {largest:.3g}; divide all by one number."
        )


def as_labels(labels: ArrayLike, count: int, classes: int, class_names: Sequence[str] | None = None) -> LabelArray:
    """Validated labels, ``(count,)`` int64 in ``[0, classes)``; see `label_numbers` for the forms that are taken.

    Raises:
        CistError: for another shape, other values, or labels that are not whole numbers.
    """
    array = label_numbers(labels, count, classes, class_names)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        remedy = ""
        if low >= 1 and high == classes:
            remedy = f" {'They' if low == 1 else 'If they'} begin at 1{':' if low == 1 else ','} subtract 1 from each."
        if wrong == IGNORED_LABEL:
            remedy = " It marks samples that do not count: leave them out."
        raise CistError(
            f"Expected labels from 0 to {classes - 1}, but found {wrong}; the logits have {classes} classes.{remedy}"
        )
    return array


def label_numbers(labels: ArrayLike, count: int, classes: int, class_names: Sequence[str] | None = None) -> LabelArray:
    """Labels in any of their usual forms as ``(count,)`` int64, not compared with the number of classes yet.

    Args:
        labels: ``(count,)`` or ``(count, 1)`` whole numbers, as floats or text too; names of classes; or one-hot,
            ``(count, classes)``. An array, a tensor or a list.
        count: of the samples.
        classes: C.
        class_names: C names, for labels that are names.

    Raises:
        CistError: for another shape, or values that are none of these.

    Example:
        >>> label_numbers([[0, 1], [1, 0]], 2, 2), label_numbers(["b", "a", "b"], 3, 2, ["a", "b"])
        (array([1, 0]), array([1, 0, 1]))
    """
    try:
        array = np.asarray(_as_array(labels, "labels"))
    except ValueError as error:
        if isinstance(error, CistError):
            raise
        raise CistError(f"Expected {count} labels, one for each sample, but got nested lists.") from error
    if array.ndim == 2 and 1 in array.shape and array.size == count:
        array = array.reshape(-1)
    if array.ndim == 2 and len(array) == count:
        return _from_one_hot(array, classes)
    if array.shape != (count,):
        found = f"{len(array):,}" if array.ndim == 1 else f"the shape {array.shape}"
        remedy = "use those of these samples"
        if array.shape == (classes,) and classes > count:
            remedy = f"the logits, {count:,} x {classes:,}, seem to be transposed: store samples as rows (logits.T)"
        raise CistError(f"Expected {count:,} labels, one for each sample, but got {found}; {remedy}.")
    if array.dtype.kind in "OUST":
        array = _from_words(array, classes, class_names)
    if array.dtype.kind == "b" and classes == 2:
        array = array.astype(np.int64)
    if np.issubdtype(array.dtype, np.floating):
        if np.isnan(array).any():
            raise CistError(
                f"Expected integer labels from 0 to {classes - 1}, but sample {int(np.argmax(np.isnan(array)))} has "
                f"none; fill it in, or write {IGNORED_LABEL} for samples that do not count."
            )
        if np.all(np.isfinite(array) & (array == np.floor(array))):
            _check_range(array)
            array = array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise CistError(
            f"Expected integer labels from 0 to {classes - 1}, but got the type {array.dtype}; "
            "give each sample the position of its class."
        )
    _check_range(array)
    return array.astype(np.int64)


def _check_range(array: NDArray[Any]) -> None:
    """Refuse whole numbers beyond those of int64, which would become others."""
    for value in (array.min(), array.max()) if array.size else ():
        if not -(2**63) <= int(value) < 2**63:
            raise CistError(f"Expected labels that number the classes from 0, but found {value:g}.")


def is_whole_number(text: str) -> bool:
    """Whether text is a whole number, as spreadsheets and pandas write it too.

    Example:
        >>> [is_whole_number(text) for text in ("3", "3.0", "-100", "3.5", "cat")]
        [True, True, True, False, False]
    """
    return re.fullmatch(r"[+-]?[0-9]{1,15}(\.0*)?", text) is not None


def _from_one_hot(array: NDArray[Any], classes: int) -> LabelArray:
    if array.shape[1] != classes or array.dtype.kind not in "iufb":
        raise CistError(
            f"Expected {len(array):,} labels, one for each sample, or one-hot ones of the shape "
            f"({len(array):,}, {classes}), but got {array.dtype.name} of the shape {array.shape}."
        )
    fits = ((array == 0) | (array == 1)).all(axis=1) & ((array == 1).sum(axis=1) == 1)
    if not fits.all():
        row = int(np.argmin(fits))
        raise CistError(
            f"Expected one-hot labels with a single 1 for each sample, but sample {row} has {array[row].max():.4g} as "
            f"largest value and sums to {array[row].astype(np.float64).sum():.4g}; give each sample one class."
        )
    places: LabelArray = array.argmax(axis=1).astype(np.int64)
    return places


def _from_words(array: NDArray[Any], classes: int, class_names: Sequence[str] | None) -> NDArray[np.int64]:
    """Whole numbers that are written as text; else names."""
    words = [word.decode("utf-8", "replace") if isinstance(word, bytes) else word for word in array.tolist()]
    empty = next(
        (row for row, word in enumerate(words) if word is None or word != word or str(word).strip() == ""), None
    )
    if empty is not None:
        raise CistError(
            f"Expected integer labels from 0 to {classes - 1}, but sample {empty} has none; fill it in, or write "
            f"{IGNORED_LABEL} for samples that do not count."
        )
    texts = [str(word).strip() for word in words]
    if class_names is not None:
        places = {name.strip(): place for place, name in reversed(list(enumerate(class_names)))}
        loose = {name.casefold(): place for name, place in places.items()}
        found = [places.get(text, loose.get(text.casefold())) for text in texts]
        if None not in found:
            return np.array(found, np.int64)
    if all(map(is_whole_number, texts)):
        return np.array([int(text.partition(".")[0]) for text in texts], np.int64)
    if class_names is None:
        raise CistError(
            f"Expected integer labels from 0 to {classes - 1}, but got words such as '{texts[0][:40]}', and the "
            "classes have no names; give each sample the position of its class, or the classes their names."
        )
    row = found.index(None)
    raise CistError(
        f"The label of sample {row} is '{texts[row][:40]}', which is none of the {classes} classes "
        f"({', '.join(map(repr, list(class_names)[:5]))}{', ...' * (classes > 5)}); use their names or numbers."
    )


def map_safetensors(
    path: Path, types: Mapping[str, DTypeLike] = SAFETENSORS_TYPES
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and memory-mapped arrays of a safetensors file.

    The library validates the header, but its numpy reader copies whole tensors, so the mapping is done here.

    Args:
        path: of the file.
        types: how each of the file's types is mapped; a tensor of another type is left out.

    Raises:
        CistError: if the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
        if header_size > _LONGEST_HEADER:
            raise CistError(f"{path} is not a readable safetensors file (its header is too long); write it again.")
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError as error:
        raise CistError(f"There is no file {path}.") from error
    except (SafetensorError, OSError) as error:
        raise CistError(f"{path} is not a readable safetensors file ({error}); write it again.") from error
    with path.open("rb") as stream:
        header = json.loads(stream.read(8 + header_size)[8:])
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in types:
            continue
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        dtype = np.dtype(types[entry["dtype"]])
        if begin == end:
            arrays[name] = np.empty(shape, dtype)
        else:
            arrays[name] = np.memmap(path, dtype, mode="r", offset=8 + header_size + begin, shape=shape)
    return metadata, arrays
