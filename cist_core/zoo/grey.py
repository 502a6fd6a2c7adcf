"""Small networks for 28x28 grey images, quick enough to train while one waits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GreyCNN(nn.Module):
    """Three 3x3 convolutions of w, 2 w and 2 w channels (w is ``width``) with batch norm, then 4 w hidden units.

    Shapes: ``(N, 1, 28, 28)`` to ``(N, C)`` logits.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width)
        self.conv3, self.bn3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width)
        self.fc1 = nn.Linear(2 * width * 7 * 7, 4 * width)
        self.fc2 = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        logits: Tensor = self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))
        return logits


class GreyMLP(nn.Module):
    """One hidden layer on the image averaged down to 14x14 pixels.

    Shapes: ``(N, 1, 28, 28)`` to ``(N, C)`` logits.
    """

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(14 * 14, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(F.avg_pool2d(x, 2), 1)
        logits: Tensor = self.fc2(F.relu(self.fc1(x)))
        return logits
