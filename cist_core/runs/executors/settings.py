"""What is asked of a cluster for each run, and where runs are copied to: `executors.toml`, a file for the operator in
the folder of runs.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from cist_core.documents import read_document
from cist_core.errors import CistError
from cist_core.training.mirror.store import is_url

SETTINGS_FILE = "executors.toml"


def settings_of(root: Path, executor: str) -> dict[str, Any]:
    """The table of this name in the file; empty where there is none.

    Example of an ``executors.toml``::

        [slurm]
        slurm_partition = "gpu"
        gpus_per_node = 1

    Raises:
        CistError: if the file cannot be read, or is no TOML with tables.
    """
    path = root / SETTINGS_FILE
    try:
        tables = tomllib.loads(read_document(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CistError(f"The settings {path} cannot be read ({error.strerror or error}); mend the file.") from error
    except ValueError as error:  # of tomllib, and of bytes that are no text
        raise CistError(f"The settings {path} are not TOML ({error}); write lines like 'num_gpus = 1'.") from None
    table = tables.get(executor, {})
    if not isinstance(table, dict):
        raise CistError(f"Expected a table [{executor}] in {path}, but got {executor} = {table!r}.")
    return table


def mirror_of(directory: Path) -> str | None:
    """The URL of the copy that a run is to have; None where runs have none.

    Raises:
        CistError: as `mirror_url`.
    """
    url = mirror_url(directory.parent)
    return None if url is None else f"{url}/{directory.name}"


def mirror_url(root: Path) -> str | None:
    """The URL of the folder that holds the copies of all runs of a root; None where runs have none.

    Example of an ``executors.toml``::

        [mirror]
        url = "s3://bucket/runs"

    Raises:
        CistError: if the file cannot be read, or the table has another content.
    """
    table = settings_of(root, "mirror")
    url = table.pop("url", None)
    if table or not (url is None or (isinstance(url, str) and is_url(url))):
        wrong = f"{next(iter(table))!r}" if table else f"url = {url!r}"
        raise CistError(
            f'Mend [mirror] in {root / SETTINGS_FILE}: expected url = "s3://BUCKET/FOLDER" alone, but got {wrong}.'
        )
    return None if url is None else url.rstrip("/")
