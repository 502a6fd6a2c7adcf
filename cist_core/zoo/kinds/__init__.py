"""What can be a teacher or a student: one file a kind, which is found by itself; help, forms and errors read the list.

No file imports torch or a library of models before a model is opened or built.
"""

import importlib
import pkgutil

from cist_core.zoo.kinds.kind import (
    ModelKind,
    StudentOptions,
    TeacherOptions,
    find_kind,
    find_kind_of_scheme,
    is_remote,
    model_kinds,
    register_model_kind,
    student_kinds,
    students_in_words,
    teacher_endings,
    teachers_in_words,
    weight_endings,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ModelKind",
    "StudentOptions",
    "TeacherOptions",
    "find_kind",
    "find_kind_of_scheme",
    "is_remote",
    "model_kinds",
    "register_model_kind",
    "student_kinds",
    "students_in_words",
    "teacher_endings",
    "teachers_in_words",
    "weight_endings",
]
