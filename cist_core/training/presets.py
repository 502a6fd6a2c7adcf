"""The recipes of the field, as configs to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cist_core.errors import CistError

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": (
        "Seconds on two cores: 100 of the bundled digits, ten of each; a student learns visibly more with the teacher",
        {
            "data": {"name": "mnist-5k", "train_samples": 100},
            "teacher": {"name": "mnist5k-cnn"},
            "student": {"architecture": "cnn_16_32"},
            "objective": "cist:rho=4",
            # The size of a loss cancels in AdamW's steps: one learning rate serves CE as well as lambda_kl=8.
            "optimiser": {"name": "adamw", "learning_rate": 0.004, "weight_decay": 0.01},
            "schedule": {"name": "cosine"},
            "epochs": 40,
            "batch_size": 20,
            "machine": {"threads": 1},
        },
    ),
    "cifar-240": (
        "CIFAR, 240 epochs: batches of 64, learning rate 0.05, a tenth after 150, 180 and 210 epochs, crop and flip",
        {
            "data": {"name": "cifar100"},
            "teacher": {"name": "cifar100-resnet20"},
            "student": {"architecture": "resnet8"},
            "objective": "cist-authors",
            "optimiser": {"learning_rate": 0.05, "weight_decay": 5e-4},
            "schedule": {"name": "multistep", "milestones": [150, 180, 210]},
            "epochs": 240,
            "batch_size": 64,
            "augmentation": {"crop_padding": 4, "flip": True},
        },
    ),
    "imagenet-100": (
        "ImageNet, 100 epochs: batches of 512, learning rate 0.2, a tenth after 30, 60 and 90 epochs, crop and flip",
        {
            "data": {"name": "imagenet/train", "test": "imagenet/val", "validation_share": 0.02},
            "teacher": {"name": "resnet34.safetensors", "architecture": "resnet34"},
            "student": {"architecture": "resnet18"},
            "objective": "cist:rho=4.5",
            "optimiser": {"learning_rate": 0.2, "weight_decay": 1e-4},
            "schedule": {"name": "multistep", "milestones": [30, 60, 90]},
            "epochs": 100,
            "batch_size": 512,
            "augmentation": {"resized_crop": [0.08, 1.0], "flip": True},
            "machine": {"checkpoint_every_steps": 500},
        },
    ),
}


def preset(name: str) -> RunConfig:
    """A recipe by its name.

    Raises:
        CistError: for an unknown name.
    """
    if name not in PRESETS:
        raise CistError(f"There is no preset '{name}'; known are {', '.join(PRESETS)}.")
    from cist_core.training.config import parse_config

    return parse_config(PRESETS[name][1], source=f"the preset {name}")
