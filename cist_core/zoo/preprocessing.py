"""From stored pixels to what a network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cist_core.errors import CistError


@dataclass(frozen=True)
class Preprocessing:
    """``(x / 255 - mean) / std`` by channel, on a whole batch at once.

    Attributes:
        mean: of each channel, on the scale of 0 to 1; its length is the number of channels.
        std: of each channel, on the same scale.
        image_size: height and width the network reads, in pixels.
        resize: bring images of another size to ``image_size`` (bilinear, antialiased; the aspect ratio is not kept).
            Off by default, because a silently resized image is a different data set.
        grey_to_colour: repeat a single grey channel for a network that reads three. Off by default, as above.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    resize: bool = False
    grey_to_colour: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise CistError(
                f"Expected `mean` and `std` to have one value per channel, each `std` above 0, "
                f"but got {self.mean} and {self.std}."
            )

    @property
    def channels(self) -> int:
        return len(self.mean)

    def check(self, image_shape: Sequence[int]) -> None:
        """Refuse images of shape ``(H, W, channels)`` that the network cannot read as they are.

        Raises:
            CistError: unless the size and the channels fit, or the field that adapts them is set.
        """
        height, width, channels = image_shape
        if (height, width) != (self.image_size, self.image_size) and not self.resize:
            raise CistError(
                f"The teacher reads images of {self.image_size}x{self.image_size} pixels, but these have "
                f"{height}x{width}; choose other images, or have them resized (--resize for a checkpoint on the "
                "command line, `resize=True` of `Preprocessing` in Python)."
            )
        if channels == self.channels or (channels == 1 and self.channels == 3 and self.grey_to_colour):
            return
        remedy = (
            ", or have the grey channel repeated (--grey-to-colour for a checkpoint on the command line, "
            "`grey_to_colour=True` of `Preprocessing` in Python)"
            if (channels, self.channels) == (1, 3)
            else ""
        )
        raise CistError(
            f"The teacher reads images of {self.channels} channel(s), but these have {channels}; "
            f"choose other images{remedy}."
        )

    def __call__(self, images: Tensor) -> Tensor:
        """``(N, H, W, channels)`` uint8 to ``(N, channels, S, S)`` float32, channels-last, on the same device."""
        self.check(images.shape[1:])
        x = images.permute(0, 3, 1, 2).float().div_(255)  # permuted NHWC *is* channels-last
        if x.shape[1] != self.channels:
            x = x.expand(-1, self.channels, -1, -1).contiguous(memory_format=torch.channels_last)
        if x.shape[2:] != (self.image_size, self.image_size):
            x = F.interpolate(x, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        mean = torch.tensor(self.mean, device=x.device)[:, None, None]
        std = torch.tensor(self.std, device=x.device)[:, None, None]
        return x.sub_(mean).div_(std)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})

    def __str__(self) -> str:
        text = f"{self.image_size}x{self.image_size}, mean {self.mean}, std {self.std}"
        return text + ", resized" * self.resize + ", grey repeated" * self.grey_to_colour
