"""The images of a run: its three parts, and batches of them as the networks read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cist_core.data.dataset import ImageDataset
from cist_core.data.decoded import DecodedImages
from cist_core.data.loading import DATASETS, data_splits, load_dataset
from cist_core.data.splits import stratified_split
from cist_core.errors import CistError
from cist_core.progress import ProgressCallback
from cist_core.training.image_config import AugmentationConfig, ImageDataConfig
from cist_core.zoo.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Images to learn from, to choose by, and to report on; no two parts share one."""

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset


def load_splits(config: ImageDataConfig, progress: ProgressCallback | None = None) -> ImageSplits:
    """Load the images; what the source does not set apart is cut from the training images, class by class.

    Args:
        config: see `ImageDataConfig`.
        progress: see `load_dataset`.

    Raises:
        CistError: if images cannot be loaded, or there are fewer than asked for.
    """
    parts = _named(config, progress) if config.name in DATASETS else _from_path(config)
    train = parts.pop("train")
    for name in ("validation", "test"):
        if name not in parts:
            kept, apart = stratified_split(
                train.labels, (1 - config.validation_share, config.validation_share), config.split_seed
            )
            parts[name] = train.take(apart, split=name)
            train = train.take(kept, split="train")
    _refuse_other_classes({"train": train, **parts})
    return ImageSplits(
        _limited(train, config.train_samples, config.split_seed),
        _limited(parts["validation"], config.validation_samples, config.split_seed),
        parts["test"],
    )


def _named(config: ImageDataConfig, progress: ProgressCallback | None) -> dict[str, ImageDataset]:
    if config.test is not None:
        raise CistError(f"The data set '{config.name}' brings its test images; leave data.test out.")
    return {
        split: load_dataset(config.name, split, download=config.download, progress=progress)
        for split in DATASETS[config.name].splits
    }


def _from_path(config: ImageDataConfig) -> dict[str, ImageDataset]:
    there = data_splits(config.name, download=config.download)
    parts = {"train": load_dataset(config.name, "train", download=config.download)}
    for split in ("validation", "test"):
        if split in there:
            parts[split] = load_dataset(config.name, split, download=config.download)
    if config.test is not None:
        if "test" in parts:
            raise CistError(f"{config.name} holds test images itself; leave data.test out.")
        parts["test"] = load_dataset(config.test, "test")
        if parts["test"].source == parts["train"].source:
            raise CistError(f"Expected data.test to hold other images than data.name, but both are {config.test}.")
    return parts


def _refuse_other_classes(parts: Mapping[str, ImageDataset]) -> None:
    """Labels are positions in a list of names: another list would give every label another meaning."""
    named = [(name, part.class_names) for name, part in parts.items() if part.class_names is not None]
    for name, classes in named[1:]:
        first, expected = named[0]
        if classes != expected:
            apart = sorted(set(classes) ^ set(expected)) or ["their order"]
            raise CistError(
                f"Expected the same classes in the {first} and the {name} images, but they differ in {apart[0]}."
            )


def _limited(part: ImageDataset, wanted: int | None, seed: int) -> ImageDataset:
    if wanted is None or wanted == part.num_samples:
        return part
    name = f"data.{part.split}_samples"
    if wanted > part.num_samples:
        raise CistError(f"Expected {name} to be at most {part.num_samples:,}, all there are, but got {wanted:,}.")
    (taken,) = stratified_split(part.labels, (wanted / part.num_samples,), seed)
    if not len(taken):
        raise CistError(f"Expected {name} to leave an image in some class, but got {wanted}; raise it.")
    return part.take(taken)


class ImageBatches:
    """Images of one part, read by index, as one network reads them."""

    def __init__(self, dataset: ImageDataset, preprocessing: Preprocessing, device: torch.device) -> None:
        images = dataset.images
        if isinstance(images, DecodedImages):
            size, channels = preprocessing.image_size, preprocessing.channels
            images = images.at(size, channels, preprocessing.crop, preprocessing.interpolation)
        self._preprocessing, self._device = preprocessing, device
        self._images = images
        self._pixels = None if isinstance(images, DecodedImages) else torch.from_numpy(images).to(device)

    def pixels(self, indices: Tensor) -> Tensor:
        """``(B, H, W, channels)`` uint8, as stored."""
        if self._pixels is not None:
            return self._pixels[indices.to(self._device)]
        return torch.from_numpy(self._images[indices.numpy()]).to(self._device)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """``(B, channels, S, S)`` float32, normalised."""
        return self._preprocessing(self.pixels(indices))


def augment(pixels: Tensor, config: AugmentationConfig) -> Tensor:
    """The weak view: each image cut, shifted and mirrored on its own, under torch's global generator.

    Args:
        pixels: ``(B, H, W, channels)`` uint8.
        config: what may happen.
    """
    images = pixels.permute(0, 3, 1, 2)
    if config.resized_crop is not None:
        from torchvision.transforms import v2

        cut = v2.RandomResizedCrop(images.shape[2:], scale=config.resized_crop, antialias=True)
        images = torch.stack([cut(image) for image in images])
    return shift_and_mirror(images, padding=config.crop_padding, flip=config.flip).permute(0, 2, 3, 1)


def shift_and_mirror(images: Tensor, *, padding: int, flip: bool, generator: torch.Generator | None = None) -> Tensor:
    """Shift each image by up to ``padding`` pixels (zeros move in) and mirror half of them.

    Args:
        images: ``(N, channels, H, W)``.
        padding: 0 shifts nothing.
        flip: whether to mirror.
        generator: by default torch's global one.
    """
    count, _, height, width = images.shape
    if padding:
        windows = F.pad(images, (padding, padding, padding, padding)).unfold(2, height, 1).unfold(3, width, 1)
        down, right = torch.randint(2 * padding + 1, (2, count), generator=generator, device=images.device)
        images = windows[torch.arange(count, device=images.device), :, down, right]
    if flip:
        mirrored = torch.rand(count, generator=generator, device=images.device) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def strong_view(pixels: Tensor) -> Tensor:
    """Each image under RandAugment of its own, two operations of strength 9 (Cubuk, Zoph, Shlens, Le 2020)."""
    from torchvision.transforms import v2

    change = v2.RandAugment()
    return torch.stack([change(image) for image in pixels.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1)
