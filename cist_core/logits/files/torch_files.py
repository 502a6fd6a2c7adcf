"""``.pt`` and ``.pth``: tensors through ``torch.load(weights_only=True)``, memory-mapped."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cist_core.errors import CistError
from cist_core.logits.files.arrays import StoredArray, StoredArrays, stored
from cist_core.logits.files.limits import ReadingLimits
from cist_core.logits.files.numpy_files import check_members

_DAMAGED = "this is damaged, or holds objects whose loading could run code; save a tensor or a dict of tensors."


def open_torch(path: Path, limits: ReadingLimits) -> StoredArrays:
    """The tensors of a file: one alone as ``tensor``, those of a dict under their names, of a tuple by their place.

    Files of torch 1.6 and later are memory-mapped. Older ones are read whole.

    Raises:
        CistError: if it is damaged, holds anything but tensors, lists and text, or packs its tensors.
    """
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_archive(path, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:  # torch's own text advises to switch the protection off
        raise CistError(_DAMAGED) from error
    if isinstance(loaded, torch.Tensor):
        return StoredArrays({"tensor": _tensor(loaded, "the tensor")})
    if isinstance(loaded, Mapping):
        return StoredArrays({str(name): _value(value, f"'{name}'") for name, value in loaded.items()})
    tensors = isinstance(loaded, tuple | list) and all(isinstance(each, torch.Tensor) for each in loaded)
    if tensors and any(each.ndim > 1 for each in loaded):
        return StoredArrays({f"{place}": _value(value, f"tensor {place}") for place, value in enumerate(loaded)})
    raise CistError(f"expected a tensor or a dict of tensors, but got a {type(loaded).__name__}.")


def is_program(archive: zipfile.ZipFile) -> bool:
    """Whether this is TorchScript: code with weights. torch's own refusal advises to switch its protection off."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _check_archive(path: Path, limits: ReadingLimits) -> None:
    with zipfile.ZipFile(path) as archive:
        if is_program(archive):
            raise CistError("this is a TorchScript program, which carries code; save a tensor or a dict of tensors.")
        for info in check_members(archive, limits):
            if info.compress_type != zipfile.ZIP_STORED:
                raise CistError(f"the member {info.filename!r} is packed, which torch.save does not do; save it again.")
            if info.filename.endswith(".pkl"):
                limits.check_text(info.file_size, f"the member {info.filename!r}")


def _value(value: Any, what: str) -> StoredArray:
    import torch

    return _tensor(value, what) if isinstance(value, torch.Tensor) else stored(value)


def _tensor(tensor: Any, what: str) -> StoredArray:
    import torch

    shape = tuple(map(int, tensor.shape))

    def load() -> Any:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CistError(f"{what} is not a plain tensor in memory; save it with tensor.to_dense().cpu().")
        # A view can show one stored number any number of times, which a copy would multiply.
        if math.prod(shape) * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CistError(
                f"{what} has the shape {shape}, but the file holds {tensor.untyped_storage().nbytes():,} bytes of it, "
                "shown many times over; save tensor.contiguous()."
            )
        plain = tensor.detach()
        return _from_bfloat16(plain) if plain.dtype == torch.bfloat16 else plain.numpy()

    return StoredArray(shape, load)


def _from_bfloat16(tensor: Any) -> Any:
    """NumPy has no bfloat16; the rows are widened one block after another."""
    import torch

    from cist_core.logits.scratch import scratch_array

    wide = scratch_array(tuple(tensor.shape), "float32")
    if tensor.ndim == 0:
        return tensor.float().numpy()
    step = max(1, (1 << 20) // max(1, math.prod(tensor.shape[1:])))
    for start in range(0, len(tensor), step):
        wide[start : start + step] = tensor[start : start + step].to(torch.float32).numpy()
    return wide
