"""Image classifiers of Hugging Face transformers: a repository of the hub, or a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cist_core.errors import CistError
from cist_core.zoo.kinds.kind import ModelKind, StudentOptions, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from torch import nn

    from cist_core.zoo.preprocessing import Preprocessing
    from cist_core.zoo.teacher import Teacher


class _Transformers(ModelKind):
    extra = "hf"
    package = "transformers"
    can_be_student = True

    def check_student(self, reference: str, weights: str | None) -> None:
        if weights not in (None, "pretrained"):
            raise CistError(
                f"A Hugging Face model has one set of weights, but got '@{weights}'; write {reference}@pretrained."
            )

    def create_student(
        self, reference: str, num_classes: int, options: StudentOptions
    ) -> tuple[nn.Module, Preprocessing, str | None]:
        from cist_core.zoo.foreign.hugging_face import create_hugging_face

        return create_hugging_face(reference, num_classes, options)


@register_model_kind
class Hub(_Transformers):
    order = 30
    written = "hf:OWNER/NAME"
    what = "an image classifier of the Hugging Face hub"
    example = "hf:google/vit-base-patch16-224"
    scheme = "hf"
    remote = True

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.hugging_face import load_hugging_face

        return load_hugging_face(self.name_in(reference), download=options.download)

    def check_student(self, reference: str, weights: str | None) -> None:
        super().check_student(reference, weights)
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.name_in(reference)) or ".." in reference:
            raise CistError(f"Expected a repository of the Hugging Face hub, {self.written}, but got '{reference}'.")


@register_model_kind
class HuggingFaceFolder(_Transformers):
    order = 40
    written = "FOLDER"
    what = "a Hugging Face image classifier: config.json and safetensors"
    in_words = "a folder with a Hugging Face config.json"
    example = "vit-on-birds/"
    is_path = True

    def is_for(self, reference: str) -> bool:
        return (Path(reference).expanduser() / "config.json").is_file()

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.hugging_face import load_folder

        return load_folder(Path(reference).expanduser())
