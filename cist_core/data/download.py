"""Files from the internet that are either whole or not there."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from cist_core.errors import CistError
from cist_core.files import move_into_place
from cist_core.partial_files import remove_abandoned
from cist_core.progress import ProgressCallback

CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30


def fetch(urls: Sequence[str], target: Path, md5: str, *, progress: ProgressCallback | None = None) -> None:
    """Download a file from the first mirror that delivers it, unless it is there already.

    It is written under another name and renamed once its checksum is right, so a broken transfer leaves nothing that
    could be taken for the file.

    Args:
        urls: mirrors, tried in order.
        target: where the file belongs.
        md5: of its bytes, in hex.
        progress: called with the bytes so far and in all (0 where the server does not say).

    Raises:
        CistError: if no mirror delivers the file; it names each with its reason, and where to put a copy by hand.
    """
    if target.is_file() and _md5(target) == md5:
        return
    failures = []
    for url in urls:
        partial = _partial(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(target.parent)
            _transfer(url, partial, progress)
            if _md5(partial) == md5:
                move_into_place(partial, target)
                return
            reason = "it arrived damaged"
        except (OSError, http.client.HTTPException) as error:  # URLError, HTTPError and time-outs are OSErrors
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        finally:
            partial.unlink(missing_ok=True)
        failures.append(f"from {url} ({reason})")
    raise CistError(
        f"{target.name} could not be downloaded {', nor '.join(failures)}; "
        f"check the connection and that {target.parent} has room, or put a copy there by hand."
    )


def extract_gzip(archive: Path, target: Path) -> None:
    """Decompress one file; it appears whole or not at all.

    Raises:
        CistError: if the folder cannot be written to or is full.
    """
    partial = _partial(target)
    with _unpacking(archive, target.parent):
        try:
            with gzip.open(archive) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            move_into_place(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def extract_tar(archive: Path, folder: str) -> None:
    """Unpack the top-level ``folder`` of an archive beside it, in place of an older one.

    Raises:
        CistError: if the folder of the archive cannot be written to or is full.
    """
    target = archive.parent / folder
    with _unpacking(archive, archive.parent), _temporary_beside(archive) as temporary:
        with tarfile.open(archive) as source:
            source.extractall(temporary, filter="data")
        shutil.rmtree(target, ignore_errors=True)
        move_into_place(Path(temporary) / folder, target)


def _temporary_beside(archive: Path) -> tempfile.TemporaryDirectory[str]:
    """Called as what is not complete is called, so that it goes if this process is killed."""
    return tempfile.TemporaryDirectory(dir=archive.parent, prefix=".", suffix=f".{os.getpid()}.partial")


@contextmanager
def _unpacking(archive: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CistError(
            f"{archive.name} cannot be unpacked in {folder} ({error.strerror or error}); "
            "make room there, or set CIST_DATA to a folder that can be written to."
        ) from error


def _transfer(url: str, partial: Path, progress: ProgressCallback | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "cist-studio"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, partial.open("wb") as sink:
        total, done = int(response.headers.get("Content-Length") or 0), 0
        while chunk := response.read(CHUNK_BYTES):
            done += sink.write(chunk)
            if progress is not None:
                progress(done, total)


def _partial(target: Path) -> Path:
    """A name of its own for each attempt, with the process, so that no other removes it while it is in use."""
    return target.with_name(f".{target.name}.{uuid4().hex}.{os.getpid()}.partial")


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
