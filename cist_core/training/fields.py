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
