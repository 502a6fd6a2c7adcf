"""The folders of this machine that visitors of the Studio may read from, and what they may ask for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cist_core.added.spec import AddSpec
from cist_core.errors import CistError
from cist_core.zoo.kinds import is_remote

HUB = "hf:"
"""Begins the name of what lies on the Hugging Face hub."""
_PLAIN_NAME = re.compile(r"[\w\-]+")


def roots() -> tuple[Path, ...]:
    """The folders that ``CIST_ROOTS`` names, separated as in ``PATH``; none unless somebody set it.

    A folder that is not there is left out.
    """
    named = (Path(text).expanduser() for text in os.environ.get("CIST_ROOTS", "").split(os.pathsep) if text.strip())
    return tuple(folder.resolve() for folder in named if folder.is_dir())


def under_roots(text: str) -> Path:
    """A path below one of the `roots`, with every symbolic link followed.

    Args:
        text: as a person typed it; a relative one is looked for in each root.

    Raises:
        CistError: if there are no roots, or the path is not there or leads out of them. The sentence is the same for a
            path that exists elsewhere and for one that does not, so that it tells nothing about this machine.
    """
    allowed = roots()
    if not allowed:
        raise CistError(
            "Paths on the server cannot be opened, because no folder is open to visitors; start the Studio with "
            "CIST_ROOTS set to the folders that may be read, or upload the file."
        )
    typed = Path(text.strip())
    for root in allowed:
        try:
            # Joined to an absolute path, the root falls away.
            found = (root / typed).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # not there, a loop of links, a NUL
            continue
        if any(found.is_relative_to(folder) for folder in allowed):
            return found
    raise CistError(f"There is no '{text}' in the folders that may be read: {', '.join(map(str, allowed))}.")


def check_paths(spec: AddSpec, uploads: Path, *, server_paths: bool) -> None:
    """Refuse a spec that would read a file which was neither uploaded for it nor opened to visitors.

    Raises:
        CistError: naming the file.
    """
    from cist_core.cards import find_sample_model
    from cist_core.data.loading import DATASETS
    from cist_core.inference.sources import split_ensemble

    if spec.logits is not None:
        files = [spec.logits.teacher, spec.logits.labels, spec.logits.student]
    elif spec.language is not None:
        from cist_core.language.known import language_model_names

        known = spec.language.model in language_model_names()
        files = [] if known or spec.language.model.startswith(HUB) else [spec.language.model]
        files += [] if spec.language.texts.startswith(HUB) else [spec.language.texts]
    else:
        assert spec.model is not None
        files = [] if spec.model.data in DATASETS or is_remote(spec.model.data) else [spec.model.data]
        members = split_ensemble(spec.model.teacher)
        files += [name for name in members if find_sample_model(name) is None and not is_remote(name)]
        _check_architecture(spec.model.architecture)
    for file in files:
        if file is not None:
            check_path(file, uploads, server_paths=server_paths)


def check_path(file: str, uploads: Path, *, server_paths: bool) -> None:
    """The same of one file or folder that a spec names.

    Raises:
        CistError: naming it.
    """
    allowed = [uploads.resolve(), *(roots() if server_paths else ())]
    try:
        found = Path(file).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        found = None
    if found is None or not Path(file).is_absolute() or not any(found.is_relative_to(place) for place in allowed):
        raise CistError(f"'{file}' was not uploaded, and is not in a folder that may be read; upload it.")


def _check_architecture(architecture: str | None) -> None:
    """Refuse one that is a path: its `config.json` would be read, and the answer would tell whether it is there."""
    if architecture is not None and not is_remote(architecture) and not _PLAIN_NAME.fullmatch(architecture):
        raise CistError(
            "Expected the architecture to be a name of the list, torchvision:NAME, timm:NAME or hf:OWNER/NAME, but got "
            f"'{architecture}'."
        )
