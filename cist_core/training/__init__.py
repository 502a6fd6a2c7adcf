"""Distillation runs: a config, a run directory, and the engine between them (`cist_core.training.engine.train`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig, config_schema, load_config, parse_config
    from cist_core.training.engine import train
    from cist_core.training.estimation import estimate
    from cist_core.training.presets import PRESETS, preset
    from cist_core.training.run_directory import CLOCK_FIELDS, RunDirectory

__all__ = [
    "CLOCK_FIELDS",
    "PRESETS",
    "RunConfig",
    "RunDirectory",
    "config_schema",
    "estimate",
    "load_config",
    "parse_config",
    "preset",
    "train",
]

_HOMES = {
    "CLOCK_FIELDS": "run_directory",
    "PRESETS": "presets",
    "RunConfig": "config",
    "RunDirectory": "run_directory",
    "config_schema": "config",
    "estimate": "estimation",
    "load_config": "config",
    "parse_config": "config",
    "preset": "presets",
    "train": "engine",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a worker and a list of runs need no torch, a config does."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
