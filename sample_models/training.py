"""The plain supervised recipe behind every model in this folder: SGD, one learning-rate cycle, crop and flip.

The validation part is cut from the training images; the last epoch's weights are kept, whatever validation says,
so the reported test accuracy was never selected on.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.training.images import shift_and_mirror


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the data."""

    epochs: int
    batch_size: int = 128
    peak_learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warmup: float = 0.2
    crop_padding: int = 0
    flip: bool = False
    seed: int = 0

    def to_dict(self) -> dict[str, float | int | bool]:
        return asdict(self)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        hits = sum(
            int((model(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return hits / len(labels)


def train(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    recipe: Recipe,
) -> list[dict[str, float]]:
    """Train in place and return one record per epoch.

    Args:
        model: anything that maps ``(N, channels, H, W)`` to logits; seeded by the caller.
        train: normalised images and labels.
        validation: the same for the held-out part.
        recipe: see `Recipe`.
    """
    images, labels = train
    generator = torch.Generator().manual_seed(recipe.seed)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.peak_learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    steps = len(labels) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_learning_rate, total_steps=recipe.epochs * steps, pct_start=recipe.warmup
    )
    history = []
    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        model.train()
        total_loss, hits = 0.0, 0
        order = torch.randperm(len(labels), generator=generator)[: steps * recipe.batch_size]
        for batch in order.split(recipe.batch_size):
            x = shift_and_mirror(
                images[batch], padding=recipe.crop_padding, flip=recipe.flip, generator=generator
            ).contiguous(memory_format=torch.channels_last)
            logits = model(x)
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
            hits += int((logits.argmax(1) == labels[batch]).sum())
        record = {
            "epoch": epoch,
            "train_loss": total_loss / steps,
            "train_accuracy": hits / len(order),
            "validation_accuracy": accuracy(model, *validation),
            "seconds": time.perf_counter() - started,
        }
        if not np.isfinite(record["train_loss"]):
            raise RuntimeError(f"Training diverged in epoch {epoch}: the loss is {record['train_loss']}.")
        print({key: round(value, 4) for key, value in record.items()}, flush=True)
        history.append(record)
    model.eval()
    return history
