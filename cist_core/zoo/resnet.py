"""CIFAR ResNets (He et al. 2015, arXiv 1512.03385, section 4.2) under the two public naming schemes.

The distillation field (RepDistiller, mdistiller) ships ResNets with convolutional shortcuts and a head called
``fc``; the plain CIFAR-10 reproductions ship parameter-free padding shortcuts ("option A") and a head called
``linear``. One class builds both, so that either kind of checkpoint loads without renaming.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.zoo.layers import global_average, init_convolutions


class PaddingShortcut(nn.Module):
    """Option A of the ResNet paper: take every second pixel and pad the new channels with zeros."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.extra = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.extra // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.extra - before))


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, option_a: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = (
                PaddingShortcut(in_channels, out_channels)
                if option_a
                else nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + residual)


class ResNet(nn.Module):
    """CIFAR ResNet of depth ``6 n + 2``: one stem convolution and three stages of ``n`` basic blocks.

    Args:
        depth: number of weighted layers, ``6 n + 2``.
        widths: channels of the stem and of the three stages.
        num_classes: number of classes C.
        option_a: padding shortcuts and a head named ``linear`` (the plain CIFAR-10 family) instead of
            convolutional shortcuts and a head named ``fc`` (the RepDistiller / mdistiller family).

    Shapes: ``(N, 3, 32, 32)`` to ``(N, C)`` logits.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, depth: int, widths: Sequence[int], num_classes: int, option_a: bool = False) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"Expected `depth` of a CIFAR ResNet to be 6 n + 2 with n >= 1, but got {depth}.")
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        for stage in (1, 2, 3):
            first = BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2, option_a)
            rest_of_stage = [BasicBlock(widths[stage], widths[stage], 1, option_a) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest_of_stage))
        self.head_name = "linear" if option_a else "fc"
        setattr(self, self.head_name, nn.Linear(widths[3], num_classes))
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = getattr(self, self.head_name)(global_average(x))
        return logits
