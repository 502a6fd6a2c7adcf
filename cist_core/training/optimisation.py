"""Optimiser and learning-rate schedule of a config."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from cist_core.training.config import OptimiserConfig, ScheduleConfig


def create_optimiser(parameters: Iterable[Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters alike."""
    if config.name == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def create_schedule(
    optimiser: torch.optim.Optimizer, config: ScheduleConfig, *, steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule as torch's own, to be stepped after every step of the optimiser."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate(config, step, steps=steps, steps_per_epoch=steps_per_epoch)
    )


def rate(config: ScheduleConfig, step: int, *, steps: int, steps_per_epoch: int) -> float:
    """Share of the largest learning rate that step ``step`` (from 0) of ``steps`` uses.

    Example:
        >>> [round(rate(ScheduleConfig(name="cosine"), step, steps=4, steps_per_epoch=1), 2) for step in range(4)]
        [1.0, 0.85, 0.5, 0.15]
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.name == "cosine":
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))
    if config.name == "multistep":
        return config.gamma ** sum(step >= round(epoch * steps_per_epoch) for epoch in config.milestones)
    return 1.0
