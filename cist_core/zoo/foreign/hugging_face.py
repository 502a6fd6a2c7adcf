"""Image classifiers of Hugging Face transformers: a folder, or a repository of the hub."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cist_core.data.names import MOST_CLASSES
from cist_core.errors import CistError, first_line
from cist_core.zoo.checkpoints import read_raw
from cist_core.zoo.foreign.hub import fetch_folder
from cist_core.zoo.foreign.transformers_folder import (
    check_shards,
    check_size,
    entries,
    licence_of,
    load_network,
    quiet,
    read_json,
    refuse_foreign_code,
)
from cist_core.zoo.foreign.wrapping import (
    ASSUMED,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ForeignModel,
    digest_of_files,
    distinct_names,
    only_text,
    require,
)
from cist_core.zoo.kinds import StudentOptions
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

PREFIX = "hf:"
_FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "model.safetensors.index.json", "README.md"]
_CLASSES = ("num_labels", "id2label", "label2id")
_PICKLE = "pytorch_model.bin"
_AUTO, _KIND = "AutoModelForImageClassification", "image classifier"


def load_hugging_face(repository: str, *, download: bool = False) -> Teacher:
    """An image classifier of the hub.

    Args:
        repository: ``OWNER/NAME``.
        download: whether what is not in the hub's cache may be fetched.

    Raises:
        CistError: as `load_folder`, or if the repository is not there.
    """
    folder = fetch_folder(repository, _FILES, download=download)
    return load_folder(folder, name=f"{PREFIX}{repository}")


def load_folder(folder: str | os.PathLike[str], name: str | None = None) -> Teacher:
    """An image classifier from a folder with ``config.json`` and weights.

    No code of the folder runs: a configuration that asks for some is refused, safetensors hold only numbers, and a
    ``pytorch_model.bin`` is read by ``torch.load(weights_only=True)``.

    Raises:
        CistError: without transformers, or if the folder holds no image classifier, is damaged, or asks for code.
    """
    root = Path(folder)
    config = read_json(root / "config.json")
    _check_config(config, root)
    files = sorted(path for path in root.iterdir() if path.suffix == ".safetensors" and path.is_file())
    check_shards(root)
    transformers, *_ = require("hf", "transformers", purpose=f"The Hugging Face classifier {root.name}")
    if not files and not (root / _PICKLE).is_file():
        raise CistError(f"{root} holds no weights: neither model.safetensors nor {_PICKLE}.")
    with quiet(transformers):
        size = sum(path.stat().st_size for path in files or [root / _PICKLE])
        check_size(transformers, root, size, _AUTO, kind=_KIND)
        if files:
            network = load_network(transformers, root, _AUTO, dtype="float32")
        else:
            with tempfile.TemporaryDirectory() as copy:
                _convert(root, Path(copy))
                network = load_network(transformers, Path(copy), _AUTO, dtype="float32")
        preprocessing, remarks = _preprocessing(transformers, root, network.config)
    labels = _class_names(network.config)
    return Teacher(
        name=name or root.name,
        model=Classifier(network).eval(),
        architecture=f"transformers {type(network).__name__}",
        num_classes=int(network.config.num_labels),
        class_names=labels,
        preprocessing=preprocessing,
        checkpoint_sha256=digest_of_files([root / "config.json", *(files or [root / _PICKLE])]),
        facts=only_text(
            {
                "origin": f"https://huggingface.co/{name.removeprefix(PREFIX)}" if name else str(root),
                "licence": licence_of(root) or "not said in the folder",
                "parameters": f"{sum(parameter.numel() for parameter in network.parameters()):,}",
                **remarks,
            }
        ),
    )


def create_hugging_face(
    reference: str, num_classes: int, options: StudentOptions
) -> tuple[nn.Module, Preprocessing, str | None]:
    """A classifier for so many classes by the configuration of a repository or folder.

    Args:
        reference: ``hf:OWNER/NAME``, or the path of a folder.
        num_classes: C.
        options: ``weights="pretrained"`` takes its weights but for a head of other classes.

    Raises:
        CistError: as `load_folder`.
    """
    root = Path(reference).expanduser()
    if reference.startswith(PREFIX):
        wanted = _FILES if options.weights else _FILES[:2]
        root = fetch_folder(reference.removeprefix(PREFIX), wanted, download=options.download)
    _check_config(read_json(root / "config.json"), root)
    check_shards(root)
    transformers, *_ = require("hf", "transformers", purpose=f"The Hugging Face classifier {root.name}")
    with quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(root, trust_remote_code=False, local_files_only=True)
            same = int(config.num_labels) == num_classes
            if not same:
                config.num_labels = num_classes
            network = transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False)
        except Exception as error:  # a configuration can be wrong in any way
            raise CistError(f"{root / 'config.json'} describes no image classifier ({first_line(error)}).") from error
        preprocessing, remarks = _preprocessing(transformers, root, config)
        said = [f"{name}: {text}" for name, text in remarks.items()]
        if options.weights is not None:
            from cist_core.zoo.students import load_but_head

            trained = load_folder(root).model
            assert isinstance(trained, Classifier)
            said.insert(0, load_but_head(network, trained.network.state_dict(), source=f"the weights of {reference}"))
    return Classifier(network), preprocessing, "; ".join(said) or None


class Classifier(ForeignModel):
    """``(N, channels, S, S)`` to ``(N, C)``: the logits of what the network returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(pixel_values=images).logits
        return logits


