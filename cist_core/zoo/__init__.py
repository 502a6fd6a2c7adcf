"""Networks by name, weights from files, and the models that ship with the project."""

from cist_core.zoo.architectures import ARCHITECTURES, Architecture, create_model, find_architecture
from cist_core.zoo.checkpoints import file_sha256, identify_architecture, read_checkpoint
from cist_core.zoo.ensembles import average_teachers
from cist_core.zoo.folding import fold_batch_norm
from cist_core.zoo.inspection import CheckpointReport, inspect_checkpoint
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.students import Student, check_student, create_student
from cist_core.zoo.teacher import Teacher
from cist_core.zoo.teachers import load_checkpoint, load_teacher

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "CheckpointReport",
    "Preprocessing",
    "Student",
    "Teacher",
    "average_teachers",
    "check_student",
    "create_model",
    "create_student",
    "file_sha256",
    "find_architecture",
    "fold_batch_norm",
    "identify_architecture",
    "inspect_checkpoint",
    "load_checkpoint",
    "load_teacher",
    "read_checkpoint",
]
