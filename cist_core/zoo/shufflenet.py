"""ShuffleNet V1 (arXiv 1707.01083) and V2 (arXiv 1807.11164) for 32x32 images, under the distillation field's names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.zoo.layers import ChannelShuffle, global_average

STEM_CHANNELS = 24


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


def _pointwise(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False)


class GroupedBottleneck(nn.Module):
    """The V1 unit: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a halving unit appends its averaged input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        middle = out_channels // 4
        # The stem is too narrow to be cut into groups.
        first_groups = 1 if in_channels == STEM_CHANNELS else groups
        self.halves = stride == 2
        self.conv1 = _pointwise(in_channels, middle, first_groups)
        self.bn1 = nn.BatchNorm2d(middle)
        self.shuffle = ChannelShuffle(first_groups)
        self.conv2 = _depthwise(middle, stride)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = _pointwise(middle, out_channels, groups)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.shuffle(F.relu(self.bn1(self.conv1(x))))
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        if self.halves:
            return F.relu(torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1))
        return F.relu(out + x)


class ShuffleNetV1(nn.Module):
    """Three groups, stages of 4, 8 and 4 units. Shapes: ``(N, 3, 32, 32)`` to ``(N, C)`` logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _pointwise(3, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = self._stage(STEM_CHANNELS, 240, 4)
        self.layer2 = self._stage(240, 480, 8)
        self.layer3 = self._stage(480, 960, 4)
        self.linear = nn.Linear(960, num_classes)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, units: int, groups: int = 3) -> nn.Sequential:
        # The halving unit's own output and its input are concatenated, so it makes only the difference.
        first = GroupedBottleneck(in_channels, out_channels - in_channels, 2, groups)
        rest = [GroupedBottleneck(out_channels, out_channels, 1, groups) for _ in range(units - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(global_average(x))
        return logits


class SplitUnit(nn.Module):
    """The V2 unit: half of the channels pass untouched, the other half is transformed, then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = _pointwise(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = _depthwise(half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _pointwise(half, half), nn.BatchNorm2d(half)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        kept, out = x.chunk(2, 1)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(out)))))
        shuffled: Tensor = self.shuffle(torch.cat([kept, F.relu(self.bn3(self.conv3(out)))], 1))
        return shuffled


class HalvingUnit(nn.Module):
    """The V2 unit that halves the image: both branches are transformed, each to half of the new channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1, self.bn1 = _depthwise(in_channels, 2), nn.BatchNorm2d(in_channels)
        self.conv2, self.bn2 = _pointwise(in_channels, half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _pointwise(in_channels, half), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = _depthwise(half, 2), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = _pointwise(half, half), nn.BatchNorm2d(half)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        right = F.relu(self.bn5(self.conv5(right)))
        shuffled: Tensor = self.shuffle(torch.cat([left, right], 1))
        return shuffled


class ShuffleNetV2(nn.Module):
    """Width 1: stages of 116, 232 and 464 channels. Shapes: ``(N, 3, 32, 32)`` to ``(N, C)`` logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _pointwise(3, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = self._stage(STEM_CHANNELS, 116, 3)
        self.layer2 = self._stage(116, 232, 7)
        self.layer3 = self._stage(232, 464, 3)
        self.conv2 = _pointwise(464, 1024)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, units: int) -> nn.Sequential:
        return nn.Sequential(HalvingUnit(in_channels, out_channels), *(SplitUnit(out_channels) for _ in range(units)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(global_average(x))
        return logits
