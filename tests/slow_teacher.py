"""A teacher that takes its time over each batch, so that it can be killed in the middle; on Ray also as a program."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.inference.run import infer
from cist_core.zoo.teacher import Teacher
from cist_core.zoo.teachers import load_teacher

BATCH_SIZE = 250


class Slow(nn.Module):
    """A network after a rest."""

    def __init__(self, model: nn.Module, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.model(images)


class Narrow(nn.Module):
    """A network that leaves out a class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[:, :-1]


class Deadly(nn.Module):
    """A network over which every process dies that is given a picture of one colour."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        if bool((images.flatten(1).std(1) == 0).any()):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model(images)


def slow_teacher(seconds: float) -> Teacher:
    """A sample model with the same weights and, for the cache, the same name."""
    teacher = load_teacher("mnist5k-mlp")
    return replace(teacher, model=Slow(teacher.model, seconds))


def images() -> ImageDataset:
    return load_dataset("mnist-5k", "train")


if __name__ == "__main__":
    infer(slow_teacher(1.0), images(), batch_size=BATCH_SIZE, device="cpu", cache_dir=Path(sys.argv[1]), executor="ray")
