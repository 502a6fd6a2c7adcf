"""Logits recorded while somebody's own code evaluates a model.

`record` watches one module with hooks: whatever the loop does, the logits that the module returns are kept, in the
order of the calls. This module imports no torch by itself; whoever has a model has imported it.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError
from cist_core.logits.files.given import convert
from cist_core.logits.files.names import FEATURE_NAMES, plain
from cist_core.logits.logit_set import IGNORED_LABEL, LabelArray, LogitSet, label_numbers

if TYPE_CHECKING:
    import torch
    from torch import nn

MEMORY_BYTES = 64 << 20
"""Logits beyond these go to a temporary file."""

_ATTENTION_MASK = "attention_mask"
_LABELS = "labels"
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def record(
    model: nn.Module,
    *,
    layer: str | None = None,
    output: str | int | None = None,
    mask: str | None = _ATTENTION_MASK,
    class_names: Sequence[str] | None = None,
) -> Recording:
    """Record the logits of a model while other code calls it: a context manager around somebody's evaluation.

    What ``model(...)`` returns is recorded when the model is in evaluation mode: a tensor ``(N, C)``, or the one in
    ``output.logits`` or ``output["logits"]``, or the only one in a tuple or a dict. Where a model returns several
    (features and logits, two heads, ...), ``output`` says which. Token logits ``(B, L, C)`` become one sample a
    position, without the positions that the mask or a label of -100 leaves out. Rows that are probabilities are
    recognised as those of a file are (`cist_core.logits.files.as_logits`), and become logits of the same soft labels.

    Labels come from the forward's keyword ``labels`` (as Hugging Face's models take it) or from
    ``logits.labels(batch_labels)`` after the call. Where the keyword repeats ``input_ids``, the model predicts the
    next token, and each position gets the label of the next one.

    A model that calls itself is recorded once a call from outside. In a distributed run each process records the
    samples that it saw: give each file the rank's number.

    Args:
        model: the object that the loop calls: a plain model, one from ``torch.compile``, or one in ``DataParallel`` or
            ``DistributedDataParallel``.
        layer: record this submodule instead, by its name in ``model.named_modules()``.
        output: what of the returned tuple, dict or object holds the logits: its position, key or attribute.
        mask: keyword of the forward with a ``(B, L)`` mask, nonzero where a token counts; None: every position counts.
        class_names: C names for the file.

    Raises:
        CistError: if there is no such layer, or, in the loop, if what the model returns holds no logits, or several
            matrices without ``output``.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3).eval()
        >>> with record(model) as logits:
        ...     for images, targets in [(torch.zeros(5, 4), torch.tensor([0, 1, 2, 0, 1]))]:
        ...         _ = model(images)
        ...         logits.labels(targets)
        >>> logits.logit_set().num_samples
        5
    """
    return Recording(model, layer, output, mask, class_names)


class Recording:
    """What `record` has recorded so far. Its hooks are on the model inside the ``with`` only.

    Attributes:
        num_samples: recorded, with or without labels.
        calls: of the module that were recorded.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str | None,
        output: str | int | None,
        mask: str | None,
        class_names: Sequence[str] | None,
    ) -> None:
        self._module = model if layer is None else _submodule(model, layer)
        self._network = unwrapped(self._module)
        self._needs_eager = _swallows_hooks(model) if layer is None else any(map(_is_compiled, model.modules()))
        self._layer, self._output, self._mask, self._class_names = layer, output, mask, class_names
        self._rows = _Rows()
        self._mixed = False  # labels by keyword came while others were awaited: their order is not known
        self._labels: list[LabelArray] = []
        self._unlabelled: list[NDArray[np.bool_]] = []  # of each call since the last labels: the positions that count
        self._depth = self._skipped = self._skipped_since_labels = 0
        self._masked = self._rows_of_last_call = 0
        self._attached = ExitStack()
        self.calls = 0

    # ---- on the model ------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Put the hooks on the model; the ``with`` does so. It may be done again after `detach`."""
        self.detach()
        if self._needs_eager:
            self._attached.enter_context(_uncompiled())
        before = self._module.register_forward_pre_hook(self._before, prepend=True)
        self._attached.callback(before.remove)
        # Called after an exception as well, so that the depth is right if the loop goes on with the next batch.
        after = self._module.register_forward_hook(self._after, with_kwargs=True, always_call=True)
        self._attached.callback(after.remove)
        self._depth = 0

    def detach(self) -> None:
        """Take the hooks off the model; what was recorded stays."""
        self._attached.close()

    def __enter__(self) -> Recording:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> Recording:
        """A copy of the model takes the hooks along; what it returns is not recorded."""
        return self

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module is self._module:
            self._depth += 1

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if getattr(module, "_is_replica", False):
            raise CistError(
                "DataParallel runs copies of what is recorded, in no order; record the DataParallel model itself, "
                "without a layer, or use one GPU."
            )
        if module is not self._module:
            return
        self._depth -= 1
        if self._depth > 0 or output is None:  # inside a call of its own, or an exception is on its way out
            return
        if self._network.training:
            self._skipped += 1
            self._skipped_since_labels += 1
            return
        self._keep(_logits_of(output, self._output), kwargs)

    def _keep(self, logits: torch.Tensor, kwargs: Mapping[str, Any]) -> None:
        positions = tuple(logits.shape[:-1])
        labels = self._keyword_labels(kwargs, positions)
        counts = self._counting(kwargs, positions)
        if labels is not None:
            self._mixed = self._mixed or bool(self._unlabelled)
            counts = counts & (labels != IGNORED_LABEL)
        rows = logits.detach().reshape(-1, logits.shape[-1]).cpu()
        kept = _float32(rows)[counts]  # a copy, whatever the model does with its output
        self._masked += int(counts.size - counts.sum())
        self._rows.append(kept)
        self._rows_of_last_call = len(kept)
        self.calls += 1
        if labels is None:
            self._unlabelled.append(counts)
        else:
            self._labels.append(labels[counts])

    def _keyword_labels(self, kwargs: Mapping[str, Any], positions: tuple[int, ...]) -> LabelArray | None:
        """The labels that the forward was called with, one a position; None where they are of another kind."""
        labels = _whole_numbers(kwargs.get(_LABELS))
        if labels is None or labels.shape != positions:
            return None
        tokens = _whole_numbers(kwargs.get("input_ids"))
        if len(positions) == 2 and not self._is_encoder_decoder and _repeats(labels, tokens):
            labels = np.concatenate([labels[:, 1:], np.full((len(labels), 1), IGNORED_LABEL)], axis=1)
        return labels.reshape(-1)

    def _counting(self, kwargs: Mapping[str, Any], positions: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which positions the mask leaves; of one logit a sample all."""
        everything = np.ones(positions, bool).reshape(-1)
        if len(positions) == 1 or self._mask is None:
            return everything
        if self._mask == _ATTENTION_MASK and self._is_encoder_decoder:
            return everything  # it masks the encoder's tokens, the logits are the decoder's
        mask = kwargs.get(self._mask)
        if mask is None:
            if self._mask == _ATTENTION_MASK:
                return everything
            raise CistError(
                f"The model was called without the keyword '{self._mask}', which was to hold the mask of its token "
                f"logits; it was given {', '.join(map(repr, kwargs)) or 'none'}."
            )
        if tuple(mask.shape) != positions:
            raise CistError(
                f"Expected the mask '{self._mask}' to have the shape {positions} of the token logits, but got "
                f"{tuple(mask.shape)}; name the keyword of the right one, or give mask=None to record every position."
            )
        counting: NDArray[np.bool_] = (mask != 0).reshape(-1).cpu().numpy()
        return counting

    @property
    def _is_encoder_decoder(self) -> bool:
        return bool(getattr(getattr(self._network, "config", None), "is_encoder_decoder", False))

    # ---- for the loop ------------------------------------------------------------------------------------------------

    def labels(self, batch_labels: Any) -> None:
        """The labels of what was recorded since the last labels: call it once a batch, after the model.

        Args:
            batch_labels: ``(N,)`` or ``(N, 1)`` whole numbers, one-hot ``(N, C)``, or ``(B, L)`` for token logits; a
                tensor, an array or a list. Samples with the label -100 are left out.

        Raises:
            CistError: if there are not as many as logits.
        """
        positions = sum(counts.size for counts in self._unlabelled)
        if not positions and self._skipped_since_labels:
            self._skipped_since_labels = 0
            return  # of a batch in training mode
        given = _whole_numbers(self._without_one_hot(batch_labels))
        if given is None:
            raise CistError("Expected whole numbers as labels, one for each sample: the position of its class.")
        if not positions:
            raise CistError(
                f"Got {given.size:,} labels but no logits without labels: call labels(...) after the model, once a "
                "batch, and not where the model takes 'labels' itself."
            )
        if self._mixed:
            raise CistError(
                "The model was called without labels and then with the keyword 'labels', so it is not known whose "
                "these are; give the labels of a call before the next one."
            )
        counts = np.concatenate(self._unlabelled)
        given = given.reshape(-1)
        if given.size == counts.size:
            given = given[counts]
        if given.size != counts.sum():
            raise CistError(
                f"Got {given.size:,} labels for {counts.sum():,} logits, from {len(self._unlabelled):,} calls of the "
                "model since the last labels; give the labels after each call."
            )
        known = given != IGNORED_LABEL
        if not known.all():
            self._masked += int(np.count_nonzero(~known))
            self._rows.append(self._rows.take_last(given.size)[known])
        self._labels.append(given[known])
        self._unlabelled, self._skipped_since_labels = [], 0

    def _without_one_hot(self, labels: Any) -> Any:
        """One-hot labels of the samples since the last labels as whole numbers; others as they are."""
        counts = sum(counts.size for counts in self._unlabelled)
        if counts and tuple(getattr(labels, "shape", ())) == (counts, self._rows.width):
            return label_numbers(labels, counts, self._rows.width)
        return labels

    @property
    def waits_for_labels(self) -> bool:
        """Whether logits were recorded since the last labels, other than with the forward's own."""
        return bool(self._unlabelled)

    def keep_only_last_call(self) -> None:
        """Forget every call but the last: for who learns only after it that the evaluation has begun."""
        if not self.calls:
            return
        rows = self._rows.take_last(self._rows_of_last_call)
        self._rows = _Rows()
        self._rows.append(rows)
        self._labels, self._unlabelled = self._labels[-1:], self._unlabelled[-1:]
        self.calls, self._masked, self._mixed = 1, 0, False

    # ---- the result --------------------------------------------------------------------------------------------------

    @property
    def num_samples(self) -> int:
        return self._rows.count

    def logit_set(self) -> LogitSet:
        """What was recorded, with labels if there are any; memory-mapped where it is large.

        Raises:
            CistError: if nothing was recorded, a part has labels and another has none, or a logit is NaN.
        """
        if not self._rows.count:
            raise CistError(self._why_nothing())
        labels = np.concatenate(self._labels) if self._labels else None
        if labels is not None and len(labels) != self._rows.count:
            raise CistError(
                f"Recorded {self._rows.count:,} logits but {len(labels):,} labels: some calls of the model had labels "
                "and others had none; call labels(...) after each, or never."
            )
        logits, provenance = self._rows.array(), dict(self._provenance())
        with suppress(CistError):  # only most rows are probabilities: who opens the file says what they are
            found = convert(logits, labels=labels)
            logits, provenance = found.logits, {**provenance, **found.provenance}
        return LogitSet.create(
            logits, labels, class_names=self._class_names, provenance=provenance, leave_out_labelled=True
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file for ``cist analyze --logits``; see `LogitSet.save`.

        Raises:
            CistError: as `logit_set`; for another ending, or a file that cannot be written.
        """
        if Path(path).suffix.lower() != ".safetensors":
            raise CistError(f"Expected the file of logits to end in .safetensors, but got '{path}'.")
        self.logit_set().save(path)

    def _provenance(self) -> Iterator[tuple[str, str]]:
        name = type(unwrapped(self._network)).__name__
        part = [str(each) for each in (self._layer, self._output) if each is not None]
        yield "teacher", f"{name} ({', '.join(part)})" if part else name
        yield "recorded", f"{self.calls:,} call{'s' * (self.calls != 1)}"
        if self._masked:
            yield "left out", f"{self._masked:,} positions by a mask or the label {IGNORED_LABEL}"

    def _why_nothing(self) -> str:
        if self._skipped:
            return (
                f"Nothing was recorded: the model was in training mode in each of its {self._skipped:,} calls, where "
                "dropout and batch statistics change the logits; call model.eval() before the loop."
            )
        if self.calls:
            return f"Nothing was recorded: the mask and the labels of {IGNORED_LABEL} left no position."
        return (
            "Nothing was recorded: the model was not called; give record(...) the object that the loop calls (the one "
            "that torch.compile or DataParallel returned), or name the layer that it calls."
        )


# ---- the model -------------------------------------------------------------------------------------------------------


def unwrapped(module: Any) -> nn.Module:
    """The network inside ``torch.compile``, ``DataParallel`` and their like, whose training mode is the real one."""
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif type(module).__name__ in _WRAPPERS:
            module = module.module
        else:
            return module  # type: ignore[no-any-return]


def _submodule(model: nn.Module, layer: str) -> nn.Module:
    inner = unwrapped(model)
    try:
        return inner.get_submodule(layer)
    except AttributeError as error:
        names = ", ".join(name for name, _ in inner.named_children()) or "none"
        raise CistError(
            f"{type(inner).__name__} has no layer '{layer}'; those at its top are: {names}. Names go on with a point, "
            "as in 'layer4.0'."
        ) from error


def _swallows_hooks(module: Any) -> bool:
    """Whether ``module.compile()`` has compiled the call with the hooks that it had then."""
    return getattr(module, "_compiled_call_impl", None) is not None


def _is_compiled(module: Any) -> bool:
    return hasattr(module, "_orig_mod") or _swallows_hooks(module)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Compiled code does not see hooks that came after it: meanwhile, what is compiled runs as it was written."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


# ---- what it returns -------------------------------------------------------------------------------------------------


def _logits_of(output: Any, chosen: str | int | None) -> torch.Tensor:
    """The logits in what a model returned: the user's choice, what is called so, or the only matrix."""
    parts = _parts(output)
    if chosen is not None:
        return _chosen(output, parts, chosen)
    found = {
        name: part
        for name, part in parts.items()
        if _may_be_logits(part) and not (isinstance(name, str) and plain(name) in FEATURE_NAMES)
    }
    if "logits" in found or len(found) == 1:
        logits: torch.Tensor = found.get("logits", next(iter(found.values())))
        return logits
    if found:
        listed = ", ".join(f"{name!r} {tuple(part.shape)}" for name, part in found.items())
        raise CistError(
            f"The model returned several matrices ({listed}), and only one of them is to be recorded; say which holds "
            f"the logits, as in record(model, output={list(found)[-1]!r})."
        )
    raise CistError(
        f"The model returned {_described(output)}, without logits that could be recorded: a tensor (N, C) or "
        "(B, L, C), or one in .logits or ['logits']; name the layer that returns the logits, or what of the output "
        "holds them: record(model, output=...)."
    )


def _chosen(output: Any, parts: Mapping[str | int, Any], chosen: str | int) -> torch.Tensor:
    if isinstance(chosen, int) and isinstance(output, tuple | list) and -len(output) <= chosen < len(output):
        part = output[chosen]
    elif chosen in parts:
        part = parts[chosen]
    else:
        there = ", ".join(map(repr, parts)) or "no parts"
        raise CistError(f"The model returned {_described(output)}, which has no {chosen!r} to record; it has {there}.")
    if not _may_be_logits(part):
        raise CistError(f"Expected output={chosen!r} to be logits (N, C) or (B, L, C), but it is {_described(part)}.")
    logits: torch.Tensor = part
    return logits


def _parts(output: Any) -> dict[str | int, Any]:
    """What a model returned, by key, attribute or position; a tensor alone as the first part."""
    import torch

    if isinstance(output, torch.Tensor):
        return {0: output}
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):  # a named tuple
        return dict(output._asdict())
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    parts = {name: part for name, part in getattr(output, "__dict__", {}).items() if not name.startswith("_")}
    return {**parts, "logits": output.logits} if hasattr(output, "logits") else parts


def _may_be_logits(item: Any) -> bool:
    """Several classes along the last of two or three dimensions."""
    import torch

    return isinstance(item, torch.Tensor) and item.is_floating_point() and item.ndim in (2, 3) and item.shape[-1] >= 2


def _described(output: Any) -> str:
    shape = getattr(output, "shape", None)
    kind = type(output).__name__
    if shape is not None:
        return f"a {kind} of shape {tuple(shape)}"
    if isinstance(output, Mapping):
        return f"a {kind} with {', '.join(map(repr, output)) or 'nothing'}"
    return f"a {kind}"


def _float32(rows: torch.Tensor) -> NDArray[np.float32]:
    """NumPy has no bfloat16, and half precision is wide enough for none of what follows."""
    array: NDArray[np.float32] = rows.float().numpy()
    return array


def _whole_numbers(values: Any) -> LabelArray | None:
    """As int64; None for anything else."""
    if values is None:
        return None
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() or values.is_complex():
            return None
        values = values.numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    return array.astype(np.int64) if array.dtype.kind in "iub" else None


def _repeats(labels: LabelArray, tokens: LabelArray | None) -> bool:
    """Whether labels are the tokens that went in, but for those that do not count: then the next is predicted."""
    return (
        tokens is not None
        and tokens.shape == labels.shape
        and bool(np.all((labels == tokens) | (labels == IGNORED_LABEL)))
    )


# ---- what is kept ----------------------------------------------------------------------------------------------------


class _Rows:
    """float32 rows of one width, appended in memory, and in a temporary file from `MEMORY_BYTES` on."""

    def __init__(self) -> None:
        self._chunks: list[NDArray[np.float32]] = []
        self._file: IO[bytes] | None = None
        self._width: int | None = None
        self.count = 0

    @property
    def width(self) -> int:
        """Number of classes; 0 before the first rows."""
        return self._width or 0

    def append(self, rows: NDArray[np.float32]) -> None:
        if self._width is None:
            self._width = rows.shape[1]
        if rows.shape[1] != self._width:
            raise CistError(
                f"Expected logits of {self._width:,} classes, as before, but the model returned {rows.shape[1]:,}; "
                "record one kind of output at a time."
            )
        if self._file is None and 4 * self._width * (self.count + len(rows)) > MEMORY_BYTES:
            self._file = _explaining_disk(tempfile.TemporaryFile)
            weakref.finalize(self, _close, self._file)
            earlier, self._chunks = self._chunks, []
            for chunk in earlier:
                self._write(chunk)
        if self._file is None:
            self._chunks.append(rows)
        else:
            self._write(rows)
        self.count += len(rows)

    def take_last(self, count: int) -> NDArray[np.float32]:
        """Remove the last rows and return them; they end where an `append` began."""
        taken: NDArray[np.float32]
        self.count -= count
        if self._file is None:
            chunks: list[NDArray[np.float32]] = []
            while count > sum(map(len, chunks)):
                chunks.insert(0, self._chunks.pop())
            taken = np.concatenate(chunks) if chunks else np.empty((0, self.width), np.float32)
        else:
            place = 4 * (self.width) * self.count
            self._file.seek(place)
            size = 4 * (self.width) * count
            taken = np.frombuffer(self._file.read(size), np.float32).reshape(count, -1)
            self._file.seek(place)  # not cut off: somebody may still read a map of the whole
        return taken

    def array(self) -> NDArray[np.float32]:
        """All rows, ``(N, C)``; of a file a memory map, which stays valid when more rows come."""
        if self._file is None:
            return np.concatenate(self._chunks)
        _explaining_disk(self._file.flush)
        return np.memmap(self._file, np.float32, mode="r", shape=(self.count, self.width))

    def _write(self, rows: NDArray[np.float32]) -> None:
        file = self._file
        assert file is not None
        _explaining_disk(lambda: file.write(np.ascontiguousarray(rows).data))


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # of what a full disk did not take
        file.close()


def _explaining_disk(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except OSError as error:
        raise CistError(
            f"The recorded logits cannot be kept in {tempfile.gettempdir()} ({error.strerror or error}); make room "
            "there, or set TMPDIR to another folder."
        ) from error
