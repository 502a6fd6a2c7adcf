"""From stored pixels to what a network reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cist_core.data.pictures import INTERPOLATIONS, Interpolation, scale_and_cut
from cist_core.errors import CistError
from cist_core.logits.ensemble import ENSEMBLE

# No classifier reads larger squares; a number from a foreign file is held against it before anything is allocated.
LARGEST_IMAGE = 8192
# The longer side is scaled with the shorter one, whatever its length.
MOST_OBLONG = 64


@dataclass(frozen=True)
class Preprocessing:
    """``(x / 255 - mean) / std`` by channel, on a whole batch at once.

    Attributes:
        mean: of each channel, on the scale of 0 to 1; its length is the number of channels.
        std: of each channel, on the same scale.
        image_size: height and width the network reads, in pixels.
        resize: bring images of another size to ``image_size`` (antialiased). Off by default, because a silently
            resized image is a different data set.
        grey_to_colour: repeat a single grey channel for a network that reads three. Off by default, as above.
        crop: share of the shorter side that the square in the centre shows, which is cut out of the scaled image
            (`cist_core.data.pictures.scale_and_cut`). It concerns images that are resized or decoded from files:
            those that have ``image_size`` already are read as they are.
        interpolation: of the scaling; ``"bilinear"`` or ``"bicubic"``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    resize: bool = False
    grey_to_colour: bool = False
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise CistError(
                f"Expected `mean` and `std` to have one value per channel, each `std` above 0, "
                f"but got {self.mean} and {self.std}."
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise CistError(f"Expected finite `mean` and `std`, but got {self.mean} and {self.std}.")
        if not 1 <= self.image_size <= LARGEST_IMAGE:
            raise CistError(
                f"Expected `image_size` to be from 1 to {LARGEST_IMAGE:,} pixels, but got {self.image_size}."
            )
        if not 0 < self.crop <= 1:
            raise CistError(
                f"Expected `crop` to be a share of the image above 0 and at most 1, but got {self.crop:g}; 0.875 is "
                "what many photograph networks use."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise CistError(
                f"Expected `interpolation` to be {' or '.join(INTERPOLATIONS)}, but got '{self.interpolation}'."
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
        if max(height, width) > MOST_OBLONG * min(height, width):
            raise CistError(
                f"Expected images at most {MOST_OBLONG} times as long as wide, but these have {height}x{width} pixels; "
                "cut them before."
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
            size = self.image_size
            (width, height), (left, top) = scale_and_cut(x.shape[3], x.shape[2], size, self.crop)
            x = F.interpolate(x, (height, width), mode=self.interpolation, antialias=True)
            # Bicubic weights are partly negative; an image has no such pixels.
            x = x[:, :, top : top + size, left : left + size].clamp(0, 1)
        mean = torch.tensor(self.mean, device=x.device)[:, None, None]
        std = torch.tensor(self.std, device=x.device)[:, None, None]
        return x.sub_(mean).div_(std)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Preprocessing:
        """From `to_dict`, or from the card of a model, which may lack what has a default."""
        if "members" in entries:
            return PerMemberPreprocessing.of([Preprocessing.from_dict(member) for member in entries["members"]])
        return cls(**{**entries, "mean": tuple(entries["mean"]), "std": tuple(entries["std"])})

    def __str__(self) -> str:
        text = f"{self.image_size}x{self.image_size}, mean {self.mean}, std {self.std}"
        text += ", resized" * self.resize + ", grey repeated" * self.grey_to_colour
        if self.crop != 1:
            text += f", centre {self.crop:g}"
        return text if self.interpolation == "bilinear" else f"{text}, {self.interpolation}"


@dataclass(frozen=True)
class PerMemberPreprocessing(Preprocessing):
    """The preprocessing of an ensemble: stored pixels pass through, and each member prepares them for itself.

    Attributes:
        members: of each teacher. The other fields are those of the member that reads the largest images, which files
            are decoded for; members that read smaller ones resize them.
    """

    members: tuple[Preprocessing, ...] = ()

    @classmethod
    def of(cls, members: Sequence[Preprocessing]) -> PerMemberPreprocessing:
        """Raises a CistError for members that read other numbers of channels."""
        channels = {member.channels for member in members}
        if len(channels) > 1:
            raise CistError(
                f"Expected the teachers of an ensemble to read images with equally many channels, but they read "
                f"{' and '.join(str(count) for count in sorted(channels))}."
            )
        largest = max(members, key=lambda member: member.image_size)
        fitting = (
            member if member.image_size == largest.image_size else replace(member, resize=True) for member in members
        )
        return cls(
            **{field.name: getattr(largest, field.name) for field in fields(Preprocessing)}, members=tuple(fitting)
        )

    def check(self, image_shape: Sequence[int]) -> None:
        for member in self.members:
            member.check(image_shape)

    def __call__(self, images: Tensor) -> Tensor:
        """``(N, H, W, channels)`` uint8, as stored, unchanged."""
        self.check(images.shape[1:])
        return images

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "members": [member.to_dict() for member in self.members]}

    def __str__(self) -> str:
        return ENSEMBLE.join(f"({member})" for member in self.members)
