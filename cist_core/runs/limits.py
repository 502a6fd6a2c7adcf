"""How much the runs of one root may use: `limits.toml`, a file for the operator."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cist_core.documents import read_document
from cist_core.errors import CistError

if TYPE_CHECKING:
    from cist_core.training.config import RunConfig

LIMITS_FILE = "limits.toml"

Count = Annotated[int, Field(ge=1)]


class RunLimits(BaseModel):
    """The limits and their defaults; a file states those that differ.

    Example of a ``limits.toml``::

        concurrent_runs = 2
        wall_seconds = 3600
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    concurrent_runs: Count = 1
    """Runs at the same time, by the worker's own executor."""
    queued_runs: Annotated[int, Field(ge=0)] = 1000
    """Runs that wait."""
    epochs: Count = 10_000
    """Epochs of one run."""
    steps: Count = 10_000_000
    """Steps of a run whose length is given in steps."""
    wall_seconds: Annotated[float, Field(gt=0)] = 7 * 24 * 3600
    """Time of one attempt; a run that is resumed has it anew."""
    disk_bytes: Count = 20_000_000_000
    """Size of the directory of one run."""
    cluster_runs: Count = 100
    """Runs that wait or run on Slurm at the same time, and as many on Ray, where each has a queue of its own."""
    attempts: Count = 5
    """Attempts at a run, those that ended otherwise included, after which it is left lost where its machine is lost."""
    user_runs_at_once: Count = 1
    """Runs of one person at the same time; like the next two, only for those who sign in."""
    user_queued_runs: Annotated[int, Field(ge=0)] = 100
    """Runs of one person that wait."""
    user_disk_bytes: Count = 50_000_000_000
    """Size of the directories of all runs of one person, when another is queued."""

    @classmethod
    def load(cls, root: Path) -> RunLimits:
        """The limits of a root; the defaults if it has no ``limits.toml``.

        Raises:
            CistError: if the file cannot be read, is no TOML, or states something else than the limits.
        """
        path = root / LIMITS_FILE
        try:
            return cls.model_validate(tomllib.loads(read_document(path)))
        except FileNotFoundError:
            return cls()
        except ValidationError as error:
            faults = "; ".join(_fault(fault) for fault in error.errors())
            raise CistError(f"Mend {path}: {faults}.") from None
        except OSError as error:
            raise CistError(f"The limits {path} cannot be read ({error.strerror or error}); mend the file.") from error
        except ValueError as error:  # of tomllib, and of bytes that are no text
            raise CistError(f"The limits {path} are not TOML ({error}); write lines like 'epochs = 300'.") from None

    def check_length(self, config: RunConfig) -> None:
        """Refuse a run that is longer than allowed.

        Raises:
            CistError: naming the limit.
        """
        for unit, given, allowed in (("epochs", config.epochs, self.epochs), ("steps", config.steps, self.steps)):
            if given is not None and given > allowed:
                raise CistError(
                    f"Expected at most {allowed:,} {unit} in a run, but got {given:,}; "
                    f"shorten it, or raise '{unit}' in {LIMITS_FILE}."
                )

    def check_queue(self, *, waiting: int, own_waiting: int, more: int, owner: str | None) -> None:
        """Refuse runs that do not fit into the queue any more.

        Args:
            waiting: runs in the queue.
            own_waiting: those of the owner.
            more: runs to be added.
            owner: theirs; None: of the operator, who has no limit of their own.

        Raises:
            CistError: naming the limit.
        """
        if waiting + more > self.queued_runs:
            raise CistError(
                f"Expected at most {self.queued_runs:,} runs in the queue, but {waiting:,} wait and {more:,} more do "
                f"not fit; cancel some, or raise 'queued_runs' in {LIMITS_FILE}."
            )
        if owner is not None and own_waiting + more > self.user_queued_runs:
            raise CistError(
                f"Expected at most {self.user_queued_runs:,} runs of one person in the queue, but {own_waiting:,} of "
                f"yours wait and {more:,} more do not fit; cancel some, or have 'user_queued_runs' in {LIMITS_FILE} "
                "raised by the operator of this machine."
            )

    def check_user_disk(self, used: int) -> None:
        """Refuse another run of somebody whose runs fill their share of the disk.

        Raises:
            CistError: naming the limit.
        """
        if used >= self.user_disk_bytes:
            raise CistError(
                f"Your runs use {used:,} bytes of the disk and {self.user_disk_bytes:,} are allowed; delete some, or "
                f"have 'user_disk_bytes' in {LIMITS_FILE} raised by the operator of this machine."
            )

    def check_brought(self, *, size: int, owner: str | None, used: int) -> None:
        """Refuse to bring a run here that is larger than its directory may be, or for which its owner has no room.

        Args:
            size: of all its files, in bytes.
            owner: whose it is; None: the operator's, who has no limit of their own.
            used: bytes of the owner's other runs.

        Raises:
            CistError: naming the limit.
        """
        if size > self.disk_bytes:
            raise CistError(
                f"Expected at most {self.disk_bytes:,} bytes in a run, but this one has {size:,}; raise 'disk_bytes' "
                f"in {LIMITS_FILE}."
            )
        if owner is not None and used + size > self.user_disk_bytes:
            raise CistError(
                f"The run belongs to {owner}, whose runs use {used:,} bytes of the disk; with {size:,} more that is "
                f"above {self.user_disk_bytes:,}; delete some, or raise 'user_disk_bytes' in {LIMITS_FILE}."
            )


def _fault(fault: object) -> str:
    match fault:
        case {"type": "extra_forbidden", "loc": (name, *_)}:
            return f"there is no limit '{name}'; known are {', '.join(RunLimits.model_fields)}"
        case {"loc": (name, *_), "msg": str(message), "input": given}:
            return f"{name}: {message[0].lower()}{message[1:]}, but got {given!r}"
    return str(fault)
