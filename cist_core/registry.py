"""What the registries of formats and kinds have in common: readers that are imported when they are used, and lists."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from cist_core.errors import CistError
from cist_core.installing import pip_install


def imported(reference: str | Callable[..., Any], *, extra: str | None = None, purpose: str = "") -> Callable[..., Any]:
    """What ``"package.module:name"`` names; a callable is itself.

    Args:
        reference: a module and a name in it, dots leading into classes, such as ``"cist_core.data.arrays:NpzArrays"``.
        extra: of this project, which brings the libraries that the module needs beyond the usual ones.
        purpose: what needs them; begins the error.

    Raises:
        CistError: if one of these libraries is not installed.

    Example:
        >>> imported("math:sqrt")(9)
        3.0
    """
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        if extra is None:
            raise
        raise CistError(
            f"{purpose} needs a library that is not installed here ({error}); run: {pip_install(extra)}"
        ) from error
    value: Callable[..., Any] = attrgetter(name)(found)
    return value


def listed(words: Sequence[str], joint: str = "or") -> str:
    """Words as a sentence lists them.

    Example:
        >>> listed([".npz", ".csv", ".parquet"])
        '.npz, .csv or .parquet'
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}"
