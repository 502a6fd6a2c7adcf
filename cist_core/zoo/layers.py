"""Pieces that several architectures share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelShuffle(nn.Module):
    """Deal the channels of ``groups`` groups out in turn, so that the next grouped convolution mixes them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(x, self.groups) if self.groups > 1 else x


def global_average(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, C)``."""
    return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


def init_convolutions(model: nn.Module) -> None:
    """He initialisation by fan-out, which every convolutional network of the distillation field starts from."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
