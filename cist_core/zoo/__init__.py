"""Networks by name, weights from files, and the models that ship with the project."""

from cist_core.zoo.architectures import ARCHITECTURES, Architecture, create_model, find_architecture
from cist_core.zoo.checkpoints import file_sha256, identify_architecture, read_checkpoint
from cist_core.zoo.folding import fold_batch_norm
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teachers import Teacher, load_checkpoint, load_teacher

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Preprocessing",
    "Teacher",
    "create_model",
    "file_sha256",
    "find_architecture",
    "fold_batch_norm",
    "identify_architecture",
    "load_checkpoint",
    "load_teacher",
    "read_checkpoint",
]
