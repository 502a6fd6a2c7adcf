"""How results show themselves in a notebook: small tables of HTML, and progress bars."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from cist_core.progress import ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_CELL = 80


def table(caption: str, rows: Iterable[Sequence[str]], *, head: Sequence[str] = ()) -> str:
    """An HTML table without colours or fonts of its own, which follows the theme of the notebook.

    Args:
        caption: stands above it.
        rows: of text; the first cell of each is its heading. Everything is escaped, and long cells are cut.
        head: above the columns.

    Example:
        >>> table("one", [("mean", "0.5 nats")])
        '<table><caption>one</caption><tbody><tr><th scope="row">mean</th><td>0.5 nats</td></tr></tbody></table>'
    """
    heading = "".join(f'<th scope="col">{_cell(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{_cell(first)}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"{f'<thead><tr>{heading}</tr></thead>' if heading else ''}<tbody>{body}</tbody></table>"
    )


def _cell(text: str) -> str:
    return escape(text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…")


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this process."""
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return found is not None and "IPKernelApp" in found.config


@contextmanager
def progress_bar(
    given: ProgressCallback | None, doing: str, unit: str = "samples", *, of_bytes: bool = False
) -> Iterator[ProgressCallback | None]:
    """The callback that somebody gave; in a notebook without one, a bar of tqdm; elsewhere none.

    Args:
        given: by the caller.
        doing: before the bar, such as ``"Computing logits"``.
        unit: of what is counted.
        of_bytes: whether that is bytes, which tqdm writes as kB, MB, ...
    """
    if given is not None or not in_notebook():
        yield given
        return
    bar = _Bar(doing, "B" if of_bytes else f" {unit}", of_bytes)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """Drawn at the first step; a count that falls back begins another bar."""

    def __init__(self, doing: str, unit: str, scaled: bool) -> None:
        self._make: Callable[[int], Any] = lambda total: _tqdm()(
            desc=doing, total=total or None, unit=unit, unit_scale=scaled
        )
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None and done < self._bar.n:
            self.close()
        if self._bar is None:
            self._bar = self._make(total)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it is a line of text, and tqdm warns of that
        from tqdm.auto import tqdm
    return tqdm
