"""What people add to the Studio: logits, or a teacher with data, opened in a process of its own, kept in one folder."""

from cist_core.added.entry import Entry, Preview, PreviewImage, Progress
from cist_core.added.roots import check_paths, roots, under_roots
from cist_core.added.snapshot import Added, AddedState
from cist_core.added.spec import AddSpec, LanguageModelOnTexts, LogitFiles, ModelOnData
from cist_core.added.store import AddedStore

__all__ = [
    "AddSpec",
    "Added",
    "AddedState",
    "AddedStore",
    "Entry",
    "LanguageModelOnTexts",
    "LogitFiles",
    "ModelOnData",
    "Preview",
    "PreviewImage",
    "Progress",
    "check_paths",
    "roots",
    "under_roots",
]
