"""The models that ship with the project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cist_core.cards import find_sample_model
from cist_core.zoo.kinds.kind import ModelKind, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from cist_core.zoo.teacher import Teacher


@register_model_kind
class SampleModel(ModelKind):
    order = 0
    written = "NAME"
    what = "a sample model"
    in_words = "a sample model"
    own_word = "; a sample model brings its own"

    def is_for(self, reference: str) -> bool:
        return find_sample_model(reference) is not None

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.teachers import load_teacher

        return load_teacher(reference)
