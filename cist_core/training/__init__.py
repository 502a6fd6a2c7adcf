"""Distillation runs: a config, a run directory, and the engine between them."""

from cist_core.training.config import RunConfig, config_schema, load_config, parse_config
from cist_core.training.presets import PRESETS, preset
from cist_core.training.run_directory import CLOCK_FIELDS, RunDirectory

__all__ = [
    "CLOCK_FIELDS",
    "PRESETS",
    "RunConfig",
    "RunDirectory",
    "config_schema",
    "load_config",
    "parse_config",
    "preset",
]
