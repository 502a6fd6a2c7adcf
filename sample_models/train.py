"""Train one of the models in this folder and write its weights, card and logits.

    python -m sample_models.train NAME [--images FOLDER]

The same seed, software and machine give the same weights; another CPU may round otherwise and end a few tenths of a per
cent away.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.data.splits import stratified_split
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from sample_models.export import write_model
from sample_models.training import Recipe, train

FOLDER = Path(__file__).resolve().parent
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SampleModel:
    title: str
    role: str
    architecture: str
    data: str
    recipe: Recipe


SAMPLE_MODELS: dict[str, SampleModel] = {
    "mnist5k-cnn": SampleModel(
        "Small CNN for digits, trained on 3,500 images",
        "teacher",
        "cnn_32_64",
        "mnist-5k",
        Recipe(epochs=20, crop_padding=2),
    ),
    "mnist5k-cnn-small": SampleModel(
        "The same network at half the width",
        "student",
        "cnn_16_32",
        "mnist-5k",
        Recipe(epochs=12, crop_padding=2),
    ),
    "mnist5k-mlp": SampleModel(
        "Twelve hidden units on 14x14 pixels: as small as a student of digits can sensibly be",
        "student",
        "mlp_14x14",
        "mnist-5k",
        Recipe(epochs=30, crop_padding=1),
    ),
    "cifar100-resnet20": SampleModel(
        "A narrow residual network for 100 kinds of things",
        "teacher",
        "resnet20",
        "cifar100",
        Recipe(epochs=32, crop_padding=4, flip=True),
    ),
    "cifar100-resnet8": SampleModel(
        "The shallowest residual network of its family",
        "student",
        "resnet8",
        "cifar100",
        Recipe(epochs=20, crop_padding=4, flip=True),
    ),
}


def load_splits(data: str, images: Path | None = None) -> dict[str, ImageDataset]:
    """Training, validation and test part of a data set.

    Args:
        data: a name that `load_dataset` knows.
        images: a folder with ``<data>_train.npz`` and ``<data>_test.npz``, read in place of the download; a tenth of
            every class of the first is set apart for validation.
    """
    if images is None:
        return {split: load_dataset(data, split) for split in SPLITS}
    known, test = (load_dataset(images / f"{data}_{part}.npz") for part in ("train", "test"))
    assert isinstance(known.images, np.ndarray)
    train_part, validation_part = stratified_split(known.labels, (0.9, 0.1), seed=0)
    parts = {
        "train": (known.images[train_part], known.labels[train_part]),
        "validation": (known.images[validation_part], known.labels[validation_part]),
        "test": (test.images, test.labels),
    }
    return {split: ImageDataset(data, split, *part, known.class_names, data) for split, part in parts.items()}


def train_model(model: SampleModel, splits: Mapping[str, ImageDataset]) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train from scratch; returns the network and one record per epoch."""
    torch.set_num_threads(1)  # faster than two for networks this small, and the same sums on every machine
    train_part, validation_part = (_tensors(model.architecture, splits[split]) for split in ("train", "validation"))
    torch.manual_seed(model.recipe.seed)
    network = create_model(model.architecture, num_classes=splits["train"].num_classes)
    return network, train(network, train_part, validation_part, model.recipe)


def export(
    name: str, state: Mapping[str, Tensor], history: list[dict[str, float]], splits: Mapping[str, ImageDataset]
) -> None:
    """Write trained weights as the sample model ``name``."""
    model = SAMPLE_MODELS[name]
    images = " --images FOLDER" if model.data == "cifar100" else ""
    card = write_model(
        FOLDER / name,
        title=model.title,
        role=model.role,
        architecture=model.architecture,
        state=state,
        splits=splits,
        recipe=model.recipe.to_dict(),
        history=history,
        command=f"python -m sample_models.train {name}{images}",
    )
    print({split: round(value, 4) for split, value in card["accuracy"].items()})


def _tensors(architecture: str, dataset: ImageDataset) -> tuple[Tensor, Tensor]:
    assert isinstance(dataset.images, np.ndarray)
    images = ARCHITECTURES[architecture].preprocessing(torch.from_numpy(dataset.images))
    return images, torch.from_numpy(dataset.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SAMPLE_MODELS, metavar="NAME", help=", ".join(SAMPLE_MODELS))
    parser.add_argument("--images", type=Path, help="folder with <data>_train.npz and <data>_test.npz")
    arguments = parser.parse_args()
    splits = load_splits(SAMPLE_MODELS[arguments.name].data, arguments.images)
    network, history = train_model(SAMPLE_MODELS[arguments.name], splits)
    export(arguments.name, network.state_dict(), history, splits)


if __name__ == "__main__":
    main()
