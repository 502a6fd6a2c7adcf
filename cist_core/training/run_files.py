"""What a run has written about itself, read so that a damaged file says less, and never something else.

Whatever does not have the type and the range that the engine writes is left out and named.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cist_core.documents import parse_json, read_bytes
from cist_core.files import file_state
from cist_core.training.logit_scale import VERBS

_LARGEST = 1e300
MOST_BYTES = 256 << 20
"""Larger than anything that a run writes about itself."""
_SHOWN = 40
_NAMED = 3


def read_status(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The fields of a ``status.json`` that are whole, and sentences on the others; both empty if there is no file."""
    try:
        content = parse_json(read_bytes(path, MOST_BYTES))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [f"{path.name} is damaged ({_reason(error)})"]
    if not isinstance(content, dict):
        return {}, [f"{path.name} is damaged (it holds {_shown(content)})"]
    wrong = [name for name, value in content.items() if not _status_field(name)(value)]
    status = {name: value for name, value in content.items() if name not in wrong}
    named = ", ".join(f"{name} is {_shown(content[name])}" for name in wrong[:_NAMED])
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return status, [f"{path.name} is damaged ({named}{more})"] if wrong else []


def read_metrics(path: Path) -> tuple[list[dict[str, float]], list[str]]:
    """The rows of a ``metrics.jsonl`` that are whole, in order, and sentences on the others.

    A last line without an end is still being written.
    """
    try:
        lines = read_bytes(path, MOST_BYTES).split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path.name} cannot be read ({_reason(error)})"]
    rows, wrong = [], []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = parse_json(line.lstrip(b"\0"))  # what a power cut leaves of lines before it
        except ValueError:
            row = None
        if isinstance(row, dict) and _is_row(row):
            rows.append(row)
        else:
            wrong.append(number)
    if not wrong:
        return rows, []
    named = ", ".join(map(str, wrong[:_NAMED])) + (f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")
    return rows, [f"{path.name} is damaged (line{'s' * (len(wrong) > 1)} {named})"]


def metrics_damage(path: Path) -> list[str]:
    """The sentences of `read_metrics`; a file that has not changed since is not read again."""
    try:
        state = file_state(path)
    except OSError:
        return read_metrics(path)[1]
    return list(_metrics_damage(path, state))


@functools.lru_cache(maxsize=4096)
def _metrics_damage(path: Path, state: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(read_metrics(path)[1])


def _is_row(row: dict[str, Any]) -> bool:
    whole = all(_metric(name)(value) for name, value in row.items())
    return whole and {"epoch", "step", "val_accuracy", "student_maximum_mean"} <= row.keys()


# ---- fields ----------------------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def _is_moment(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1e11  # type: ignore[operator]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_scale_fault(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"state", "since", "student_maximum", "teacher_maximum"}
        and _is_text(value["state"])
        and value["state"] in VERBS
        and _is_count(value["since"])
        and _is_number(value["student_maximum"])
        and (value["teacher_maximum"] is None or _is_number(value["teacher_maximum"]))
    )


def _is_standard_json(value: object) -> bool:
    """Without the NaN and Infinity that Python reads as well."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


_TEXTS = ("state", "phase", "reason")
_COUNTS = ("epoch", "epochs", "step", "steps", "best_epoch", "pid", "processes")
_MOMENTS = ("started_at", "updated_at", "ended_at", "eta_seconds")
_NUMBERS = ("phase_done", "phase_total", "samples_per_second")


def _status_field(name: str) -> Callable[[object], bool]:
    """What the field of this name may hold; one that is not known to us whatever can be written back."""
    checks: dict[str, Callable[[object], bool]] = {
        **dict.fromkeys(_TEXTS, _is_text),
        **dict.fromkeys(_COUNTS, _is_count),
        **dict.fromkeys(_MOMENTS, _is_moment),
        **dict.fromkeys(_NUMBERS, _is_number),
        "warnings": _is_list_of_texts,
        "logit_scale": _is_scale_fault,
    }
    if name in checks:
        check = checks[name]
    elif "accuracy" in name or name.endswith("agreement"):
        check = _is_share
    elif name.startswith(("test_", "val_")):
        check = _is_number
    else:
        return _is_standard_json
    return lambda value: value is None or check(value)


def _metric(name: str) -> Callable[[object], bool]:
    if name in ("epoch", "step"):
        return _is_count
    if name in ("val_accuracy", "student_maximum_mean"):
        return _is_share if name == "val_accuracy" else _is_number
    check = _is_share if name.endswith("accuracy") else _is_number
    return lambda value: value is None or check(value)


# ---- words -----------------------------------------------------------------------------------------------------------


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if str(error).startswith("it ") else "it is no JSON"


def _shown(value: object) -> str:
    """A value in few characters, whatever it is."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
