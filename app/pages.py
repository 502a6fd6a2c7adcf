"""The pages of the Studio, found by themselves: a new page is one new file in `pages/`.

A page says what it is at its top, and `main.py` reads that without running it::

    \"\"\"Weights: who is heard more, who less.\"\"\"
    SECTION = "Look"
    ORDER = 40
    ICON = ":material/balance:"
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "pages"
SECTIONS = ("Look", "Decide", "Train", "Teach")
DEFAULT = "overview"


@dataclass(frozen=True)
class PageInfo:
    """What a page's file says about it.

    Attributes:
        path: the file; its name is the page's address.
        title: in the navigation, from the docstring's first words.
        help: the rest of the docstring's first line.
        section: one of `SECTIONS`.
        order: within the section, ascending.
        icon: a Material symbol.
        needs_source: whether it needs a teacher's logits.
        offers_source: whether the sidebar lets one choose them; a page may have something else to choose.
        hidden: whether it is left out of the navigation, as an address that only leads on.
    """

    path: Path
    title: str
    help: str
    section: str
    order: int
    icon: str
    needs_source: bool = True
    offers_source: bool = True
    hidden: bool = False

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def shows_samples(self) -> bool:
        """Whether the selection of samples stands above it."""
        return self.section == "Look" and self.needs_source

    @property
    def can_brush(self) -> bool:
        """Whether the tray of selected samples stands below it; Samples shows them itself."""
        return self.shows_samples and self.name != "samples"


@lru_cache(maxsize=4)
def find_pages(folder: Path = FOLDER) -> tuple[PageInfo, ...]:
    """Every page by section and order; read once, as every rerun of the app asks.

    Raises:
        ValueError: for a page that does not say what it is.
    """
    found = [_read(path) for path in folder.glob("*.py")]
    return tuple(sorted(found, key=lambda page: (SECTIONS.index(page.section), page.order, page.name)))


def _read(path: Path) -> PageInfo:
    module = ast.parse(path.read_text(encoding="utf-8"))
    title, _, help_ = (ast.get_docstring(module) or "").partition("\n")[0].partition(":")
    facts = _constants(module)
    if not (title and help_ and facts.get("SECTION") in SECTIONS and {"ORDER", "ICON"} <= facts.keys()):
        raise ValueError(
            f"Expected {path} to begin with a docstring 'Title: what it answers.' and to set SECTION (one of "
            f"{', '.join(SECTIONS)}), ORDER and ICON; see app/pages.py."
        )
    return PageInfo(
        path,
        title,
        help_.strip(),
        facts["SECTION"],
        facts["ORDER"],
        facts["ICON"],
        facts.get("NEEDS_SOURCE", True),
        facts.get("OFFERS_SOURCE", True),
        facts.get("HIDDEN", False),
    )


def _constants(module: ast.Module) -> dict[str, Any]:
    return {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
