"""VGG with batch normalisation for 32x32 images (Simonyan and Zisserman 2014, arXiv 1409.1556), one linear head."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.zoo.layers import global_average, init_convolutions

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {  # per block, by the depth in the name
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions; the image is halved after the first three, and averaged at the end.

    Each block ends before its last rectifier, as in the public checkpoints, whose layer numbers depend on it.

    Shapes: ``(N, 3, 32, 32)`` to ``(N, C)`` logits.
    """

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        in_widths = (3, *WIDTHS[:-1])
        self.block0, self.block1, self.block2, self.block3, self.block4 = (
            _block(count, before, after)
            for count, before, after in zip(CONVOLUTIONS[depth], in_widths, WIDTHS, strict=True)
        )
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        init_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.block0, self.block1, self.block2):
            x = F.max_pool2d(F.relu(block(x)), 2)
        x = F.relu(self.block4(F.relu(self.block3(x))))
        logits: Tensor = self.classifier(global_average(x))
        return logits


def _block(convolutions: int, in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise([in_channels, *[out_channels] * convolutions]):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
