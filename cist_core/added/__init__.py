"""What people add to the Studio: logits, or a teacher with data, opened in a process of its own, kept in one folder."""

from cist_core.added.roots import roots, under_roots
from cist_core.added.spec import AddSpec, LogitFiles, ModelOnData
from cist_core.added.store import Added, AddedState, AddedStore, Preview

__all__ = [
    "AddSpec",
    "Added",
    "AddedState",
    "AddedStore",
    "LogitFiles",
    "ModelOnData",
    "Preview",
    "roots",
    "under_roots",
]
