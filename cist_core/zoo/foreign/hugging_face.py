"""Image classifiers of Hugging Face transformers: a folder, or a repository of the hub."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cist_core.data.names import MOST_CLASSES
from cist_core.documents import parse_json, parse_yaml, read_document
from cist_core.errors import CistError, first_line
from cist_core.zoo.checkpoints import meta_device, read_raw
from cist_core.zoo.foreign.hub import fetch_folder
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
# What would make the library fetch or run something that is neither this configuration nor these weights.
_REFUSED_KEYS = {
    "auto_map": "code of its own",
    "quantization_config": "a library for quantised weights",
    "backbone": "another network as its backbone",
    "use_pretrained_backbone": "another network as its backbone",
    "timm_kwargs": "arguments for another library",
    "_attn_implementation": "a kernel of its own",
    "attn_implementation": "a kernel of its own",
}
_CLASSES = ("num_labels", "id2label", "label2id")
_PICKLE = "pytorch_model.bin"
_LARGEST_CONFIG = 1 << 24
# Weights in half the precision take twice their file in memory; more than this, and a configuration does not belong
# to its file.
_MEMORY_PER_BYTE = 4


def load_hugging_face(repository: str, *, download: bool = False) -> Teacher:
    """An image classifier of the hub.

    Args:
        repository: ``OWNER/NAME``.
        download: whether what is not in the hub's cache may be fetched.

    Raises:
        CistError: as `load_folder`, or if the repository is not there.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository) or ".." in repository:
        raise CistError(f"Expected a repository of the Hugging Face hub, {PREFIX}OWNER/NAME, but got '{repository}'.")
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
    config = _read_json(root / "config.json")
    _check_config(config, root)
    files = sorted(path for path in root.iterdir() if path.suffix == ".safetensors" and path.is_file())
    _check_shards(root)
    transformers, *_ = require("hf", "transformers", purpose=f"The Hugging Face classifier {root.name}")
    if not files and not (root / _PICKLE).is_file():
        raise CistError(f"{root} holds no weights: neither model.safetensors nor {_PICKLE}.")
    with quiet(transformers):
        _check_network(transformers, root, sum(path.stat().st_size for path in files or [root / _PICKLE]))
        if files:
            network = _load(transformers, root)
        else:
            with tempfile.TemporaryDirectory() as copy:
                _convert(root, Path(copy))
                network = _load(transformers, Path(copy))
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
                "licence": _licence(root) or "not said in the folder",
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
    _check_config(_read_json(root / "config.json"), root)
    _check_shards(root)
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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CistError(f"There is no {path.name} in {path.parent}; a Hugging Face model has one.")
    if path.stat().st_size > _LARGEST_CONFIG:
        raise CistError(f"{path} has {path.stat().st_size:,} bytes, more than any configuration.")
    try:
        content = parse_json(read_document(path))
    except (OSError, ValueError) as error:
        raise CistError(f"{path} is not readable JSON ({first_line(error)}).") from error
    if not isinstance(content, dict):
        raise CistError(f"{path} is no JSON object.")
    return content


def _check_config(config: Mapping[str, Any], root: Path) -> None:
    """Refuse what would run code, and more classes than are read, before the library sees it."""
    for key, value in _entries(config):
        if key in _REFUSED_KEYS and value not in (None, False, "eager", "sdpa"):
            raise CistError(
                f"{root} asks for {_REFUSED_KEYS[key]} ('{key}' in config.json), which is not loaded; export the "
                "network to ONNX and open that."
            )
    for key, value in _entries(config):  # the library makes a list of names of the number
        count = value if isinstance(value, int | float) else len(value) if isinstance(value, dict | list) else 0
        if key in _CLASSES and count > MOST_CLASSES:
            raise CistError(
                f"{root} has {count:,} classes ('{key}' in config.json), and at most {MOST_CLASSES:,} are "
                "read; is it another network's?"
            )
    named = config.get("architectures")
    if named and not any(str(name).endswith("ForImageClassification") for name in named):
        raise CistError(f"{root} holds a {named[0]}, which is no image classifier.")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from ((str(key), item) for key, item in part.items())
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_shards(root: Path) -> None:
    """The index names files; they lie in the folder."""
    index = root / "model.safetensors.index.json"
    if index.is_file():
        for shard in _read_json(index).get("weight_map", {}).values():
            if str(shard) != Path(str(shard)).name or not (root / str(shard)).is_file():
                raise CistError(f"{index} names '{shard}', which is no file in that folder.")


def _check_network(transformers: Any, root: Path, size: int) -> None:
    """Refuse a configuration that does not fit the size of the weights, before anything is allocated."""
    try:
        config = transformers.AutoConfig.from_pretrained(root, trust_remote_code=False, local_files_only=True)
        _check_depth(config, size)
        with meta_device():
            network = transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except CistError:
        raise
    except Exception as error:  # a configuration can be wrong in any way
        raise CistError(f"{root / 'config.json'} describes no image classifier ({first_line(error)}).") from error
    needed = sum(parameter.numel() for parameter in network.parameters()) * 4
    if needed > _MEMORY_PER_BYTE * size:
        raise CistError(
            f"{root / 'config.json'} describes a network of {needed:,} bytes, but the weights have only {size:,}; the "
            "two do not belong together."
        )


def _check_depth(config: Any, size: int) -> None:
    """A layer takes hundreds of bytes; a number of layers that the file cannot hold would be built one by one."""
    for key, value in _entries(config.to_dict()):
        layers = value if isinstance(value, list) else [value]
        if re.search(r"layers|depths?$|blocks", key) and any(
            isinstance(n, int) and n > size // 100 + 1 for n in layers
        ):
            raise CistError(f"The configuration has {key} = {value}, more than the {size:,} bytes of weights can hold.")


def _load(transformers: Any, root: Path) -> Any:
    try:
        network, info = transformers.AutoModelForImageClassification.from_pretrained(
            root,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            dtype="float32",
        )
    except Exception as error:  # weights and configuration can disagree in any way
        raise CistError(f"The Hugging Face model in {root} cannot be loaded ({first_line(error)}).") from error
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if missing:
        shown = ", ".join(missing[:4])
        raise CistError(
            f"The weights in {root} do not fit its config.json: {len(missing)} missing or of other shape: {shown}."
        )
    return network


def _convert(root: Path, copy: Path) -> None:
    """The pickle's weights as safetensors, beside the same configuration."""
    from safetensors.torch import save_file

    state = {name: tensor.clone().contiguous() for name, tensor in read_raw(root / _PICKLE).items()}
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    (copy / "config.json").write_bytes((root / "config.json").read_bytes())


class quiet:  # noqa: N801 - used like a function
    """Without the library's own remarks and progress bars."""

    def __init__(self, transformers: Any) -> None:
        self._logging = transformers.logging

    def __enter__(self) -> None:
        self._before = self._logging.get_verbosity()
        self._bar = self._logging.is_progress_bar_enabled()
        self._logging.set_verbosity(50)
        self._logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        self._logging.set_verbosity(self._before)
        if self._bar:
            self._logging.enable_progress_bar()


def _preprocessing(transformers: Any, root: Path, config: Any) -> tuple[Preprocessing, dict[str, str]]:
    """What the folder's image processor does, as far as it is resizing, cropping and normalising."""
    size = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
    channels = int(getattr(config, "num_channels", 3) or 3)
    if not (root / "preprocessor_config.json").is_file():
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        return Preprocessing(mean, std, size), {"preprocessing": ASSUMED}
    _check_config(_read_json(root / "preprocessor_config.json"), root)
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


def _licence(root: Path) -> str | None:
    """From the head of the model card."""
    card = root / "README.md"
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as stream:
        found = re.match(r"---\s*\n(.*?)\n---", stream.read(1 << 16), re.DOTALL)
    if found is None:
        return None
    try:
        head = parse_yaml(found.group(1))
    except ValueError:
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence
