"""Times inference on JPEG files beside the loops that one would write instead, on the same files and network.

    python benchmarks/inference.py --images shared/data/cifar10_test.npz [--count 200] [--output results.json]

The files are made of an image set (``images`` of an ``.npz``, ``(N, H, W, 3)`` uint8), enlarged to 500 x 375 with noise
as a sensor has it, so that a file takes about 110 kB, as one of ImageNet does. The network is one of torchvision's,
with random weights. In each turn all three run on all files, and all times are kept (`repeated.py`).

- plain: torchvision's `ImageFolder` and transforms in a `DataLoader` without workers, batches of 32, under `no_grad`.
- validate: a loop of our own in the style of timm's ``validate.py``: a `DataLoader` with as many workers as cores,
  batches of 64, channels last, under `inference_mode`.

Logits of all three agree within 1e-4 of the largest, or the script ends with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from PIL import Image
from repeated import in_turn, rows_beside
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from cist_core.cores import usable_cores
from cist_core.data.loading import load_dataset
from cist_core.inference.run import infer
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

MEAN, STD, SIZE, CROP = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, 224 / 256


def write_files(images: Any, folder: Path) -> None:
    noise = np.random.default_rng(0)
    for index, pixels in enumerate(images):
        place = folder / "ab"[index % 2]
        place.mkdir(exist_ok=True)
        enlarged = np.asarray(Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        grained = np.clip(enlarged + noise.normal(0, 24, enlarged.shape), 0, 255).astype(np.uint8)
        Image.fromarray(grained).save(place / f"{index:05}.jpg", quality=90)


def plain_loop(network: torch.nn.Module, folder: Path, *, in_style_of_validate: bool) -> Any:
    steps = [
        transforms.Resize(256),
        transforms.CenterCrop(SIZE),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    found = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    if in_style_of_validate:
        network = network.to(memory_format=torch.channels_last)
        loader = DataLoader(found, batch_size=64, num_workers=usable_cores())
    else:
        network = network.to(memory_format=torch.contiguous_format)
        loader = DataLoader(found, batch_size=32)
    logits = []
    with torch.inference_mode() if in_style_of_validate else torch.no_grad():
        for pixels, _ in loader:
            if in_style_of_validate:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            logits.append(network(pixels))
    return torch.cat(logits).numpy()


def ours(network: torch.nn.Module, folder: Path) -> Any:
    teacher = Teacher(
        "resnet18", network, "resnet18", 2, None, Preprocessing(MEAN, STD, SIZE, crop=CROP), "0" * 64
    )  # fmt: skip
    dataset = load_dataset(folder)
    with tempfile.TemporaryDirectory() as cache:
        return np.array(infer(teacher, dataset, device="cpu", cache_dir=cache).logit_set.logits)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time inference on JPEG files beside plain loops.")
    parser.add_argument("--images", type=Path, required=True, help="an .npz with `images`, (N, H, W, 3) uint8")
    parser.add_argument("--count", type=int, default=200, help="images")
    parser.add_argument("--network", default="resnet18", help="one of torchvision's that reads 224 pixels")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON to write")
    given = parser.parse_args()

    torch.manual_seed(0)
    network = models.get_model(given.network, weights=None, num_classes=2).eval()
    logits: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with np.load(given.images) as stored:
            write_files(stored["images"][: given.count], folder)
        size = sum(path.stat().st_size for path in folder.glob("*/*.jpg")) / given.count
        runs = {
            "inference: ours": lambda: ours(network, folder),
            "inference: plain loop": lambda: plain_loop(network, folder, in_style_of_validate=False),
            "inference: in the style of validate.py": lambda: plain_loop(network, folder, in_style_of_validate=True),
        }

        def keeping(each: str) -> Callable[[], None]:
            return lambda: logits.update({each: runs[each]()})

        measured_on = machine("torch", "torchvision", "pillow")
        times = in_turn({each: keeping(each) for each in runs}, given.turns)
    first, *others = logits.values()
    for other in others:
        apart = float(np.abs(first - other).max() / np.abs(other).max())
        if apart > 1e-4:
            raise SystemExit(f"The logits differ by {apart:.1e} of the largest.")
    rows = rows_beside(times, "inference: ours", f"{given.count} JPEG files, {given.network}")
    print(
        f"{size / 1e3:.0f} kB a file; load average {measured_on['load_average']} before, {os.getloadavg()[0]:.1f} after"
    )
    if given.output:
        given.output.write_text(json.dumps({"machine": measured_on, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
