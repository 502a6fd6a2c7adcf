"""Weights from files, without running any code that a file might carry."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cist_core.checksums import CHECKSUM, checksum, compare, tensor_digest
from cist_core.errors import CistError, first_line
from cist_core.logits.files.torch_files import is_program
from cist_core.zoo.architectures import ARCHITECTURES, find_architecture
from cist_core.zoo.weight_groups import choose_weights

# A file may hold some weights under several names, but no more numbers than that: what claims to is an attack.
_LOGICAL_SIZE = 4


def read_checkpoint(path: str | os.PathLike[str], weights: str | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU.

    ``.safetensors`` files are memory-mapped. Anything else is read by ``torch.load(weights_only=True)``, which refuses
    a file that asks for code to be run, after a first reading without the numbers has shown that it holds as many as
    it says. Of several groups of weights the one that is usually meant is taken, and what wraps all of its names is
    removed: see `cist_core.zoo.weight_groups`.

    Args:
        path: of the file.
        weights: the name of a group; None: the usual one, a running average before the weights it averages.

    Raises:
        CistError: if the file is missing, damaged, holds objects other than weights, holds no state dict or none of
            that name, or claims weights that are larger than itself.
    """
    content = read_content(path)
    return dict(choose_weights(content, lambda state: (), source=str(path), weights=weights).group.state)


def read_raw(path: Path) -> dict[str, Tensor]:
    """A bare state dict, under the names that it has in the file; errors as of `read_checkpoint`."""
    content = read_content(path)
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CistError(f"{path} holds no state dict; save `model.state_dict()` into it.")
    return {str(name): tensor for name, tensor in content.items()}


