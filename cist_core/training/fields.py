"""The fields of a config by dotted name, as the command line writes them and tables show them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cist_core.errors import CistError


def flat(part: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optimiser": {"momentum": 0.5}}`` as ``{"optimiser.momentum": 0.5}``."""
    fields: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimiser.momentum": 0.5}`` as ``{"optimiser": {"momentum": 0.5}}``.

    Raises:
        CistError: if a field is given beside the part that it is in.
    """
    outer: dict[str, Any] = {}
    for field, value in changes.items():
        part = outer
        *parents, last = field.split(".")
        for parent in parents:
            part = part.setdefault(parent, {})
            if not isinstance(part, dict):
                raise CistError(f"Both '{parent}' and '{field}', which is in it, are given; leave one out.")
        part[last] = value
    return outer


MACHINE_FIELDS = ("device", "threads", "checkpoint_every_steps", "trackers")


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as it is written now: what stands under ``machine`` stood beside ``seed`` in earlier run directories.

    Raises:
        CistError: if a field stands in both places.

    Example:
        >>> upgraded({"seed": 0, "threads": 1})
        {'seed': 0, 'machine': {'threads': 1}}
    """
    moved = {name: config[name] for name in MACHINE_FIELDS if name in config}
    machine = config.get("machine", {})
    if not moved or not isinstance(machine, Mapping):  # what is no part is named when the config is checked
        return dict(config)
    for name in moved:
        if name in machine:
            raise CistError(f"Both '{name}' and 'machine.{name}' are given; leave '{name}' out.")
    kept = {name: value for name, value in config.items() if name not in moved}
    return {**kept, "machine": {**machine, **moved}}
