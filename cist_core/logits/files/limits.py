"""How much a file of logits may ask for before it is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cist_core.errors import CistError

_UNSUSPICIOUS_BYTES = 256 << 20
_LARGEST_RATIO = 200  # real logits pack to a half or a third


@dataclass(frozen=True)
class ReadingLimits:
    """Bounds on what a file may hold, checked on what its header promises, before anything is read.

    Attributes:
        values: samples x classes.
        classes: numbers a sample.
        columns: of a table, each of which costs more than in an array.
        text_bytes: of a header, of the class names, and of one line of a table.
        members: arrays in an archive.
    """

    values: int = 1 << 36
    classes: int = 1 << 20
    columns: int = 1 << 16
    text_bytes: int = 16 << 20
    members: int = 1000

    def check_shape(self, shape: tuple[int, ...], what: str) -> None:
        """Refuse an array that is larger than this.

        Args:
            shape: ``(samples, classes)``, with more axes before them or fewer.
            what: names the array in the error.

        Raises:
            CistError: naming what is too large and the bound.

        Example:
            >>> ReadingLimits().check_shape((50_000, 1000), "'logits'")
            >>> UPLOAD_LIMITS.check_shape((1 << 40, 10), "'logits'")  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            cist_core.errors.CistError: 'logits' has the shape (1099511627776, 10), 10,995,116,277,760 values, ...
        """
        values = math.prod(shape)
        if min(shape, default=0) < 0 or values > self.values:
            raise CistError(
                f"{what} has the shape {shape}, {values:,} values, and at most {self.values:,} are read here; "
                "store fewer samples a file."
            )
        if len(shape) > 1 and shape[-1] > self.classes:
            raise CistError(
                f"{what} has the shape {shape}, and at most {self.classes:,} classes are read; "
                "store samples as rows and classes as columns."
            )

    def check_packing(self, unpacked: int, packed: int, what: str) -> None:
        """Refuse what is large and packed far better than numbers pack: a small file that unfolds without an end.

        Args:
            unpacked: bytes that the header promises.
            packed: bytes that are there.
            what: names them in the error.

        Raises:
            CistError: naming both sizes.
        """
        if unpacked > _UNSUSPICIOUS_BYTES and unpacked > _LARGEST_RATIO * packed:
            raise CistError(
                f"{what} unfolds {packed:,} bytes to {unpacked:,}, which logits never do; store the numbers unpacked."
            )

    def check_columns(self, count: int) -> None:
        """Refuse a table of too many columns.

        Raises:
            CistError: naming the bound.
        """
        if count > self.columns:
            raise CistError(
                f"the table has {count:,} columns, and at most {self.columns:,} are read; store so many classes as "
                ".npy or .safetensors."
            )

    def check_text(self, size: int, what: str) -> None:
        """Refuse a text of more than `text_bytes` bytes.

        Raises:
            CistError: naming the text and the bound.
        """
        if size > self.text_bytes:
            raise CistError(
                f"{what} is {size:,} bytes long, and at most {self.text_bytes:,} are read; this is damaged, or no file "
                "of logits."
            )


GENEROUS_LIMITS = ReadingLimits()
"""For files of one's own."""

UPLOAD_LIMITS = ReadingLimits(values=1 << 28, classes=1 << 18, columns=1 << 15, text_bytes=4 << 20, members=100)
"""For files that somebody else hands in: 1 GiB of float32."""
