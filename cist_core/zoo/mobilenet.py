"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) for 32x32 images, as the distillation field uses it."""

from __future__ import annotations

from torch import Tensor, nn

from cist_core.zoo.layers import global_average, init_convolutions

STAGES = (  # expansion, channels at full width, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST_CHANNELS = 1280


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel, narrow again; the input is added where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *_conv_bn_relu(in_channels, hidden, kernel=1),
            *_conv_bn_relu(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """Shapes: ``(N, 3, 32, 32)`` to ``(N, C)`` logits."""

    def __init__(self, num_classes: int, width: float = 0.5) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Sequential(*_conv_bn_relu(3, channels, kernel=3, stride=2))
        self.blocks = nn.ModuleList()
        for expansion, full_width, count, first_stride in STAGES:
            stage = []
            for stride in (first_stride, *[1] * (count - 1)):
                stage.append(InvertedResidual(channels, int(full_width * width), stride, expansion))
                channels = int(full_width * width)
            self.blocks.append(nn.Sequential(*stage))
        self.conv2 = nn.Sequential(*_conv_bn_relu(channels, LAST_CHANNELS, kernel=1))
        linear = nn.Linear(LAST_CHANNELS, num_classes)
        self.classifier = nn.Sequential(linear)
        init_convolutions(self)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.blocks:
            x = stage(x)
        logits: Tensor = self.classifier(global_average(self.conv2(x)))
        return logits


def _conv_bn_relu(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()
