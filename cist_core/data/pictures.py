"""One compressed picture as pixels, with bounds on what it may ask for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cist_core.errors import CistError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

Interpolation = Literal["bilinear", "bicubic"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. Pillow knows forty more, among them formats that call other programs."""
MOST_PIXELS = 64_000_000
"""A photograph of a good phone has 50 million. With a copy in another mode that is half a gigabyte in memory."""
LONGEST_SIDE = 65_500
"""What a JPEG can have. Each row costs as much as some pixels, so a picture of one column would take ten times more."""
MOST_BYTES = 256 << 20


def scale_and_cut(width: int, height: int, size: int, crop: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a picture becomes a square, as torchvision does it: scaled first, then the centre is cut out.

    Args:
        width: of the picture, in pixels.
        height: likewise.
        size: of the square.
        crop: share of the shorter side that the square is to show.

    Returns:
        width and height to scale to, and left and top of the square in that.

    Example:
        >>> scale_and_cut(500, 375, size=224, crop=224 / 256)
        ((341, 256), (58, 16))
    """
    shorter = max(size, round(size / crop))
    longer = int(shorter * max(width, height) / min(width, height))
    scaled = (longer, shorter) if width > height else (shorter, longer)
    return scaled, (round((scaled[0] - size) / 2), round((scaled[1] - size) / 2))


def decode(
    picture: Path | bytes, name: str, size: int, channels: int, crop: float, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """``(size, size, channels)`` uint8: the centre of a picture, upright.

    The picture is scaled and its centre cut out as `scale_and_cut` says, antialiased: photographs have no common size,
    so there is none that could be kept.

    Args:
        picture: a file, or its content.
        name: of the picture, for errors.
        size: height and width of the result, in pixels.
        channels: 3 (colour) or 1 (grey).
        crop: share of the shorter side, above 0 and at most 1.
        interpolation: of the scaling.

    Raises:
        CistError: naming a picture that is damaged, of another kind, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    methods = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    try:
        with Image.open(io.BytesIO(_content(picture, name)), formats=FORMATS) as opened:
            _check(opened, name)
            image: Image.Image = opened
            ImageOps.exif_transpose(image, in_place=True)  # no copies: each is as large as a picture may be
            # A palette with transparency has to pass through RGBA to keep its colours.
            for mode in (*(["RGBA"] if "transparency" in image.info else []), "L" if channels == 1 else "RGB"):
                image = image if image.mode == mode else image.convert(mode)
            scaled, (left, top) = scale_and_cut(*image.size, size, crop)
            across, down = image.width / scaled[0], image.height / scaled[1]
            # As resize and crop do, without the rest of the scaled picture, which has no bound.
            box = (left * across, top * down, (left + size) * across, (top + size) * down)
            image = image.resize((size, size), methods[interpolation], box=box)
        return np.asarray(image, np.uint8).reshape(size, size, channels)
    except CistError:
        raise
    except UnidentifiedImageError as error:
        raise CistError(
            f"{name} is not a readable image (it is none of {', '.join(FORMATS)}); replace or remove it."
        ) from error
    # Damage can make Pillow raise anything: OSError, SyntaxError, struct.error, zlib.error, DecompressionBombError, ...
    except Exception as error:
        raise CistError(f"{name} is not a readable image ({first_line(error)}); replace or remove it.") from error


def _content(picture: Path | bytes, name: str) -> bytes:
    if isinstance(picture, Path):
        with picture.open("rb") as stream:
            picture = stream.read(MOST_BYTES + 1)
    if len(picture) > MOST_BYTES:
        raise CistError(f"{name} is not a readable image (over {MOST_BYTES:,} bytes); save it smaller.")
    return picture


def _check(opened: Image, name: str) -> None:
    width, height = opened.size
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        allowed = f"{MOST_PIXELS:,} in all" if width * height > MOST_PIXELS else f"{LONGEST_SIDE:,} on a side"
        raise CistError(
            f"{name} is not a readable image (it has {width:,} x {height:,} pixels, and at most {allowed} are "
            "decoded); save it smaller."
        )
    # Pillow clips such values to 255, so that nearly every pixel would be white.
    if opened.mode in ("I", "F") or opened.mode.startswith("I;16"):
        raise CistError(
            f"{name} is not a readable image (its pixels are numbers of 16 or 32 bits); save it with 8 bits a channel."
        )
