"""Language models in GGUF files: converted once, by a child process, to a folder of safetensors.

``python -m cist_core.language.gguf FILE FOLDER`` is that process. transformers reads the file and expands its quantised
weights; what a damaged file may do to the libraries ends with the process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from cist_core.cache_limit import cache_limit, keep_within_limit, mark_read
from cist_core.errors import CistError, first_line
from cist_core.files import move_into_place
from cist_core.logits.scratch import cache_dir, require_room
from cist_core.partial_files import remove_abandoned
from cist_core.processes import PYTHON
from cist_core.zoo.checkpoints import file_sha256

ORIGIN = "origin.json"
"""Beside the converted weights: which file they are from, and in what precision its weights are."""
_SECONDS = 1800
_BYTES_PER_BYTE = 9
"""Float32 weights take up to 8 times the room of 4-bit ones, and the tokenizer a little."""
_FORMAT = 1
_RESULTS = re.compile(r"[0-9a-f]{64}-\d+")
"""Names of the folders in the cache."""
"""Raised when the same file would be converted otherwise."""
_BAD = 2
_LOCK = threading.Lock()
"""Threads of one process convert one after the other; of two processes, the first to end gives the folder its name."""


def converted(path: Path) -> Path:
    """A folder with the model of a GGUF file in float32, as transformers opens it; made on the first call.

    It lies in the cache (``CIST_CACHE``) under the digest of the file. A folder there that is not whole is made anew.

    Raises:
        CistError: if the file cannot be read or its model is none that transformers knows, or the cache has no room.
    """
    if not path.is_file():
        raise CistError(f"There is no file {path}; check its name.")
    folder = cache_dir() / "language" / f"{file_sha256(path)}-{_FORMAT}"
    with _LOCK:
        if _is_whole(folder):
            mark_read(folder / "config.json")
        else:
            _make(path, folder)
    return folder


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", ORIGIN))


def _make(path: Path, folder: Path) -> None:
    cache_limit()  # refused before the work, not after
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        require_room(folder.parent, _BYTES_PER_BYTE * path.stat().st_size)
        partial.mkdir()
        _convert_in_child(path, partial)
        if not _is_whole(folder):  # else another process was as fast
            shutil.rmtree(folder, ignore_errors=True)
            move_into_place(partial, folder)
            keep_within_limit(folder, _RESULTS)
    except OSError as error:
        raise CistError(
            f"{path.name} cannot be converted in {folder.parent} ({error.strerror or error}); make room there, or set "
            "CIST_CACHE to a folder that can be written to."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert_in_child(path: Path, folder: Path) -> None:
    command = [*PYTHON, "-m", "cist_core.language.gguf", str(path.resolve()), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        child = subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS, text=True, check=False)
    except subprocess.TimeoutExpired as error:
        raise CistError(
            f"{path.name} could not be read in {_SECONDS // 60} minutes; use a smaller model, or download it again."
        ) from error
    if child.returncode:
        last = child.stderr.strip().rpartition("\n")[2]
        raise CistError(
            last
            if child.returncode == _BAD
            else f"{path.name} cannot be read: the process that tried ended with the status {child.returncode}. "
            "Either the file is damaged, or the memory too small for its weights in float32; download it again, or use "
            "a smaller model."
        )


# ---- in the child ----------------------------------------------------------------------------------------------------


def convert(path: Path, folder: Path) -> None:
    """Read a GGUF file and write weights, configuration and tokenizer.

    Args:
        path: of the file.
        folder: an empty one.

    Raises:
        CistError: if the file cannot be read.
    """
    from safetensors.torch import load_file, save_model

    from cist_core.zoo.foreign.transformers_folder import quiet
    from cist_core.zoo.foreign.wrapping import require

    gguf, transformers = require("smollm2", "gguf", "transformers", purpose=f"The GGUF file {path.name}")
    with quiet(transformers):
        try:
            precision = _precision(gguf, path)
            read = {"gguf_file": path.name, "local_files_only": True}
            network = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **read)
            tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **read)
        except Exception as error:  # a file can be wrong in any way
            raise CistError(
                f"{path.name} is not a GGUF file of a language model that transformers reads ({first_line(error)}); "
                "use a folder of its safetensors, or download it again if it is damaged."
            ) from error
        config = network.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are expanded
        config.architectures = [type(network).__name__]
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_model(network, str(folder / "model.safetensors"), metadata={"format": "pt"})
    state = network.state_dict()
    written = load_file(folder / "model.safetensors")
    if any(not bool((state[name] == tensor).all()) for name, tensor in written.items()):
        raise CistError(
            f"The weights of {path.name} were not written as they were read; set CIST_CACHE to another disk."
        )
    (folder / ORIGIN).write_text(json.dumps({"file": path.name, "precision": precision}, indent=2), encoding="utf-8")


def _precision(gguf: Any, path: Path) -> str:
    """How most of the weights are stored, such as ``"Q4_1"``."""
    counts: dict[str, int] = {}
    for tensor in gguf.GGUFReader(str(path)).tensors:
        kind = tensor.tensor_type.name
        counts[kind] = counts.get(kind, 0) + int(tensor.n_elements)
    return max(counts, key=counts.__getitem__)


def main(arguments: list[str]) -> int:
    try:
        convert(Path(arguments[0]), Path(arguments[1]))
    except CistError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return _BAD
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
