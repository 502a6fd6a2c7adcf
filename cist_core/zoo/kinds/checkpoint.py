"""Files of weights, whatever training script wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cist_core.zoo.kinds.kind import ModelKind, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from cist_core.zoo.teacher import Teacher


@register_model_kind
class Checkpoint(ModelKind):
    order = 70
    written = "FILE"
    what = "weights of one of these architectures, or with --arch of another: torchvision:NAME, timm:NAME, ..."
    in_words = "a checkpoint"
    example = "resnet56.th"
    endings = (".safetensors", ".pt", ".pth", ".th", ".bin")
    named_weights = True
    is_path = True
    own_word = None

    def is_for(self, reference: str) -> bool:
        """Any file: the endings are the usual ones."""
        return Path(reference).expanduser().is_file()

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.teachers import load_checkpoint

        path = Path(reference).expanduser()
        return load_checkpoint(path, options.architecture, weights=options.weights, role=options.role)
