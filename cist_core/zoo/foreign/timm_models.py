"""Classifiers of timm (PyTorch Image Models), with its weights or with weights from a checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from cist_core.errors import CistError
from cist_core.zoo.checkpoints import (
    file_sha256,
    find_differences,
    load_weights,
    meta_device,
    read_checkpoint,
    state_shapes,
)
from cist_core.zoo.foreign.hub import fetch_file
from cist_core.zoo.foreign.wrapping import distinct_names, only_text, require
from cist_core.zoo.kinds import StudentOptions
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

PREFIX = "timm:"


def load_timm(name: str, *, download: bool = False) -> Teacher:
    """A classifier with the weights that timm publishes for it.

    Args:
        name: of the network, with or without the tag of its weights, for example ``resnet18.a1_in1k``.
        download: whether weights that are not in the cache of the Hugging Face hub may be fetched.

    Raises:
        CistError: without timm, for unknown names, or weights that are not there.
    """
    timm = _library()
    check_name(name)
    entry = timm.models.get_pretrained_cfg(name)
    repository = _repository(entry, name)
    path = fetch_file(repository, "model.safetensors", download=download)
    model, classes, preprocessing = load_timm_checkpoint(read_checkpoint(path), name, source=str(path))
    return Teacher(
        name=f"{PREFIX}{name}",
        model=model,
        architecture=f"{PREFIX}{name}",
        num_classes=classes,
        class_names=_class_names(name, classes),
        preprocessing=preprocessing,
        checkpoint_sha256=file_sha256(path),
        facts=_facts(entry, repository, model),
    )


def _repository(entry: Any, name: str) -> str:
    if entry is None or not entry.hf_hub_id:
        raise CistError(
            f"timm has no weights for {name} on the Hugging Face hub; give a checkpoint of it, with --arch "
            f"{PREFIX}{name}."
        )
    repository = str(entry.hf_hub_id)
    return f"{repository}{name}" if repository.endswith("/") else repository


def create_timm(name: str, num_classes: int, options: StudentOptions) -> tuple[nn.Module, Preprocessing, str | None]:
    """A classifier for so many classes, fresh or with timm's weights but for a head of other classes.

    Raises:
        CistError: without timm, for an unknown name, or weights that are not there.
    """
    from cist_core.zoo.students import load_but_head

    check_name(name)
    check_weights(options.weights)
    network = _create(name, {"num_classes": num_classes})
    remark = None
    if options.weights is not None:
        repository = _repository(_library().models.get_pretrained_cfg(name), name)
        path = fetch_file(repository, "model.safetensors", download=options.download)
        remark = load_but_head(network, read_checkpoint(path), source=f"timm's weights of {repository}")
    return network, _preprocessing(network), remark


def load_timm_checkpoint(
    state: Mapping[str, Tensor], name: str, *, source: str
) -> tuple[nn.Module, int, Preprocessing]:
    """A classifier of timm with weights from elsewhere: the network, its classes and its preprocessing.

    Raises:
        CistError: without timm, for an unknown name, or weights that do not fit, with the differences.
    """
    check_name(name)
    options = _options(name, state, source)
    differences = find_differences(_shapes(name, options), state)
    if differences:
        raise CistError(f"The weights in {source} do not fit timm's {name}: {differences}.")
    model = _create(name, options)
    load_weights(model, state, source=source)
    return model.eval(), options["num_classes"], _preprocessing(model)


def fitting_classes(name: str, state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of a state dict that fits the classifier exactly; None for any other."""
    try:
        check_name(name)
        options = _options(name, state, "")
        return None if find_differences(_shapes(name, options), state) else options["num_classes"]
    except CistError:
        return None


def _library() -> Any:
    (timm,) = require("timm", "timm", purpose=f"A teacher of the kind {PREFIX}NAME")
    return timm


def check_name(name: str) -> None:
    """Raises a CistError without timm, or for a name that it does not have, with the nearest it has."""
    timm = _library()
    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name.split(".")[0], known, n=3, cutoff=0.5) or known[:3]
        raise CistError(f"timm has no network '{name}'; did you mean {', '.join(near)}?")


def check_weights(chosen: str | None) -> None:
    """Raises a CistError for weights by a name: timm has it in the network's."""
    if chosen not in (None, "pretrained"):
        raise CistError(
            f"timm names weights in the network's name, but got '@{chosen}'; write {PREFIX}NAME.TAG@pretrained."
        )


def _options(name: str, state: Mapping[str, Tensor], source: str) -> dict[str, int]:
    """The number of classes and of channels, read off the first and the last weight of the network."""
    head, first = _ends(name)
    rows = state.get(f"{head}.weight")
    if rows is None or rows.ndim < 2 or len(rows) < 2:
        raise CistError(
            f"The weights in {source} are not those of timm's {name}: '{head}.weight', with a row for each class, is "
            "missing."
        )
    stem = state.get(f"{first}.weight")
    channels = int(stem.shape[1]) if stem is not None and stem.ndim == 4 else 3
    return {"num_classes": len(rows), "in_chans": channels}


@lru_cache(maxsize=128)
def _ends(name: str) -> tuple[str, str | None]:
    """The names of the last and the first layer."""
    with meta_device():
        config: Mapping[str, Any] = getattr(_create(name, {}), "pretrained_cfg", {})
    return _first(config.get("classifier")) or "fc", _first(config.get("first_conv"))


def _first(names: Any) -> str | None:
    """timm names several heads or stems where a network has several."""
    first = names[0] if isinstance(names, tuple | list) and names else names
    return str(first) if first else None


def _shapes(name: str, options: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    with meta_device():
        return state_shapes(_create(name, options).state_dict())


def _create(name: str, options: Mapping[str, int]) -> nn.Module:
    try:
        model: nn.Module = _library().create_model(name, pretrained=False, **options)
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        raise CistError(f"timm cannot build {name} with {dict(options)} ({error}).") from error
    return model


def _preprocessing(model: nn.Module) -> Preprocessing:
    config = _library().data.resolve_model_data_config(model)
    size = int(config["input_size"][-1])
    channels = int(config["input_size"][0])
    mean, std = (tuple(map(float, config[key])) for key in ("mean", "std"))
    if len(mean) != channels:
        mean, std = mean[:1] * channels, std[:1] * channels
    usual = Preprocessing(mean, std, size, crop=float(config["crop_pct"]))
    return replace(usual, interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic")


def _class_names(name: str, num_classes: int) -> tuple[str, ...] | None:
    """ImageNet's, where the weights are said to be trained on it."""
    timm = _library()
    if num_classes != 1000 or not name.endswith("in1k"):
        return None
    info = timm.data.ImageNetInfo("imagenet-1k")
    return distinct_names([str(info.index_to_description(index)) for index in range(num_classes)])


def _facts(entry: Any, repository: str, model: nn.Module) -> dict[str, str]:
    return only_text(
        {
            "origin": f"timm, https://huggingface.co/{repository}",
            "licence": entry.license or "not said by timm; see its page",
            "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
            "about": entry.origin_url or entry.paper_ids,
            "interpolation": None
            if entry.interpolation in ("bilinear", "bicubic")
            else f"{entry.interpolation}, read as bicubic",
            "cropping": None if entry.crop_mode == "center" else f"{entry.crop_mode}, read as a centre crop",
        }
    )
