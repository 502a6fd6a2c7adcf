"""Times the architectures of the zoo on one thread, and writes cist_core/training/step_times.json.

    python benchmarks/step_times.py

Run it on a machine that does nothing else; each time is the quickest of several.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from cist_core.training.step_times import reference_seconds
from cist_core.zoo.architectures import ARCHITECTURES, create_model

OUT = Path(__file__).resolve().parents[1] / "cist_core" / "training" / "step_times.json"
SECONDS = 1.0  # of repeating one measurement
BATCHES = {28: (8, 64), 32: (8, 64), 224: (1, 4)}  # by image size: the smaller and the larger that are timed


def quickest(function: Callable[[], object]) -> float:
    function()  # the first call sets things up
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        function()
        times.append(time.perf_counter() - before)
    return min(times)


def times_of(name: str) -> dict[str, float]:
    architecture = ARCHITECTURES[name]
    size, channels = architecture.image_size, architecture.channels
    model = create_model(name, num_classes=10 if channels == 1 else 100)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    small, large = BATCHES[size]

    def step(batch: int) -> float:
        images, labels = torch.randn(batch, channels, size, size), torch.zeros(batch, dtype=torch.long)

        def update() -> None:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()

        return quickest(update)

    model.train()
    of_small, of_large = step(small), step(large)
    model.eval()
    images = torch.randn(large, channels, size, size)
    with torch.inference_mode():
        forward = quickest(lambda: model(images)) / large
    image = (of_large - of_small) / (large - small)
    return {"step": max(of_small - image * small, 0.0), "image": image, "forward": forward}


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for name in ARCHITECTURES:
        found[name] = {key: float(f"{value:.3g}") for key, value in times_of(name).items()}
        print(name, found[name], flush=True)
    content = {"reference_seconds": float(f"{reference_seconds():.3g}"), "architectures": found}
    OUT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
