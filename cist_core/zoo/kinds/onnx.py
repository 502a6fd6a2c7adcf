"""Networks in .onnx files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cist_core.zoo.kinds.kind import ModelKind, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from cist_core.zoo.teacher import Teacher


@register_model_kind
class Onnx(ModelKind):
    order = 50
    written = "FILE.onnx"
    what = "a network in the format of ONNX, run by ONNX Runtime"
    in_words = "an .onnx file"
    example = "mine.onnx"
    endings = (".onnx",)
    extra = "onnx"
    package = "onnxruntime"
    is_path = True

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.onnx_models import load_onnx

        return load_onnx(Path(reference).expanduser())
