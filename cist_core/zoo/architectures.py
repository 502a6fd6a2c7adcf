"""The registry of networks that can be built by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from cist_core.errors import CistError
from cist_core.zoo.grey import GreyCNN, GreyMLP
from cist_core.zoo.mobilenet import MobileNetV2
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.resnet import ResNet
from cist_core.zoo.shufflenet import ShuffleNetV1, ShuffleNetV2
from cist_core.zoo.vgg import CONVOLUTIONS, VGG
from cist_core.zoo.wide_resnet import WideResNet

CIFAR100_PIXELS = Preprocessing(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761), image_size=32)
IMAGENET_PIXELS = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), image_size=32)
MNIST_PIXELS = Preprocessing(mean=(0.1307,), std=(0.3081,), image_size=28)


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: the key in `ARCHITECTURES`.
        build: from the number of classes to a freshly initialised network.
        head: name of the weight whose first dimension is the number of classes.
        preprocessing: what the public checkpoints of this family were trained with; a checkpoint may differ.
        family: a heading to list it under.
        description: one line for people.
    """

    name: str
    build: Callable[[int], nn.Module]
    head: str
    preprocessing: Preprocessing
    family: str
    description: str

    @property
    def image_size(self) -> int:
        return self.preprocessing.image_size

    @property
    def channels(self) -> int:
        return self.preprocessing.channels


NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)


def _cifar(name: str, family: str, head: str, build: Callable[[int], nn.Module], description: str) -> Architecture:
    return Architecture(name, build, head, CIFAR100_PIXELS, family, description)


def _grey(name: str, build: Callable[[int], nn.Module], description: str) -> Architecture:
    return Architecture(name, build, "fc2.weight", MNIST_PIXELS, "28x28 grey", description)


def _plain_resnet(depth: int) -> Architecture:
    return Architecture(
        f"resnet{depth}-plain",
        lambda num_classes: ResNet(depth, NARROW, num_classes, option_a=True),
        "linear.weight",
        IMAGENET_PIXELS,
        "Plain ResNet",
        f"CIFAR ResNet of {depth} layers, padding shortcuts",
    )


def _resnet(depth: int, widths: tuple[int, ...], suffix: str, description: str) -> Architecture:
    return _cifar(
        f"resnet{depth}{suffix}",
        "ResNet",
        "fc.weight",
        lambda num_classes: ResNet(depth, widths, num_classes),
        f"CIFAR ResNet of {depth} layers, {description}",
    )


def _wide_resnet(depth: int, width: int) -> Architecture:
    return _cifar(
        f"wrn_{depth}_{width}",
        "Wide ResNet",
        "fc.weight",
        lambda num_classes: WideResNet(depth, width, num_classes),
        f"Wide ResNet of {depth} layers, width {width}",
    )


def _imagenet_resnet(depth: int) -> Architecture:
    def build(num_classes: int) -> nn.Module:
        from torchvision.models import get_model

        model: nn.Module = get_model(f"resnet{depth}", weights=None, num_classes=num_classes)
        return model

    pixels = replace(IMAGENET_PIXELS, image_size=224)
    text = f"ResNet of {depth} layers for 224x224 photographs, torchvision's"
    return Architecture(f"resnet{depth}", build, "fc.weight", pixels, "ImageNet ResNet", text)


def _vgg(depth: int) -> Architecture:
    text = f"VGG of {depth} layers with batch normalisation"
    return _cifar(f"vgg{depth}", "VGG", "classifier.weight", partial(VGG, depth), text)


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        *(_resnet(depth, NARROW, "", "convolutional shortcuts") for depth in (8, 14, 20, 32, 44, 56, 110)),
        *(_resnet(depth, WIDE, "x4", "four times as wide in its stages") for depth in (8, 32)),
        *(_plain_resnet(depth) for depth in (20, 32, 44, 56, 110)),
        *(_wide_resnet(depth, width) for depth in (16, 40) for width in (1, 2)),
        *(_vgg(depth) for depth in CONVOLUTIONS),
        *(_imagenet_resnet(depth) for depth in (18, 34)),
        _cifar("MobileNetV2", "Mobile", "classifier.0.weight", MobileNetV2, "MobileNetV2 at half width"),
        _cifar("ShuffleV1", "Mobile", "linear.weight", ShuffleNetV1, "ShuffleNet V1, three groups"),
        _cifar("ShuffleV2", "Mobile", "linear.weight", ShuffleNetV2, "ShuffleNet V2 at width 1"),
        _grey("cnn_32_64", partial(GreyCNN, 32), "Three convolutions, 32 to 64 wide"),
        _grey("cnn_16_32", partial(GreyCNN, 16), "Three convolutions, 16 to 32 wide"),
        _grey("mlp_14x14", partial(GreyMLP, 12), "12 hidden units on 14x14 pixels"),
    )
}


def find_architecture(name: str) -> Architecture:
    """Look a name up.

    Raises:
        CistError: for an unknown name, with the nearest known ones.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.5) or sorted(ARCHITECTURES)
    raise CistError(f"There is no architecture '{name}'; did you mean {', '.join(near)}?")


def create_model(architecture: str, *, num_classes: int) -> nn.Module:
    """A freshly initialised network of the zoo.

    Args:
        architecture: a key of `ARCHITECTURES`.
        num_classes: number of classes C, at least 2.

    Returns:
        A module from ``(N, channels, image_size, image_size)`` to ``(N, C)`` logits.

    Raises:
        CistError: for an unknown name or fewer than two classes.

    Example:
        >>> model = create_model("resnet20", num_classes=100)
        >>> sum(parameter.numel() for parameter in model.parameters())
        278324
    """
    if num_classes < 2:
        raise CistError(f"Expected `num_classes` to be at least 2, but got {num_classes}.")
    return find_architecture(architecture).build(num_classes)
