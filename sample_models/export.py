"""From trained weights to a folder that can be shipped: weights, card, logits."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import DATASETS
from cist_core.inference.run import infer
from cist_core.logits.cache import DIGEST_FIELD
from cist_core.logits.logit_set import LogitSet, centre_for_storage
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.checkpoints import file_sha256, load_weights
from cist_core.zoo.teacher import Teacher

PAGE = """\
# {name}

{title}. Role: {role}.

- Architecture: `{architecture}`, {parameters:,} parameters, {num_classes} classes
- Input: pixels scaled to 0 to 1, then mean {preprocessing[mean]} and standard deviation {preprocessing[std]} by channel
- Data: `{data[name]}` ({data[licence]})
- Weights: {licence}, `model.safetensors`, SHA-256 `{sha256}`

| split | images | accuracy | negative log-likelihood (nats) |
|---|---|---|---|
{rows}

These are the weights after the last epoch; no epoch was chosen by its accuracy on validation or test images. Training
accuracy is measured on the images as they are, without shifts or mirroring.

## Training

`{command}`

{settings}; SGD with Nesterov momentum, one learning-rate cycle, one thread, torch {software[torch]}. `card.json` holds
the record of every epoch.

## Logits

`logits-{data[name]}-SPLIT.safetensors`: float16, the maximum of each row subtracted, which changes no soft label. Read
them with `cist_core.logits.logit_set.LogitSet.load`.
"""


def write_model(
    folder: Path,
    *,
    title: str,
    role: str,
    architecture: str,
    state: Mapping[str, Tensor],
    splits: Mapping[str, ImageDataset],
    recipe: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    command: str,
) -> dict[str, Any]:
    """Write ``model.safetensors``, the logits of every split, ``card.json`` and ``README.md``.

    Args:
        folder: made if needed; its name is the model's name.
        title: one line for people.
        role: ``"teacher"`` or ``"student"``.
        architecture: name in the zoo.
        state: the trained weights.
        splits: the data, by split; accuracy is measured on each of them.
        recipe: what the training was run with, the seed included.
        history: one record per epoch.
        command: what reproduces the weights.

    Returns:
        The content of ``card.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    data = splits["test"]
    assert data.class_names is not None
    teacher = _teacher(folder.name, architecture, state, data.class_names, file_sha256(weights))

    accuracy, nll, logits = {}, {}, {}
    for split, dataset in splits.items():
        computed = _logits(teacher, dataset)
        accuracy[split], nll[split] = computed.accuracy, computed.nll
        path = folder / f"logits-{dataset.name}-{split}.safetensors"
        LogitSet.create(
            centre_for_storage(computed.logits),
            computed.labels,
            class_names=data.class_names,
            provenance={**computed.provenance, "storage": "float16, row maximum subtracted"},
        ).save(path)
        logits[split] = {"file": path.name, "sha256": file_sha256(path), "data_fingerprint": dataset.fingerprint}

    card = {
        "name": folder.name,
        "title": title,
        "role": role,
        "architecture": architecture,
        "parameters": sum(parameter.numel() for parameter in teacher.model.parameters()),
        "num_classes": teacher.num_classes,
        "class_names": list(data.class_names),
        "preprocessing": teacher.preprocessing.to_dict(),
        "data": {
            "name": data.name,
            "licence": DATASETS[data.name].licence,
            "split_sizes": {split: dataset.num_samples for split, dataset in splits.items()},
        },
        "accuracy": accuracy,
        "nll": nll,
        "recipe": dict(recipe),
        "history": [dict(record) for record in history],
        "sha256": file_sha256(weights),
        "licence": "MIT",
        "command": command,
        "software": {"python": platform.python_version(), "torch": torch.__version__, "threads": 1},
        "logits": logits,
    }
    text = json.dumps(card, indent=2)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")
    # From what was written, so that the page can be rendered again from the file alone.
    written: dict[str, Any] = json.loads(text)
    (folder / "README.md").write_text(render_card(written), encoding="utf-8")
    return written


def render_card(card: Mapping[str, Any]) -> str:
    """The card as a page for people."""
    sizes = card["data"]["split_sizes"]
    return PAGE.format(
        **card,
        rows="\n".join(
            f"| {split} | {size:,} | {card['accuracy'][split]:.2%} | {card['nll'][split]:.4f} |"
            for split, size in sizes.items()
        ),
        settings=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card["recipe"].items()),
    )


def _teacher(
    name: str, architecture: str, state: Mapping[str, Tensor], class_names: tuple[str, ...], sha256: str
) -> Teacher:
    model = create_model(architecture, num_classes=len(class_names))
    load_weights(model, state, source=name)
    preprocessing = ARCHITECTURES[architecture].preprocessing
    return Teacher(name, model.eval(), architecture, len(class_names), class_names, preprocessing, sha256)


def _logits(teacher: Teacher, dataset: ImageDataset) -> LogitSet:
    with tempfile.TemporaryDirectory() as cache:
        mapped = infer(teacher, dataset, device="cpu", cache_dir=cache).logit_set
        # The digest is of the float32 file in the cache, which ends with this block.
        provenance = {name: text for name, text in mapped.provenance.items() if name != DIGEST_FIELD}
        return LogitSet.create(
            mapped.logits.copy(), mapped.labels, class_names=mapped.class_names, provenance=provenance
        )