def read_content(path: str | os.PathLike[str]) -> object:
    """Whatever a checkpoint file holds, weights among it; errors as of `read_checkpoint`."""
    source = Path(path)
    if not source.is_file():
        raise CistError(f"There is no checkpoint file {source}.")
    return _read_safetensors(source) if source.suffix.lower() == ".safetensors" else _read_torch(source)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def identify_architecture(state: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """The architectures of the zoo that a state dict fits exactly, by names and shapes.

    Args:
        state: names to tensors, as from `read_checkpoint`.

    Returns:
        ``(name, number of classes)`` of each fit, in the registry's order; empty if there is none.
    """
    found = state_shapes(state)
    fits = []
    for name, architecture in ARCHITECTURES.items():
        classes = _num_classes(state, architecture.head)
        if classes is not None and expected_shapes(name, classes) == found:
            fits.append((name, classes))
    return fits


@lru_cache(maxsize=256)
def expected_shapes(architecture: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an architecture's weights; it is built on the meta device, where nothing is allocated."""
    with meta_device():
        return state_shapes(find_architecture(architecture).build(num_classes).state_dict())


def state_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict, less the counters of batch norm, which inference does not read."""
    return {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}


@contextmanager
def meta_device() -> Iterator[None]:
    """Modules that are built in here have shapes, but no numbers: nothing is allocated, whatever their size."""
    with torch.device("meta"), _NoRandomValues():
        yield


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy weights into a model, in place.

    ``num_batches_tracked`` may be missing, as it is from older checkpoints: inference does not read it.

    Raises:
        CistError: listing what is missing, unexpected or of another shape.
    """
    differences = find_differences(state_shapes(model.state_dict()), state)
    if differences:
        raise CistError(f"The weights in {source} do not fit the architecture: {differences}.")
    _check_numbers(model.state_dict(), state, source)
    model.load_state_dict(with_versions(state, model), strict=False)


def with_versions(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights that say in which version of its layout each layer has them, as `torch` keeps it beside a state dict.

    Files of safetensors do not have it, and some networks (MNASNet) load nothing without; it is the one of the model.
    """
    found = OrderedDict(state)
    versions = getattr(model.state_dict(), "_metadata", None)
    if versions is not None:
        found._metadata = versions  # type: ignore[attr-defined]  # where torch looks for it
    return found


def _check_numbers(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in state.items():
        if name not in expected or not expected[name].is_floating_point():
            continue
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CistError(f"'{name}' in {source} holds numbers of the type {kind}; save the weights as float32.")
        if not tensor.float().isfinite().all():
            raise CistError(
                f"'{name}' in {source} holds NaN or infinite numbers: its training diverged, or the file is damaged; "
                "use an earlier checkpoint."
            )


def nearest_architecture(state: Mapping[str, Tensor]) -> str:
    """A sentence on the architecture with the fewest differing weights, for error messages."""
    name = find_nearest(state)
    return f"the nearest is {name} ({find_differences(_expected(name, state), state)})"


def find_nearest(state: Mapping[str, Tensor]) -> str:
    """The architecture of the zoo with the fewest differing weights."""
    found = state_shapes(state)
    return min(ARCHITECTURES, key=lambda candidate: len(_expected(candidate, state).items() ^ found.items()))


@dataclass(frozen=True)
class Differences:
    """Between the weights that an architecture has and those that a file holds.

    Attributes:
        missing: names that the file lacks.
        unexpected: names that the architecture does not have.
        reshaped: ``(name, shape in the file, shape in the architecture)``.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        parts = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "other shapes": tuple(f"{name} {found} instead of {wanted}" for name, found, wanted in self.reshaped),
        }
        return "; ".join(f"{len(names)} {kind}: {_shorten(names)}" for kind, names in parts.items() if names)


def find_differences(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> Differences:
    """Compare names and shapes; counters of batch norm, which inference does not read, do not count.

    Args:
        expected: as from `expected_shapes`.
        state: as from `read_checkpoint`.
    """
    found = state_shapes(state)
    common = sorted(expected.keys() & found.keys())
    return Differences(
        tuple(name for name in expected if name not in found),
        tuple(name for name in found if name not in expected),
        tuple((name, found[name], expected[name]) for name in common if expected[name] != found[name]),
    )


def _expected(name: str, state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return expected_shapes(name, _num_classes(state, ARCHITECTURES[name].head) or 2)


class _NoRandomValues(TorchFunctionMode):
    """Skips the random initialisation, which a meta tensor has no use for and for which torch imports its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write weights with a checksum as a safetensors file; equal weights are equal files.

    Raises:
        OSError, SafetensorError: if it cannot be written.
    """
    from safetensors.torch import save_file

    there = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(there, path, metadata={CHECKSUM: checksum({}, _digests(there))})


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        state = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CistError(f"{path} is not a readable safetensors file ({error}); write it again.") from error
    if CHECKSUM in metadata:
        compare(path, metadata, _digests(state))
    return state


def _digests(state: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        name: tensor_digest(str(value.dtype), tuple(value.shape), value.reshape(-1).view(torch.uint8).numpy())
        for name, value in state.items()
    }


def _read_torch(path: Path) -> object:
    _check_archive(path)
    claimed = _torch_load(path, "meta")
    size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(claimed))
    if size > _LOGICAL_SIZE * path.stat().st_size:
        raise CistError(
            f"{path} says that it holds weights of {size:,} bytes, but has only {path.stat().st_size:,}; "
            "save `model.state_dict()` afresh, without expanded tensors."
        )
    return _torch_load(path, "cpu")


def _torch_load(path: Path, device: str) -> object:
    try:
        # Many training scripts store their options and accuracy beside the weights. A Namespace only holds
        # attributes, a NumPy number only its bytes.
        with torch.serialization.safe_globals([argparse.Namespace, *_numpy_numbers()]), warnings.catch_warnings():
            # Said of any pickle that torch did not write; whether it can be read is settled right after.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CistError(
            f"{path} is not a file of weights alone (it is damaged, or holds Python objects, which are not loaded "
            "because they can run code); save `model.state_dict()`, best as .safetensors."
        ) from error
    except Exception as error:  # damage makes torch's reader fail in any way, an IndexError included
        raise CistError(f"{path} is not a readable PyTorch checkpoint ({first_line(error)}).") from error


def _numpy_numbers() -> list[Any]:
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float16, np.float32, np.float64)]
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]


def _check_archive(path: Path) -> None:
    """torch stores weights uncompressed; a file that unpacks to more than its size is made to fill the memory."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            unpacked, program = sum(entry.file_size for entry in archive.infolist()), is_program(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CistError(f"{path} is not a readable PyTorch checkpoint ({error}).") from error
    if program:
        raise CistError(
            f"{path} is a TorchScript program, which carries code and is not run; save `model.state_dict()`, or export "
            "the network as .onnx or with torch.export (.pt2)."
        )
    if unpacked > path.stat().st_size:
        raise CistError(
            f"{path} is not a checkpoint as torch writes it: its {path.stat().st_size:,} bytes unpack to "
            f"{unpacked:,}; save `model.state_dict()` again."
        )


def _tensors(content: object) -> Iterator[Tensor]:
    """All tensors in nested containers, each container once: a crafted file may hold one that contains itself."""
    waiting, seen = [content], set[int]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, Mapping | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            waiting += part.values() if isinstance(part, Mapping) else part


def _num_classes(state: Mapping[str, Tensor], head: str) -> int | None:
    weight = state.get(head)
    return int(weight.shape[0]) if weight is not None and weight.ndim == 2 and weight.shape[0] >= 2 else None


def _shorten(names: tuple[str, ...], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
