"""Classifiers of timm (PyTorch Image Models)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cist_core.zoo.kinds.kind import ModelKind, StudentOptions, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cist_core.zoo.preprocessing import Preprocessing
    from cist_core.zoo.teacher import Teacher


@register_model_kind
class Timm(ModelKind):
    order = 20
    written = "timm:NAME"
    what = "a classifier of timm with its weights"
    example = "timm:resnet18.a1_in1k"
    scheme = "timm"
    extra = "timm"
    package = "timm"
    remote = True
    can_be_student = True

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.timm_models import load_timm

        return load_timm(self.name_in(reference), download=options.download)

    def check_student(self, reference: str, weights: str | None) -> None:
        from cist_core.zoo.foreign.timm_models import check_name, check_weights

        check_name(self.name_in(reference))
        check_weights(weights)

    def create_student(
        self, reference: str, num_classes: int, options: StudentOptions
    ) -> tuple[nn.Module, Preprocessing, str | None]:
        from cist_core.zoo.foreign.timm_models import create_timm

        return create_timm(self.name_in(reference), num_classes, options)

    def fitting_classes(self, reference: str, state: Mapping[str, Tensor]) -> int | None:
        from cist_core.zoo.foreign.timm_models import fitting_classes

        return fitting_classes(self.name_in(reference), state)

    def load_weights(
        self, reference: str, state: Mapping[str, Tensor], *, source: str
    ) -> tuple[nn.Module, int, Preprocessing]:
        from cist_core.zoo.foreign.timm_models import load_timm_checkpoint

        return load_timm_checkpoint(state, self.name_in(reference), source=source)
