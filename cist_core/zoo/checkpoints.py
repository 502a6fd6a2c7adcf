"""Weights from files, without running any code that a file might carry."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cist_core.errors import CistError
from cist_core.zoo.architectures import ARCHITECTURES, find_architecture

# Where the training scripts of the field put the weights inside a checkpoint.
WRAPPERS = ("model", "state_dict")
DATA_PARALLEL_PREFIX = "module."


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU.

    ``.safetensors`` files are memory-mapped. Anything else is read by ``torch.load(weights_only=True)``, which refuses
    a file that asks for code to be run. A dict under ``"model"`` or ``"state_dict"`` is unwrapped and a ``module.``
    prefix is removed.

    Raises:
        CistError: if the file is missing, damaged, holds objects other than weights, or holds no state dict.
    """
    source = Path(path)
    if not source.is_file():
        raise CistError(f"There is no checkpoint file {source}.")
    content = _read_safetensors(source) if source.suffix == ".safetensors" else _read_torch(source)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CistError(
            f"{source} holds no state dict, neither by itself nor under 'model' or 'state_dict'; "
            "save `model.state_dict()` into it."
        )
    return {str(name).removeprefix(DATA_PARALLEL_PREFIX): tensor for name, tensor in content.items()}


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
    found = _shapes(state)
    fits = []
    for name, architecture in ARCHITECTURES.items():
        classes = _num_classes(state, architecture.head)
        if classes is not None and expected_shapes(name, classes) == found:
            fits.append((name, classes))
    return fits


@lru_cache(maxsize=256)
def expected_shapes(architecture: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an architecture's weights; it is built on the meta device, where nothing is allocated."""
    with torch.device("meta"), _NoRandomValues():
        return _shapes(find_architecture(architecture).build(num_classes).state_dict())


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy weights into a model, in place.

    ``num_batches_tracked`` may be missing, as it is from older checkpoints: inference does not read it.

    Raises:
        CistError: listing what is missing, unexpected or of another shape.
    """
    differences = _differences(_shapes(model.state_dict()), _shapes(state))
    if differences:
        raise CistError(f"The weights in {source} do not fit the architecture: {differences}.")
    model.load_state_dict(dict(state), strict=False)


def nearest_architecture(state: Mapping[str, Tensor]) -> str:
    """A sentence on the architecture with the fewest differing weights, for error messages."""
    found = _shapes(state)

    def expected(name: str) -> dict[str, tuple[int, ...]]:
        return expected_shapes(name, _num_classes(state, ARCHITECTURES[name].head) or 2)

    name = min(ARCHITECTURES, key=lambda candidate: len(expected(candidate).items() ^ found.items()))
    return f"the nearest is {name} ({_differences(expected(name), found)})"


class _NoRandomValues(TorchFunctionMode):
    """Skips the random initialisation, which a meta tensor has no use for and for which torch imports its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CistError(f"{path} is not a readable safetensors file ({error}); write it again.") from error


def _read_torch(path: Path) -> object:
    try:
        # Many training scripts store their options beside the weights; a Namespace only holds attributes.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # Said of any pickle that torch did not write; whether it can be read is settled right after.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CistError(
            f"{path} is not a file of weights alone (it is damaged, or holds Python objects, which are not loaded "
            "because they can run code); save `model.state_dict()`, best as .safetensors."
        ) from error
    except Exception as error:  # damage makes torch's reader fail in any way, an IndexError included
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CistError(f"{path} is not a readable PyTorch checkpoint ({reason}).") from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}


def _num_classes(state: Mapping[str, Tensor], head: str) -> int | None:
    weight = state.get(head)
    return int(weight.shape[0]) if weight is not None and weight.ndim == 2 and weight.shape[0] >= 2 else None


def _differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    common = expected.keys() & found.keys()
    reshaped = [f"{n} {found[n]} instead of {expected[n]}" for n in sorted(common) if expected[n] != found[n]]
    parts = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "other shapes": reshaped,
    }
    return "; ".join(f"{len(names)} {kind}: {_shorten(names)}" for kind, names in parts.items() if names)


def _shorten(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
