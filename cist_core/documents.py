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
    with open(path, "rb", opener=_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes", os.fspath(path))
    return content.decode("utf-8")


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
        content = yaml.load(text, _once_loader())
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


def _once_loader() -> type[Any]:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise ValueError(f"{key.value!r} stands twice in one mapping")
                    seen.add(key.value)
            return dict(super().construct_mapping(node, deep))

    return Loader
