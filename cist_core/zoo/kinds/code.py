"""Code of the user's own: ``package.module:function``. The one kind that runs code, and where that is refused.

It is for the command line and Python. The Studio shows other people's files and takes names from visitors: there
`refuse_code` stands before everything that is kept or queued, and `NO_CODE` in the environment of the app and of all
processes that it starts, workers among them, keeps this kind from opening anything.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from cist_core.errors import CistError
from cist_core.logits.ensemble import ENSEMBLE
from cist_core.zoo.kinds.kind import ModelKind, StudentOptions, TeacherOptions, find_kind, register_model_kind

if TYPE_CHECKING:
    from torch import nn

    from cist_core.zoo.preprocessing import Preprocessing
    from cist_core.zoo.teacher import Teacher

NO_CODE = "CIST_NO_CODE"
"""Set in the environment, it keeps this process and those that it starts from running such code."""
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(@\d+)?")


def runs_code(reference: str) -> bool:
    """Whether a reference, or an architecture, is code of its own."""
    return any(isinstance(find_kind(name), Code) for name in (reference, reference.rpartition("@")[0]))


def first_code(*references: str | None) -> str | None:
    """The first reference that runs code of its own, members of ensembles included; None where there is none."""
    members = (member.strip() for reference in references if reference for member in reference.split(ENSEMBLE))
    return next(filter(runs_code, members), None)


def refuse_code(*references: str | None) -> None:
    """Refuse references that would run code of their own, members of ensembles included.

    Raises:
        CistError: naming the reference.

    Example:
        >>> refuse_code("timm:resnet18", None)
        >>> refuse_code("my_nets.small:build")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        cist_core.errors.CistError: 'my_nets.small:build' would run code of its own, ...
    """
    if (code := first_code(*references)) is not None:
        raise CistError(
            f"'{code}' would run code of its own, which the Studio does not do; use the command line or Python, or add "
            "its logits."
        )


@register_model_kind
class Code(ModelKind):
    order = 80
    written = "package.module:function"
    what = "code of your own, called with num_classes=; returns a module, or a module and its Preprocessing"
    example = "my_nets.small:build"
    can_be_student = True

    def is_for(self, reference: str) -> bool:
        return _REFERENCE.fullmatch(reference) is not None

    def open_teacher(self, reference: str, options: TeacherOptions) -> Teacher:
        from cist_core.zoo.foreign.own_code import load_own

        self._check_allowed(reference)
        return load_own(reference)

    def check_student(self, reference: str, weights: str | None) -> None:
        self._check_allowed(reference)
        if weights is not None:
            raise CistError(f"'{reference}' brings its own weights; leave '@{weights}' out.")

    def create_student(
        self, reference: str, num_classes: int, options: StudentOptions
    ) -> tuple[nn.Module, Preprocessing, str | None]:
        from cist_core.zoo.foreign.own_code import create_own

        self._check_allowed(reference)
        return create_own(reference, num_classes, options)

    def _check_allowed(self, reference: str) -> None:
        if os.environ.get(NO_CODE):
            refuse_code(reference)
