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
"""Of image classification; forms choose among them."""


def _minillm(teacher: str, student: str, *, learning_rate: float, epochs: int, micro_batch_size: int) -> dict[str, Any]:
    """What the scripts of supervised KD in microsoft/LMOps (minillm, at 65a1573) say.

    In common they have ``kd-ratio`` 0.5, rows of 512 tokens, weight decay 0.01, gradients clipped at 1, no warm-up, 16
    GPUs (four to a copy of OPT), 1,000 texts for validation; the texts of the test are a file of their own.
    """
    return {
        "task": "language",
        "data": {
            "name": "dolly/train.jsonl",
            "validation": "dolly/valid.jsonl",
            "test": "dolly/test.jsonl",
            "length": 512,
        },
        "objective": "kd:tau=1,lambda_ce=0.5,lambda_kl=0.5",
        "schedule": {"name": "cosine"},
        "precision": "float16",
        "teacher": {"name": teacher},
        "student": {"architecture": student},
        "optimiser": {"name": "adamw", "learning_rate": learning_rate, "weight_decay": 0.01, "clip_norm": 1.0},
        "epochs": epochs,
        "batch_size": 32,
        "machine": {"micro_batch_size": micro_batch_size},
    }


DEMO_LANGUAGE = "demo-language"
_MODELS_OF_THE_DEMO = {"scripture-gpt", "scripture-gpt-small"}

LANGUAGE_PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    DEMO_LANGUAGE: (
        "Two minutes on two cores: chapters of the King James Bible; a fresh student, a quarter of the teacher's size",
        {
            "task": "language",
            "data": {"name": "scripture", "length": 128},
            "teacher": {"name": "scripture-gpt"},
            "student": {"architecture": "gpt2:width=96,layers=4,heads=4"},
            "objective": "kd:tau=1,lambda_ce=0.1,lambda_kl=0.9",
            "optimiser": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.1, "clip_norm": 1.0},
            "schedule": {"name": "cosine", "warmup_epochs": 0.2},
            "epochs": 3,
            "batch_size": 16,
        },
    ),
    "minillm-gpt2-base": (
        "MiniLLM's supervised KD, GPT-2 of 124 M under a GPT-2 XL fine-tuned on Dolly: 20 epochs, batches of 32, 5e-4",
        _minillm("gpt2-xlarge-sft", "hf:openai-community/gpt2", learning_rate=5e-4, epochs=20, micro_batch_size=2),
    ),
    "minillm-gpt2-medium": (
        "The same with GPT-2 medium (355 M): learning rate 1e-4",
        _minillm(
            "gpt2-xlarge-sft", "hf:openai-community/gpt2-medium", learning_rate=1e-4, epochs=20, micro_batch_size=2
        ),
    ),
    "minillm-opt-1.3b": (
        "MiniLLM's supervised KD, OPT of 1.3 B under one of 13 B fine-tuned on Dolly: 10 epochs, batches of 32, 5e-5",
        _minillm("opt-13b-sft", "hf:facebook/opt-1.3b", learning_rate=5e-5, epochs=10, micro_batch_size=8),
    ),
}


def preset_names() -> list[str]:
    """Every recipe that `preset` knows: that of the language models that ship only where they are here.

    Raises:
        CistError: if the card of such a model cannot be read.
    """
    from cist_core.language.known import known_language_models

    here = {model.name for model in known_language_models() if model.path is not None}
    without = set() if here >= _MODELS_OF_THE_DEMO else {DEMO_LANGUAGE}
    return [*PRESETS, *(name for name in LANGUAGE_PRESETS if name not in without)]


def preset(name: str) -> RunConfig:
    """A recipe by its name.

    Raises:
        CistError: for an unknown name.
    """
    if name not in PRESETS and name not in preset_names():
        raise CistError(f"There is no preset '{name}'; known are {', '.join(preset_names())}.")
    from cist_core.training.config import parse_config

    return parse_config((PRESETS | LANGUAGE_PRESETS)[name][1], source=f"the preset {name}")
