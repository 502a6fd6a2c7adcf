"""Two classes and a thousand: the pages say what is so, show no empty chart, and leave names legible."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.app.driver import add_synthetic, open_app, view_of

PAGES = ["overview", "entropy", "ratio", "weights", "samples", "teachers", "rho", "rules"]
TABS = {
    "ratio": ["Why", "Exceptions", "Tables"],
    "weights": ["Why", "Exceptions", "Gradients"],
    "samples": ["Dark knowledge", "Pinned", "Classes"],
    "teachers": ["Why", "Student", "Calibration", "Tables"],
}
EVERY_TAB = [(page, tab) for page, tabs in TABS.items() for tab in tabs]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    return add_synthetic(monkeypatch, tmp_path, classes=2, samples=600, names=["spam", "ham"])


@pytest.fixture
def thousand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    names = [f"a rather long name of class {index}" for index in range(1000)]
    return add_synthetic(monkeypatch, tmp_path, classes=1000, samples=300, names=names)


def rows(chart) -> dict[str, int]:
    """How many rows each table of a chart has."""
    return {table.name: pa.ipc.open_stream(table.data.data).read_all().num_rows for table in chart.proto.datasets}


def drawn(app) -> list[int]:
    """How many rows each chart has, over all of its tables."""
    return [sum(rows(chart).values()) for chart in app.get("vega_lite_chart")]


@pytest.mark.parametrize("page", ["ratio", "weights", "samples", "entropy"])
def test_with_two_classes_a_warning_says_that_no_information_is_left(two: str, page: str) -> None:
    app = open_app(page, teacher=two, rho="1", matched="false")
    assert view_of(app).cist.same_label > 0.5
    warnings = [warning.value for warning in app.main.warning]
    assert any("the same soft label up to the winner" in words and "no gain" in words for words in warnings)
    assert not any("most frequent class" in words for words in warnings)


@pytest.mark.parametrize(("page", "tab"), EVERY_TAB)
def test_with_two_classes_every_tab_works(two: str, page: str, tab: str) -> None:
    app = open_app(page, teacher=two, **{f"{page}_tab": tab})
    assert not app.error
    assert all(drawn(app))


@pytest.mark.parametrize(("page", "tab"), EVERY_TAB)
def test_with_a_thousand_classes_every_tab_works(thousand: str, page: str, tab: str) -> None:
    app = open_app(page, teacher=thousand, **{f"{page}_tab": tab})
    assert not app.error
    assert all(drawn(app))


def test_with_two_classes_nothing_is_an_exception_and_there_is_no_empty_chart(two: str) -> None:
    app = open_app("ratio", teacher=two, ratio_tab="Exceptions")
    assert len(app.get("vega_lite_chart")) == 1
    assert any("no sample is an exception" in info.value for info in app.info)
    app = open_app("samples", teacher=two)
    assert len(app.get("vega_lite_chart")) == 1
    assert any("no dark knowledge to divide" in info.value for info in app.info)


def test_the_strip_of_a_thousand_classes_names_its_ends(thousand: str) -> None:
    app = open_app("entropy", teacher=thousand)
    strip = next(chart for chart in app.get("vega_lite_chart") if "Class means" in chart.proto.alt)
    assert rows(strip)["ends"] == 2
