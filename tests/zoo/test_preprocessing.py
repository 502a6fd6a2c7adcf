import io

import numpy as np
import pytest
import torch
from PIL import Image

from cist_core.data.pictures import decode
from cist_core.errors import CistError
from cist_core.zoo.architectures import ARCHITECTURES
from cist_core.zoo.preprocessing import Preprocessing

COLOUR = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), image_size=4)


def test_normalises_by_channel_as_float64_does() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    expected = (images / 255.0 - np.array(COLOUR.mean)) / np.array(COLOUR.std)
    out = COLOUR(torch.from_numpy(images))
    np.testing.assert_allclose(out.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == np.uint8  # the caller's pixels are not touched
    assert int(images.max()) > 1


def test_size_mismatch_is_refused_unless_asked_for() -> None:
    images = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    with pytest.raises(CistError, match=r"4x4 pixels, but these have 8x8; .*--resize .*resize=True"):
        COLOUR(images)
    resizing = Preprocessing(COLOUR.mean, COLOUR.std, 4, resize=True)
    assert resizing(images).shape == (2, 3, 4, 4)


def test_very_oblong_images_are_refused() -> None:
    with pytest.raises(CistError, match="at most 64 times as long as wide, but these have 1x65"):
        Preprocessing((0.0,), (1.0,), 4, resize=True)(torch.zeros(1, 1, 65, 1, dtype=torch.uint8))


def test_resize_keeps_a_flat_image_flat() -> None:
    resizing = Preprocessing((0.0,), (1.0,), 5, resize=True)
    out = resizing(torch.full((1, 9, 7, 1), 51, dtype=torch.uint8))
    torch.testing.assert_close(out, torch.full((1, 1, 5, 5), 0.2))


def test_grey_is_repeated_only_if_asked_for() -> None:
    images = torch.full((1, 4, 4, 1), 255, dtype=torch.uint8)
    with pytest.raises(CistError, match=r"3 channel\(s\), but these have 1; .*--grey-to-colour .*grey_to_colour=True"):
        COLOUR(images)
    out = Preprocessing(COLOUR.mean, COLOUR.std, 4, grey_to_colour=True)(images)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.5 / 0.2, 0.6 / 0.25, 0.7 / 0.5]))


def test_colour_never_becomes_grey() -> None:
    grey = Preprocessing((0.1,), (0.3,), 4, resize=True, grey_to_colour=True)
    with pytest.raises(CistError, match=r"1 channel\(s\), but these have 3; choose other images\."):
        grey(torch.zeros(1, 4, 4, 3, dtype=torch.uint8))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((), ())])
def test_bad_statistics_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(CistError, match="one value per channel"):
        Preprocessing(mean, std, 32)


def test_survives_a_round_trip_through_a_card() -> None:
    import json

    original = ARCHITECTURES["resnet20"].preprocessing
    assert Preprocessing.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [0.8, 1.0])
def test_an_array_is_scaled_and_cut_as_a_picture_is(interpolation: str, crop: float) -> None:
    """Against Pillow, which rounds to whole grey levels between its two passes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    expected = decode(file.getvalue(), "a picture", 8, 3, crop, interpolation) / 255
    read = Preprocessing((0.0,) * 3, (1.0,) * 3, 8, resize=True, crop=crop, interpolation=interpolation)
    out = read(torch.from_numpy(pixels[None]))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(out, expected, atol=1.01 / 255)
    assert out.min() >= 0
    assert out.max() <= 1


def test_images_of_the_right_size_are_read_as_they_are() -> None:
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    cropping = Preprocessing(COLOUR.mean, COLOUR.std, 4, resize=True, crop=0.5, interpolation="bicubic")
    torch.testing.assert_close(cropping(images), COLOUR(images))


def test_text_names_what_is_unusual_only() -> None:
    assert str(COLOUR) == "4x4, mean (0.5, 0.4, 0.3), std (0.2, 0.25, 0.5)"
    other = Preprocessing((0.1,), (0.2,), 4, crop=0.875, interpolation="bicubic")
    assert str(other) == "4x4, mean (0.1,), std (0.2,), centre 0.875, bicubic"


def test_a_card_from_before_the_crop_is_read() -> None:
    card = {"mean": [0.5], "std": [0.5], "image_size": 8, "resize": True, "grey_to_colour": False}
    assert Preprocessing.from_dict(card) == Preprocessing((0.5,), (0.5,), 8, resize=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 0.0}, "`crop` to be a share of the image above 0 and at most 1, but got 0"),
        ({"crop": 1.5}, "but got 1.5"),
        ({"crop": float("nan")}, "but got nan"),
        ({"interpolation": "nearest"}, "bilinear or bicubic, but got 'nearest'"),
        ({"image_size": 0}, "from 1 to 8,192 pixels, but got 0"),
        ({"image_size": 1 << 40}, "but got 1099511627776"),
        ({"mean": (float("inf"),)}, "finite `mean` and `std`"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CistError, match=message):
        Preprocessing(**{"mean": (0.5,), "std": (0.5,), "image_size": 8, **fields})
