"""What is asked of a cluster for each run: `executors.toml`, a file for the operator in the folder of runs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from cist_core.documents import read_document
from cist_core.errors import CistError

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
