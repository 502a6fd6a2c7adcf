"""Networks in .pt2 files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cist_core.zoo.kinds.kind import ModelKind, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from cist_core.zoo.teacher import Teacher


@register_model_kind
class Exported(ModelKind):
    order = 60
    written = "FILE.pt2"
    what = "a network that torch.export.save wrote"
    in_words = "a .pt2 file"
    example = "mine.pt2"
    endings = (".pt2",)
    is_path = True

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.exported import load_exported

        return load_exported(Path(reference).expanduser())
