"""Classifiers of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cist_core.zoo.kinds.kind import ModelKind, StudentOptions, TeacherOptions, register_model_kind

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cist_core.zoo.preprocessing import Preprocessing
    from cist_core.zoo.teacher import Teacher


@register_model_kind
class Torchvision(ModelKind):
    order = 10
    written = "torchvision:NAME"
    what = "a classifier of torchvision with its best weights, or NAME@WEIGHTS"
    example = "torchvision:resnet50@IMAGENET1K_V2"
    scheme = "torchvision"
    package = "torchvision"
    remote = True
    can_be_student = True

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.torchvision_models import load_torchvision

        return load_torchvision(self.name_in(reference), download=options.download)

    def check_student(self, reference: str, weights: str | None) -> None:
        from cist_core.zoo.foreign.torchvision_models import check_name, find_weights

        check_name(self.name_in(reference))
        if weights is not None:
            find_weights(self.name_in(reference), weights)

    def create_student(
        self, reference: str, num_classes: int, options: StudentOptions
    ) -> tuple[nn.Module, Preprocessing, str | None]:
        from cist_core.zoo.foreign.torchvision_models import create_torchvision

        return create_torchvision(self.name_in(reference), num_classes, options)

    def fitting_classes(self, reference: str, state: Mapping[str, Tensor]) -> int | None:
        from cist_core.zoo.foreign.torchvision_models import fitting_classes

        return fitting_classes(self.name_in(reference), state)

    def load_weights(
        self, reference: str, state: Mapping[str, Tensor], *, source: str
    ) -> tuple[nn.Module, int, Preprocessing]:
        from cist_core.zoo.foreign.torchvision_models import load_torchvision_checkpoint

        return load_torchvision_checkpoint(state, self.name_in(reference), source=source)
