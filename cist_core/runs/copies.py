"""Runs that lie in a store alone: which they are, and how one comes back among the runs of this machine.

Its files are fetched into a folder that is no run's, and only when all of them are there does it become the directory
of a run, together with its row in the table. So whatever ends the process in between leaves nothing that is listed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from cist_core import documents
from cist_core.documents import parse_json
from cist_core.errors import CistError
from cist_core.files import file_lock
from cist_core.runs.records import RECORD_FILE, brought, is_run_id
from cist_core.runs.run import Run
from cist_core.runs.store import RunStore
from cist_core.training.mirror.listing import MOST_BYTES, CopiedRun, json_object
from cist_core.training.mirror.mark import ID_FILE, mirror_id
from cist_core.training.mirror.store import BEGIN_SECONDS, within
from cist_core.training.run_directory import RunDirectory

if TYPE_CHECKING:  # these know every objective and network, and so import torch
    from cist_core.training.config import RunConfig
    from cist_core.training.mirror.mirror import Mirror

_LOCK = "fetch.lock"
_FETCHED = ".fetched"
_SPARE_BYTES = 64 << 20
"""Left on the disk for the table and the runs that go on."""


def not_here(store: RunStore, copies: Sequence[CopiedRun]) -> list[CopiedRun]:
    """The copies of runs that are none of this store's.

    A run is known by its id, which names the folder of a copy that a queue has made, or by what the mirror tells it
    from others by (`mirror_id`).
    """
    runs = store.list_runs()
    ids = {run.id for run in runs}
    marks = {_mark_of(run) for run in runs} - {None}
    return [copy for copy in copies if copy.name not in ids and copy.mark not in marks]


def bring_back(store: RunStore, url: str, *, allow_code: bool = False) -> Run:
    """Fetch a run whole from its copy, and list it among the runs of this machine.

    It keeps its id if the folder of the copy has that of a run, and gets a new one otherwise. It is listed as what it
    said of itself; one that said to the end that it runs is lost, and goes on when it is resumed. The copy stays.

    Args:
        store: of the operator.
        url: of the copy's folder.
        allow_code: whether the config may name code of its own.

    Raises:
        CistError: if the store acts for somebody, there is no run, it is here already, another process trains it or
            fetches a run into this root, it is larger than the limits or the disk allow, its config is wrong or names
            code, or the store gives no answer. Nothing is left then.
    """
    from cist_core.training.mirror.mirror import Mirror

    store.check_keeper()
    with _alone(store):
        name = url.rstrip("/").rpartition("/")[2]
        run_id, title = (name, None) if is_run_id(name) else (store.unused_id(), name)
        if run_id in store.adopt_left():
            return store.get(run_id)
        store.check_free(run_id)
        directory = RunDirectory(store.root / f".{run_id}{_FETCHED}")
        mirror = Mirror(url, directory)
        try:
            _look(store, mirror, run_id, allow_code)
            mirror.fetch()
            if not allow_code:  # what was fetched, in case that it is not what was looked at
                directory.config().refuse_code(url)
            return store.adopt(directory.path, brought(directory, run_id, name=title, root=store.root))
        finally:
            shutil.rmtree(directory.path, ignore_errors=True)


def fetched_bytes(root: Path) -> int:
    """How much there is of the run that is being fetched to a root, files that are not whole among it."""
    found = 0
    for folder in root.glob(f".*{_FETCHED}"):
        for place, _, names in os.walk(folder):  # which passes over what is not there any more
            for name in names:
                with suppress(OSError):  # it has just got its name, or been given up
                    found += os.stat(os.path.join(place, name)).st_size
    return found


def _look(store: RunStore, mirror: Mirror, run_id: str, allow_code: bool) -> None:
    """Refuse what is not to be fetched, before the first of its large files."""
    url = mirror.store.url

    def ask() -> tuple[list[str], int, list[bytes | None]]:
        mirror.store.check_there()
        names = mirror.files_there()
        contents = mirror.store.read_all(["config.json"], most=documents.MOST_BYTES)
        contents += mirror.store.read_all([RECORD_FILE, ID_FILE], most=MOST_BYTES)
        return names, mirror.store.bytes_of(names), contents

    names, size, (config, record, mark) = within(BEGIN_SECONDS, ask, f"The store of {url}")
    if "config.json" not in names:
        raise CistError(f"There is no run in {url}; 'cist runs --mirror URL' lists those below an address.")
    if mark:
        told_apart_by = mark.decode("ascii", errors="replace").strip()
        for run in store.list_runs():
            if _mark_of(run) == told_apart_by:
                raise CistError(f"The run in {url} is here already, as {run.id}, and nothing of it is replaced.")
    wanted = _config(config, url)
    if not allow_code:
        wanted.refuse_code(url)
    known = json_object(record)
    owner = known.get("owner") if known.get("id") == run_id else None  # else it loses its record (`brought`)
    try:
        store.limits.check_length(wanted)  # also of one that has finished, as it may be trained again
        _check_room(store, size, owner if isinstance(owner, str) else None)
    except CistError as error:
        raise CistError(f"{url}: {error}") from error


def _mark_of(run: Run) -> str | None:
    with suppress(OSError):  # whatever lies there
        return mirror_id(run.directory)
    return None


def _config(content: bytes | None, url: str) -> RunConfig:
    from cist_core.training.config import parse_config

    if len(content or b"") >= documents.MOST_BYTES:
        raise CistError(f"The config.json in {url} is larger than {documents.MOST_BYTES:,} bytes, as no config is.")
    try:
        return parse_config(parse_json(content or b""), source=f"the config.json in {url}")
    except ValueError as error:
        raise CistError(
            f"The config.json in {url} is not JSON ({error}), so there is no run that could go on."
        ) from error


def _check_room(store: RunStore, size: int, owner: str | None) -> None:
    used = sum(run.directory.bytes_used() for run in store.list_runs() if owner is not None and run.owner == owner)
    store.limits.check_brought(size=size, owner=owner, used=used)
    free = shutil.disk_usage(store.root).free
    if size + _SPARE_BYTES > free:
        raise CistError(
            f"The run has {size:,} bytes, and the disk that holds {store.root} has {free:,} left; make room there."
        )


@contextmanager
def _alone(store: RunStore) -> Iterator[None]:
    """One fetch at a time in a root; what a killed one has left is removed."""
    try:
        with file_lock(store.root / _LOCK).acquire(timeout=0):
            for left in store.root.glob(f".*{_FETCHED}"):
                shutil.rmtree(left, ignore_errors=True)
            yield
    except Timeout:
        raise CistError(f"Another process brings a run to {store.root} just now; wait until it has.") from None
    except OSError as error:
        raise CistError(f"No run can be brought to {store.root} ({error.strerror or error}).") from error
