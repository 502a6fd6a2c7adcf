"""Where the Studio's own files are: ``app/``, ``pages/`` and ``sample_models/``, of a clone or of a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

WITH_A_CLONE = ("cifar100-resnet20", "cifar100-resnet8")
"""Sample models that the wheel leaves out: with their logits they are 25 MB."""
HOW_TO_GET_THEM = "set CIST_SAMPLE_MODELS to the folder 'sample_models' of a clone of the project"


def studio_folder() -> Path | None:
    """The folder that holds ``app``, ``pages`` and ``sample_models``; None where the library stands alone.

    In a clone these stand beside the package. The wheel carries them inside it, because what stands beside a package in
    site-packages belongs to others.
    """
    clone, carried = PACKAGE.parent, PACKAGE / "_studio"
    if (clone / "pyproject.toml").is_file():
        return clone
    return carried if carried.is_dir() else None
