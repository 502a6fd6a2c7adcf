"""Times an epoch of training beside the loop that one would write instead, on the same images, teacher and student.

    python benchmarks/epoch.py --images shared/data/cifar100_train.npz [--count 1024] [--output results.json]

Student and loss, batches of 64, stochastic gradient descent with momentum, images that are shifted by up to four pixels
and mirrored. In each turn all run one epoch, and all times are kept (`repeated.py`).

- ours: the steps of `Trainer`, with the statistics that a run keeps (means and spreads of maxima, entropies, weights).
- ours with cached logits: the same without augmentation, where the teacher's logits are computed once, before.
- plain: a loop of our own in the style of mdistiller: torchvision's transforms in a `DataLoader` with as many workers
  as cores, the teacher in every step under `no_grad`, KD at a temperature of 4, meters of loss, top-1 and top-5.
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
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cist_core.cores import usable_cores
from cist_core.data.dataset import ImageDataset
from cist_core.inference.sources import find_teacher
from cist_core.training.image_config import ImageClassificationConfig
from cist_core.training.trainer import Trainer, create_accelerator
from cist_core.zoo.architectures import create_model

TAU, BATCH = 4.0, 64
TEACHER = "cifar100-resnet20"
OPTIMISER = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


def trainer_of(images: Path, student: str, *, augmented: bool) -> Trainer:
    config = ImageClassificationConfig.model_validate(
        {
            "task": "image-classification",
            "data": {"name": str(images), "validation_share": 0.1},
            "teacher": {"name": TEACHER},
            "student": {"architecture": student},
            "objective": f"kd:tau={TAU:g}",
            "optimiser": {"name": "sgd", "nesterov": False, **OPTIMISER},
            "augmentation": {"crop_padding": 4, "flip": True} if augmented else {},
            "batch_size": BATCH,
            "epochs": 100,
            "machine": {"device": "cpu"},
        }
    )
    trainer = Trainer(config, accelerator=create_accelerator(config))
    trainer.task.prepare_teacher("train")
    trainer.task.prepare_teacher("validation")
    return trainer


def epochs_of(trainer: Trainer) -> Callable[[], None]:
    done = 0

    def epoch() -> None:
        nonlocal done
        statistics = trainer.task.new_statistics()
        for step in range(done, done + trainer.length.steps_per_epoch):
            trainer.step(step, statistics)
        done += trainer.length.steps_per_epoch
        statistics.row()

    return epoch


class Pictures(Dataset[tuple[Any, int]]):
    """As torchvision's `CIFAR100` gives them: a picture at a time, through the transforms."""

    def __init__(self, images: Any, labels: Any, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Meter:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, value: float, count: int) -> None:
        self.total, self.count = self.total + value * count, self.count + count


def plain_epochs(dataset: ImageDataset, student_name: str) -> Callable[[], None]:
    found = find_teacher(TEACHER)
    teacher, student = found.model.eval(), create_model(student_name, num_classes=found.num_classes)
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(found.preprocessing.mean, found.preprocessing.std),
    ]
    loader = DataLoader(
        Pictures(dataset.images, dataset.labels, transforms.Compose(steps)),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=usable_cores(),
    )
    optimiser = torch.optim.SGD(
        student.parameters(),
        lr=OPTIMISER["learning_rate"],
        momentum=OPTIMISER["momentum"],
        weight_decay=OPTIMISER["weight_decay"],
    )

    def epoch() -> None:
        meters = [Meter() for _ in range(3)]
        student.train()
        for pixels, wanted in loader:
            logits = student(pixels)
            with torch.no_grad():
                of_teacher = teacher(pixels)
            soft = F.kl_div((logits / TAU).log_softmax(1), (of_teacher / TAU).softmax(1), reduction="batchmean")
            loss = 0.1 * F.cross_entropy(logits, wanted) + 0.9 * TAU**2 * soft
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            right = logits.topk(5, 1).indices.eq(wanted[:, None])
            for meter, value in zip(
                meters, (loss, right[:, 0].float().mean(), right.any(1).float().mean()), strict=True
            ):
                meter.update(value.item(), len(wanted))

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description="Time an epoch of training beside a plain loop.")
    parser.add_argument(
        "--images", type=Path, required=True, help="an .npz with `images`, (N, 32, 32, 3), and `labels`"
    )
    parser.add_argument("--count", type=int, default=1024, help="images of an epoch")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of torch, for all")
    parser.add_argument("--output", type=Path, help="JSON to write")
    given = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    with np.load(given.images) as stored:
        images, labels = stored["images"], stored["labels"]
    taken = np.random.default_rng(0).permutation(len(images))[: round(given.count / 0.8)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(path, images=images[taken], labels=labels[taken])
        os.environ["CIST_CACHE"] = folder
        trainer = trainer_of(path, given.student, augmented=True)
        learnt = trainer.task.part("train")
        runs = {
            "epoch: ours": epochs_of(trainer),
            "epoch: ours with cached logits": epochs_of(trainer_of(path, given.student, augmented=False)),
            "epoch: in the style of mdistiller": plain_epochs(learnt, given.student),
        }
        measured_on = machine("torch", "torchvision")
        times = in_turn(runs, given.turns)
    size = f"{learnt.num_samples:,} images, {TEACHER} to {given.student}, {given.threads} threads"
    rows = rows_beside(times, "epoch: ours", size)
    print(f"load average {measured_on['load_average']} before, {os.getloadavg()[0]:.1f} after")
    if given.output:
        given.output.write_text(json.dumps({"machine": measured_on, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
