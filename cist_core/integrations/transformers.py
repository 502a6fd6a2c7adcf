"""A callback for the Trainer of Hugging Face that records logits during ``evaluate`` and ``predict``.

    from cist_core.integrations.transformers import RecordLogits

    trainer = Trainer(model, arguments, eval_dataset=data, callbacks=[RecordLogits("teacher.safetensors")])
    trainer.evaluate()

Then ``cist analyze --logits teacher.safetensors``.
"""

from __future__ import annotations

import os
from typing import Any

from cist_core.errors import CistError
from cist_core.installing import pip_install
from cist_core.integrations import path_of_rank
from cist_core.logits.recording import Recording, record


def _callback() -> Any:
    """The base class; `object` where transformers is not installed."""
    try:
        from transformers import TrainerCallback
    except ImportError:
        return object
    return TrainerCallback


class RecordLogits(_callback()):  # type: ignore[misc]
    """Writes the logits and labels of each evaluation or prediction to a file, which holds those of the last one.

    No callback hears that an evaluation begins. So the hooks are put on the model when the Trainer is made, calls in
    training mode are passed over, and what the model returned before the first batch is forgotten when its step is
    reported.

    Labels are those that the model is called with. There are none with ``label_smoothing_factor`` or
    ``compute_loss_func``, which take them away before. Not for ``predict_with_generate``, which calls the model once a
    token. In a distributed run each process writes its own samples to a file with its rank in the name, and the last
    batch may repeat some.

    Args:
        path: of the safetensors file.
        layer: the submodule that returns the logits, by name; None: the model.
        output: what of that holds the logits, where it returns several matrices; see `cist_core.record`.
        mask: of token logits; see `cist_core.record`.

    Raises:
        CistError: if transformers is not installed; during the evaluation, if the model returns no logits, nothing was
            recorded, or the file cannot be written; if the callback came to the Trainer after it was made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        layer: str | None = None,
        output: str | int | None = None,
        mask: str | None = "attention_mask",
    ) -> None:
        if type(self).__mro__[1] is object:
            raise CistError(
                f"Recording inside a Trainer needs transformers, which is not installed: {pip_install('hf')}."
            )
        self._path, self._layer, self._output, self._mask = path, layer, output, mask
        self._model: Any = None
        self._recording: Recording | None = None
        self._started = False

    def on_init_end(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:
        self._watch(model)

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:
        if model is not self._model:  # from model_init
            self._watch(model)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        recording = self._current()
        if not self._started:
            recording.keep_only_last_call()
            self._started = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._finish(args)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        self._finish(args)

    def remove(self) -> None:
        """Take the hooks off the model, when the Trainer has done its work and the model goes on to something else."""
        if self._recording is not None:
            self._recording.detach()
        self._recording, self._model = None, None

    def _watch(self, model: Any) -> None:
        self.remove()
        self._recording = record(
            model, layer=self._layer, output=self._output, mask=self._mask, class_names=_class_names(model)
        )
        self._recording.attach()
        self._model, self._started = model, False

    def _finish(self, args: Any) -> None:
        recording, model = self._current(), self._model
        self._watch(model)  # first, so that an evaluation that cannot be written leaves nothing to the next one
        recording.save(path_of_rank(self._path, args.process_index, args.world_size))

    def _current(self) -> Recording:
        if self._recording is None:
            raise CistError(
                "RecordLogits came to the Trainer after it was made and has missed the first batch; give it as "
                "Trainer(..., callbacks=[RecordLogits(...)])."
            )
        return self._recording


def _class_names(model: Any) -> list[str] | None:
    """Those of the model's config, unless they are the placeholders that every config has."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not names or all(name == f"LABEL_{index}" for index, name in names.items()):
        return None
    return [str(names[index]) for index in sorted(names)]
