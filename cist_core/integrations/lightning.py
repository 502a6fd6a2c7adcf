"""A Lightning callback that records logits while a model is validated or tested.

    from cist_core.integrations.lightning import RecordLogits

    trainer = Trainer(callbacks=[RecordLogits("teacher.safetensors", layer="network")])
    trainer.test(model, loader)

Then ``cist analyze --logits teacher.safetensors``. It works with ``lightning`` and with ``pytorch_lightning``: the one
that the program has imported before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cist_core.errors import CistError
from cist_core.installing import pip_install
from cist_core.integrations import path_of_rank
from cist_core.logits.files import LABEL_NAMES
from cist_core.logits.files.names import plain
from cist_core.logits.recording import Recording, record


def labels_of_batch(batch: Any) -> Any:
    """Where labels usually are: second in a pair, or under ``labels``, ``target``, ``y`` or alike (`LABEL_NAMES`).

    Labels that are not whole numbers, such as mixed ones, are none.

    Example:
        >>> labels_of_batch(([[0.5]], [3])), labels_of_batch({"x": [[0.5]], "label": [3]})
        ([3], [3])
    """
    labels = None
    if isinstance(batch, Mapping):
        called = {plain(name): name for name in batch if isinstance(name, str)}
        labels = next((batch[called[name]] for name in LABEL_NAMES if name in called), None)
    elif isinstance(batch, Sequence) and len(batch) >= 2:
        labels = batch[1]
    is_floating_point = getattr(labels, "is_floating_point", None)
    return None if is_floating_point is not None and is_floating_point() else labels


def _callback() -> Any:
    """The base class of the distribution that the program uses; `object` where there is none."""
    try:
        if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
            from pytorch_lightning import Callback as Older

            return Older
        from lightning.pytorch import Callback
    except ImportError:
        return object
    return Callback


class RecordLogits(_callback()):  # type: ignore[misc]
    """Writes the logits and labels of each validation or test to a file, which holds those of the last one.

    The hooks are on the model only while a batch is validated. In a distributed run each process writes its own samples
    to a file with its rank in the name; a sampler that fills up the last batch repeats some.

    Args:
        path: of the safetensors file.
        layer: the submodule that returns the logits, by its name in the LightningModule; None records what
            ``self(batch)`` returns.
        output: what of that holds the logits, where it returns several matrices; see `cist_core.record`.
        labels: takes a batch and returns its labels, or None where there are none.
        mask: of token logits; see `cist_core.record`.
        class_names: C names for the file.
        dataloader: which one of several is recorded.

    Raises:
        CistError: if Lightning is not installed; in the first batch, the sanity check's included, if the module returns
            no logits or labels and logits differ in number; at the end, if nothing was recorded or the file cannot be
            written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        layer: str | None = None,
        output: str | int | None = None,
        labels: Callable[[Any], Any] = labels_of_batch,
        mask: str | None = "attention_mask",
        class_names: Sequence[str] | None = None,
        dataloader: int = 0,
    ) -> None:
        if type(self).__mro__[1] is object:
            raise CistError(
                f"Recording inside Lightning needs Lightning, which is not installed: {pip_install('lightning')}."
            )
        super().__init__()
        self._path, self._layer, self._output, self._mask = path, layer, output, mask
        self._labels_of, self._class_names, self._dataloader = labels, class_names, dataloader
        self._recording: Recording | None = None

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._recording = record(
            pl_module, layer=self._layer, output=self._output, mask=self._mask, class_names=self._class_names
        )

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._recording is not None and dataloader_idx == self._dataloader:
            self._recording.attach()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._recording is None or dataloader_idx != self._dataloader:
            return
        self._recording.detach()
        labels = self._labels_of(batch)
        if labels is not None and self._recording.waits_for_labels:
            self._recording.labels(labels)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        recording, self._recording = self._recording, None
        if recording is not None and not trainer.sanity_checking:
            recording.save(path_of_rank(self._path, trainer.global_rank, trainer.world_size))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._recording is not None:
            self._recording.detach()

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end
