"""Folders of Hugging Face transformers, whatever network they hold: ``config.json`` and safetensors, and no code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cist_core.documents import parse_json, parse_yaml, read_document
from cist_core.errors import CistError, first_line
from cist_core.zoo.checkpoints import meta_device

# What would make the library fetch or run something that is neither this configuration nor these weights.
_REFUSED_KEYS = {
    "auto_map": "code of its own",
    "quantization_config": "a library for quantised weights",
    "backbone": "another network as its backbone",
    "use_pretrained_backbone": "another network as its backbone",
    "timm_kwargs": "arguments for another library",
    "_attn_implementation": "a kernel of its own",
    "attn_implementation": "a kernel of its own",
}
_LARGEST_CONFIG = 1 << 24
# Weights in half the precision take twice their file in memory; more than this, and a configuration does not belong
# to its file.
_MEMORY_PER_BYTE = 4


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of the folder.

    Raises:
        CistError: if it is missing, too large, or no JSON object.
    """
    if not path.is_file():
        raise CistError(f"There is no {path.name} in {path.parent}; a Hugging Face model has one.")
    if path.stat().st_size > _LARGEST_CONFIG:
        raise CistError(f"{path} has {path.stat().st_size:,} bytes, more than any configuration.")
    try:
        content = parse_json(read_document(path))
    except (OSError, ValueError) as error:
        raise CistError(f"{path} is not readable JSON ({first_line(error)}).") from error
    if not isinstance(content, dict):
        raise CistError(f"{path} is no JSON object.")
    return content


def refuse_foreign_code(config: Mapping[str, Any], root: Path, *, remedy: str, file: str = "config.json") -> None:
    """Refuse what would run or fetch code, before the library sees it.

    Raises:
        CistError: naming the entry, the ``file`` it is in, and ``remedy``.
    """
    for key, value in entries(config):
        if key in _REFUSED_KEYS and value not in (None, False, "eager", "sdpa"):
            raise CistError(f"{root} asks for {_REFUSED_KEYS[key]} ('{key}' in {file}), which is not loaded; {remedy}.")


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, at every depth."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from ((str(key), item) for key, item in part.items())
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def check_shards(root: Path) -> None:
    """The index names files; they lie in the folder.

    Raises:
        CistError: naming one that does not.
    """
    index = root / "model.safetensors.index.json"
    if index.is_file():
        for shard in read_json(index).get("weight_map", {}).values():
            if str(shard) != Path(str(shard)).name or not (root / str(shard)).is_file():
                raise CistError(f"{index} names '{shard}', which is no file in that folder.")


def check_size(transformers: Any, root: Path, size: int, auto: str, *, kind: str) -> None:
    """Refuse a configuration that does not fit the size of the weights, before anything is allocated.

    Args:
        transformers: the library.
        root: the folder.
        size: of the weights, in bytes.
        auto: the class of the library that opens such a folder.
        kind: of network, for the error.

    Raises:
        CistError: if it does not, or describes no such network.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(root, trust_remote_code=False, local_files_only=True)
        _check_depth(config, size)
        with meta_device():
            network = getattr(transformers, auto).from_config(config, trust_remote_code=False)
    except CistError:
        raise
    except Exception as error:  # a configuration can be wrong in any way
        raise CistError(f"{root / 'config.json'} describes no {kind} ({first_line(error)}).") from error
    needed = sum(parameter.numel() for parameter in network.parameters()) * 4
    if needed > _MEMORY_PER_BYTE * size:
        raise CistError(
            f"{root / 'config.json'} describes a network of {needed:,} bytes, but the weights have only {size:,}; the "
            "two do not belong together."
        )


def _check_depth(config: Any, size: int) -> None:
    """A layer takes hundreds of bytes; a number of layers that the file cannot hold would be built one by one."""
    for key, value in entries(config.to_dict()):
        layers = value if isinstance(value, list) else [value]
        if re.search(r"layers|depths?$|blocks", key) and any(
            isinstance(n, int) and n > size // 100 + 1 for n in layers
        ):
            raise CistError(f"The configuration has {key} = {value}, more than the {size:,} bytes of weights can hold.")


def load_network(transformers: Any, root: Path, auto: str, *, dtype: str) -> Any:
    """The network with its weights.

    Args:
        transformers: the library.
        root: the folder.
        auto: as in `check_size`.
        dtype: of the weights in memory; ``"auto"``: as they are stored.

    Raises:
        CistError: if it cannot be loaded, or weights are missing or of another shape.
    """
    try:
        network, info = getattr(transformers, auto).from_pretrained(
            root,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            dtype=dtype,
        )
    except Exception as error:  # weights and configuration can disagree in any way
        raise CistError(
            f"The Hugging Face model in {root} cannot be loaded ({first_line(error)}); check that config.json and "
            "weights are of one model, or download them again."
        ) from error
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if missing:
        shown = ", ".join(missing[:4])
        raise CistError(
            f"The weights in {root} do not fit its config.json: {len(missing)} missing or of other shape: {shown}; use "
            "the config.json that they were saved with."
        )
    return network


class quiet:  # noqa: N801 - used like a function
    """Without the library's own remarks and progress bars."""

    def __init__(self, transformers: Any) -> None:
        self._logging = transformers.logging

    def __enter__(self) -> None:
        self._before = self._logging.get_verbosity()
        self._bar = self._logging.is_progress_bar_enabled()
        self._logging.set_verbosity(50)
        self._logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        self._logging.set_verbosity(self._before)
        if self._bar:
            self._logging.enable_progress_bar()


def licence_of(root: Path) -> str | None:
    """From the head of the model card."""
    card = root / "README.md"
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as stream:
        found = re.match(r"---\s*\n(.*?)\n---", stream.read(1 << 16), re.DOTALL)
    if found is None:
        return None
    try:
        head = parse_yaml(found.group(1))
    except ValueError:
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence
