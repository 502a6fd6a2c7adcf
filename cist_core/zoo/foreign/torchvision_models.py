"""Classifiers of torchvision, with its weights or with weights from a checkpoint."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cist_core.errors import CistError, first_line
from cist_core.zoo.checkpoints import (
    file_sha256,
    find_differences,
    load_weights,
    meta_device,
    read_checkpoint,
    state_shapes,
)
from cist_core.zoo.foreign.wrapping import IMAGENET_MEAN, IMAGENET_STD, distinct_names, only_text
from cist_core.zoo.kinds import StudentOptions
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

PREFIX = "torchvision:"
# https://github.com/pytorch/vision#pre-trained-model-license, and the docs of the SWAG weights.
_CODE_LICENCE = "code BSD-3-Clause; the weights may have terms of their own, those of the data they were trained on"
_SWAG_LICENCE = "code BSD-3-Clause; these weights are SWAG's, CC-BY-NC 4.0: no commercial use"
_IMAGENET_CLASSES = 1000
# What the older files call the layers of a DenseNet: norm.1 for norm1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def torchvision_names() -> list[str]:
    """The classifiers of the installed torchvision."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def load_torchvision(reference: str, *, download: bool = False) -> Teacher:
    """A classifier with weights of torchvision's.

    Args:
        reference: ``NAME`` or ``NAME@WEIGHTS``, for example ``resnet50@IMAGENET1K_V2``; by default its best weights.
        download: whether weights that are not in torch's cache (``TORCH_HOME``) may be fetched.

    Raises:
        CistError: for unknown names, weights that are not there, or a download that fails.
    """
    name, _, chosen = reference.partition("@")
    weights = find_weights(name, chosen)
    path = _weights_file(name, weights, download=download)
    state = _modern_names(read_checkpoint(path))
    names = tuple(str(category) for category in weights.meta["categories"])
    usual = usual_preprocessing(weights)
    model = build(name, len(names), state, image_size=usual.image_size, source=str(path))
    if hasattr(model, "transform_input"):  # as torchvision does for the weights that it converted from TensorFlow
        model.__dict__["transform_input"] = True
    return Teacher(
        name=f"{PREFIX}{name}@{weights.name}",
        model=model.eval(),
        architecture=f"{PREFIX}{name}",
        num_classes=len(names),
        class_names=distinct_names(names),
        preprocessing=usual,
        checkpoint_sha256=file_sha256(path),
        facts=facts_of(weights),
    )


def create_torchvision(
    name: str, num_classes: int, options: StudentOptions
) -> tuple[nn.Module, Preprocessing, str | None]:
    """A classifier for so many classes, fresh or with the weights of torchvision's but for a head of other classes.

    Auxiliary heads are left out.

    Raises:
        CistError: for unknown names, or weights that are not there.
    """
    from cist_core.zoo.students import load_but_head

    check_name(name)
    size = options.image_size or _usual_size(name)
    built = _options(name, {}, size)
    if "init_weights" in built:
        built["init_weights"] = True
    network = _get_model(name, num_classes, built)
    usual = _default_weights(name)
    preprocessing = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, size) if usual is None else usual_preprocessing(usual)
    remark = None
    if options.weights is not None:
        weights = find_weights(name, options.weights)
        path = _weights_file(name, weights, download=options.download)
        kept = network.state_dict()
        state = {
            key: tensor
            for key, tensor in _modern_names(read_checkpoint(path)).items()
            if key in kept or not key.startswith(("aux1.", "aux2.", "AuxLogits."))
        }
        remark = load_but_head(network, state, source=f"torchvision's weights {weights.name}")
        preprocessing = usual_preprocessing(weights)
        if hasattr(network, "transform_input"):  # these were trained on pixels from -1 to 1
            preprocessing = replace(preprocessing, mean=(0.5,) * 3, std=(0.5,) * 3)
    return network, replace(preprocessing, image_size=options.image_size or preprocessing.image_size), remark


def _weights_file(name: str, weights: Any, *, download: bool) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rsplit("/", 1)[-1]
    if not path.is_file():
        if not download:
            raise CistError(
                f"The weights {weights.name} of torchvision's {name} are not on this machine; fetch them with "
                f"--download (`download=True` in Python) from {weights.url}."
            )
        _fetch(weights.url, path)
    return path


def load_torchvision_checkpoint(
    state: Mapping[str, Tensor], name: str, *, source: str
) -> tuple[nn.Module, int, Preprocessing]:
    """A classifier of torchvision with weights from elsewhere: the network, its classes and the usual preprocessing.

    Raises:
        CistError: for an unknown name, or weights that do not fit, with the differences.
    """
    check_name(name)
    state = _modern_names(state)
    classes = _count_classes(name, state, source)
    size = _image_size_of(state) or _usual_size(name)
    model = build(name, classes, state, image_size=size, source=source)
    weights = _default_weights(name)
    usual = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, size) if weights is None else usual_preprocessing(weights)
    return model.eval(), classes, replace(usual, image_size=size)


def build(name: str, num_classes: int, state: Mapping[str, Tensor], *, image_size: int, source: str) -> nn.Module:
    """The network with the given weights; nothing is allocated before they are known to fit.

    Raises:
        CistError: with the differences, if they do not fit.
    """
    options = _options(name, state, image_size)
    differences = find_differences(_shapes(name, num_classes, tuple(options.items())), state)
    if differences:
        raise CistError(f"The weights in {source} do not fit torchvision's {name}: {differences}.")
    model = _get_model(name, num_classes, options)
    load_weights(model, state, source=source)
    return model


def fitting_classes(name: str, state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of a state dict that fits the classifier exactly; None for any other."""
    state = _modern_names(state)
    try:
        classes = _head_rows(state, name)
        if classes is None:
            return None
        options = _options(name, state, _image_size_of(state) or _usual_size(name))
        return None if find_differences(_shapes(name, classes, tuple(options.items())), state) else classes
    except (CistError, ValueError, RuntimeError, TypeError):
        return None


def identify_torchvision(state: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """The classifiers of torchvision that a state dict fits exactly, as ``(name, number of classes)``.

    Only those are built (on the meta device) whose published number of parameters agrees.
    """
    found = ((name, fitting_classes(name, state)) for name in _candidates(_modern_names(state)))
    return [(name, classes) for name, classes in found if classes is not None]


def _candidates(state: Mapping[str, Tensor]) -> list[str]:
    numbers = sum(
        tensor.numel()
        for name, tensor in state.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    heads = [tensor.shape for tensor in state.values() if tensor.ndim in (2, 4) and tensor.shape[0] >= 2]
    published = _published_parameters()
    if not heads or not published:
        return []
    # The head is among the last weights; with its classes as many as ImageNet's, the count is the published one.
    possible = {numbers + (_IMAGENET_CLASSES - shape[0]) * (shape[1] + 1) for shape in heads[-3:]}
    return [name for name, count in published.items() if count in possible]


@lru_cache(maxsize=1)
def _published_parameters() -> dict[str, int]:
    return {
        name: int(weights.meta["num_params"])
        for name in torchvision_names()
        if (weights := _default_weights(name)) is not None
        and len(weights.meta.get("categories", ())) == _IMAGENET_CLASSES
    }


def _default_weights(name: str) -> Any:
    from torchvision.models import get_model_weights

    return next(iter(get_model_weights(name)), None)


def find_weights(name: str, chosen: str) -> Any:
    """The weights by their name; its best for ``""`` and ``"pretrained"``. Raises a CistError if there are none."""
    from torchvision.models import get_model_weights

    check_name(name)
    known = {weights.name: weights for weights in get_model_weights(name)}
    if not known:
        raise CistError(f"torchvision has no weights for {name}; give a checkpoint of it, with --arch {PREFIX}{name}.")
    if chosen in ("", "pretrained"):
        chosen = "DEFAULT"
    if chosen not in (*known, "DEFAULT"):
        raise CistError(f"torchvision's {name} has no weights '{chosen}'; it has: {', '.join(known)}.")
    return get_model_weights(name)[chosen]


def check_name(name: str) -> None:
    """Raises a CistError for a name that torchvision does not have, with the nearest it has."""
    known = torchvision_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:6]
        raise CistError(f"torchvision has no classifier '{name}'; did you mean {', '.join(near)}?")


def _fetch(url: str, path: Path) -> None:
    """Into torch's cache; the file's name carries the start of its digest, which is checked."""
    stem = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=stem.group(1) if stem else None, progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise CistError(
            f"{url} cannot be downloaded to {path} ({first_line(error)}); try again, or put the file there."
        ) from error


def usual_preprocessing(weights: Any) -> Preprocessing:
    """What torchvision does to images before a network with these weights, one of its ``Weights``."""
    transforms = weights.transforms()
    crop, shorter = int(transforms.crop_size[0]), int(transforms.resize_size[0])
    return Preprocessing(
        tuple(transforms.mean),
        tuple(transforms.std),
        crop,
        crop=min(1.0, crop / shorter),
        interpolation="bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
    )


def facts_of(weights: Any) -> dict[str, str]:
    """Origin, licence and published figures of one of torchvision's ``Weights``."""
    meta = weights.meta
    metrics = ", ".join(
        f"{metric} {value:g} % on {data}"
        for data, values in meta.get("_metrics", {}).items()
        for metric, value in values.items()
        if "@" in metric
    )
    return only_text(
        {
            "origin": f"torchvision, {weights.url}",
            "licence": _SWAG_LICENCE if "SWAG" in weights.name else _CODE_LICENCE,
            "metrics": metrics,
            "recipe": meta.get("recipe"),
            "parameters": f"{meta['num_params']:,}" if "num_params" in meta else None,
            "about": str(meta.get("_docs", "")).strip(),
        }
    )


def _options(name: str, state: Mapping[str, Tensor], image_size: int) -> dict[str, Any]:
    """What the builder has to be told for the weights to fit."""
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {
            "aux_logits": any(key.startswith(("aux1.", "AuxLogits.")) for key in state),
            "init_weights": False,
        }
    if name.startswith("vit_"):
        options["image_size"] = image_size
    return options


def _image_size_of(state: Mapping[str, Tensor]) -> int | None:
    """Of a vision transformer: its positions make a square of patches."""
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    return math.isqrt(positions.shape[1] - 1) * int(patches.shape[-1])


def _usual_size(name: str) -> int:
    weights = _default_weights(name)
    return 224 if weights is None else usual_preprocessing(weights).image_size


def _count_classes(name: str, state: Mapping[str, Tensor], source: str) -> int:
    classes = _head_rows(state, name)
    if classes is None:
        raise CistError(
            f"The weights in {source} are not those of torchvision's {name}: '{_head(name)}', the weight with a row "
            "for each class, is missing."
        )
    return classes


def _head_rows(state: Mapping[str, Tensor], name: str) -> int | None:
    weight = state.get(_head(name))
    return int(weight.shape[0]) if weight is not None and weight.ndim in (2, 4) and weight.shape[0] >= 2 else None


@lru_cache(maxsize=128)
def _head(name: str) -> str:
    """The weight whose first dimension follows the number of classes."""
    three, four = (_shapes(name, classes, tuple(_options(name, {}, _usual_size(name)).items())) for classes in (3, 4))
    return next(key for key, shape in three.items() if shape != four[key] and len(shape) > 1)


@lru_cache(maxsize=128)
def _shapes(name: str, num_classes: int, options: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]]:
    with meta_device():
        return state_shapes(_get_model(name, num_classes, dict(options)).state_dict())


def _get_model(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    from torchvision.models import get_model

    try:
        model: nn.Module = get_model(name, weights=None, num_classes=num_classes, **options)
    except NotImplementedError:  # on the meta device RegNets cannot read the widths that they compute with tensors
        from accelerate import init_empty_weights

        with torch.device("cpu"), init_empty_weights():
            model = get_model(name, weights=None, num_classes=num_classes, **options).to("meta")
    return model


def _modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}