def _check_config(config: Mapping[str, Any], root: Path) -> None:
    """Refuse what would run code, and more classes than are read, before the library sees it."""
    refuse_foreign_code(config, root, remedy="export the network to ONNX and open that")
    for key, value in entries(config):  # the library makes a list of names of the number
        count = value if isinstance(value, int | float) else len(value) if isinstance(value, dict | list) else 0
        if key in _CLASSES and count > MOST_CLASSES:
            raise CistError(
                f"{root} has {count:,} classes ('{key}' in config.json), and at most {MOST_CLASSES:,} are "
                "read; is it another network's?"
            )
    named = config.get("architectures")
    if named and not any(str(name).endswith("ForImageClassification") for name in named):
        raise CistError(f"{root} holds a {named[0]}, which is no image classifier.")


def _convert(root: Path, copy: Path) -> None:
    """The pickle's weights as safetensors, beside the same configuration."""
    from safetensors.torch import save_file

    state = {name: tensor.clone().contiguous() for name, tensor in read_raw(root / _PICKLE).items()}
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    (copy / "config.json").write_bytes((root / "config.json").read_bytes())


def _preprocessing(transformers: Any, root: Path, config: Any) -> tuple[Preprocessing, dict[str, str]]:
    """What the folder's image processor does, as far as it is resizing, cropping and normalising."""
    size = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
    channels = int(getattr(config, "num_channels", 3) or 3)
    if not (root / "preprocessor_config.json").is_file():
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        return Preprocessing(mean, std, size), {"preprocessing": ASSUMED}
    _check_config(read_json(root / "preprocessor_config.json"), root)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            root, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # a configuration can be wrong in any way
        raise CistError(f"{root / 'preprocessor_config.json'} cannot be used ({first_line(error)}).") from error
    return translate(processor, size, channels)


def translate(processor: Any, size: int, channels: int) -> tuple[Preprocessing, dict[str, str]]:
    """An image processor as our own preprocessing, and what of it is left out or rewritten.

    Args:
        processor: of transformers.
        size: of the images that the network reads, where the processor does not say.
        channels: of those images.
    """
    remarks: dict[str, str] = {}
    shorter = _side(getattr(processor, "size", None)) or size
    crop = 1.0
    share = getattr(processor, "crop_pct", None)
    if getattr(processor, "do_center_crop", False) and (cut := _side(getattr(processor, "crop_size", None))):
        size, crop = cut, min(1.0, cut / (int(shorter / share) if share else shorter))
    elif share:
        size, crop = shorter, min(1.0, shorter / int(shorter / share)) if shorter < _SQUEEZED_FROM else 1.0
    else:
        size = shorter
    mean, std = (0.0,) * channels, (1.0,) * channels
    if getattr(processor, "do_normalize", True) and processor.image_mean is not None:
        mean, std = _per_channel(processor.image_mean, channels), _per_channel(processor.image_std, channels)
    if getattr(processor, "rescale_offset", False) and getattr(processor, "do_rescale", True):
        mean = tuple(m + 1 for m in mean)  # 1 is taken off before the mean is
    if getattr(processor, "include_top", False):  # EfficientNet divides by the standard deviation once more
        std = tuple(s * t for s, t in zip(std, _per_channel(processor.image_std, channels), strict=True))
    factor = (
        float(getattr(processor, "rescale_factor", None) or 1 / 255) if getattr(processor, "do_rescale", True) else 1.0
    )
    if abs(factor * 255 - 1) > 1e-3:
        # (f x - m) / s with x in 0..255 is (x / 255 - m / (255 f)) / (s / (255 f)).
        mean, std = (tuple(value / (255 * factor) for value in values) for values in (mean, std))
        remarks["preprocessing"] = f"pixels scaled by {factor:g}, written as a mean and standard deviation on 0 to 1"
    resample = str(getattr(getattr(processor, "resample", None), "name", getattr(processor, "resample", 2))).lower()
    bilinear = resample in ("2", "bilinear")
    if resample not in ("2", "3", "bilinear", "bicubic"):
        remarks["interpolation"] = f"{resample}, read as bicubic"
    if left_out := _left_out(processor):
        remarks["left out"] = "; ".join(left_out)
    return Preprocessing(mean, std, size, crop=crop, interpolation="bilinear" if bilinear else "bicubic"), remarks


def _left_out(processor: Any) -> list[str]:
    """What the processor does that our preprocessing cannot, each as a remark: it may cost accuracy."""
    found = []
    size, side = getattr(processor, "size", None), _side(getattr(processor, "size", None))
    cut = _side(getattr(processor, "crop_size", None)) if getattr(processor, "do_center_crop", False) else None
    share = getattr(processor, "crop_pct", None)
    of_entries = size is not None and not isinstance(size, int)
    resized = getattr(processor, "do_resize", True)
    if not resized:
        found.append("the original does not resize; here the centre is scaled")
    elif of_entries and _has(size, "height") and getattr(size, "height", True):
        found.append(f"the original squeezes the whole image to {side}x{side}; here its aspect ratio is kept")
    elif share and not cut and side and side >= _SQUEEZED_FROM:
        found.append(f"the original squeezes the whole image to {side}x{side}; here the centre square is taken")
    elif of_entries and not cut and not share:
        found.append("the original keeps the whole of an oblong image; here the centre square is taken")
    if cut and side and resized and cut > (int(side / share) if share else side):
        found.append(f"the original pads {side} pixels to {cut}; here they are scaled")
    return found + [f"{name} of the image processor" for name in _NOT_DONE if getattr(processor, name, None)]


_SQUEEZED_FROM = 384
"""From here on ConvNeXt's processor does not crop."""
_NOT_DONE = (
    "do_pad",
    "do_thumbnail",
    "do_align_long_axis",
    "do_flip_channel_order",
    "do_color_quantize",
    "size_divisor",
)


def _side(size: Any) -> int | None:
    """Of an image processor's size: ``{"shortest_edge": S}``, ``{"height": S, "width": S}`` or a number."""
    if size is None or isinstance(size, int):
        return size
    entries = {
        key: size[key] if isinstance(size, Mapping) else getattr(size, key, None) for key in _SIDES if _has(size, key)
    }
    if entries.get("height") and entries.get("width") and entries["height"] != entries["width"]:
        raise CistError(
            f"Expected a model that reads square images, but its image processor makes {entries['height']}x"
            f"{entries['width']}; export it to .onnx with images of one size."
        )
    value = next((value for value in entries.values() if value), None)
    return None if value is None else int(value)


_SIDES = ("shortest_edge", "height", "width")


def _has(size: Any, key: str) -> bool:
    return key in size if isinstance(size, Mapping) else hasattr(size, key)


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    numbers = tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),)
    return numbers * channels if len(numbers) == 1 else numbers


def _class_names(config: Any) -> tuple[str, ...] | None:
    """By number; None where they are the library's own ``LABEL_0``, ``LABEL_1``, ..."""
    names = tuple(str(config.id2label.get(index, index)) for index in range(int(config.num_labels)))
    plain = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    return None if plain else distinct_names(names)
