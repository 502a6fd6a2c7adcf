"""JSON and YAML as people and programs write them, read so that nothing hangs and nothing is taken in silence."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

MOST_BYTES = 64 << 20
MOST_ENTRIES = 1_000_000
"""Of YAML, whose references let a few lines stand for as many entries as one likes."""


def read_document(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, such as a config.

    Raises:
        OSError: if it cannot be read, is no file (a pipe or a device never ends), or is larger than any document.
        UnicodeDecodeError: if it is not UTF-8.
    """
    return read_bytes(path, MOST_BYTES).decode("utf-8")


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        OSError: if it cannot be read, is no file (a pipe or a device never ends), or is larger.
    """
    with open(path, "rb", opener=_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fspath(path))
    return content


def parse_json(text: str | bytes) -> Any:
    """The content of JSON.

    Raises:
        ValueError: if it is no JSON, nests deeper than Python reads, or has one name twice in an object, of which the
            first would be dropped in silence.

    Example:
        >>> parse_json('{"rho": 3}')
        {'rho': 3}
        >>> parse_json('{"rho": 3, "rho": 4}')
        Traceback (most recent call last):
        ValueError: 'rho' stands twice in one object
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def parse_yaml(text: str) -> Any:
    """The content of YAML.

    Raises:
        ValueError: as `parse_json`, and for more than `MOST_ENTRIES`.
    """
    import yaml

    try:
        loader = _merging_loader()(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _refuse_repeated_keys(loader, node)
            content = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    waiting, entries = [content], 0
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        entries += 1
        if entries + len(waiting) > MOST_ENTRIES:
            raise ValueError(f"its references unfold to more than {MOST_ENTRIES:,} entries")
    return content


def _without_waiting(path: str, flags: int) -> int:
    """A pipe without a writer would keep whoever opens it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _merging_loader() -> type[Any]:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            # What overrides stands last. Whoever merges this mapping in would take the first.
            last = {}
            for key, value in node.value:
                last[(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)] = (key, value)
            node.value = list(last.values())

    return Loader


def _refuse_repeated_keys(loader: Any, root: Any) -> None:
    """Before references are merged in, which may say a name again to override it."""
    import yaml

    waiting, known = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in known or isinstance(node, yaml.ScalarNode):
            continue
        known.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        seen = set()
        for key, value in node.value:
            waiting += [key, value]
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = loader.construct_object(key)  # 1 and "1" are two
                if name in seen:
                    raise ValueError(f"{key.value!r} stands twice in one mapping")
                seen.add(name)
