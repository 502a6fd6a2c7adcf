"""Names from outside stay text: on a terminal, in reports, tables, charts, and in code that people copy."""

from __future__ import annotations

import ast
import contextlib
import csv
import html
import json
import re
import shlex
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from security.names import HOSTILE_NAMES

from app.forms.references import InFile, Named
from cist_core import LogitSet, parse_rule
from cist_core.cli import main
from cist_core.cli.terminal import printable
from cist_core.entropy.curves import EntropyCurves
from cist_core.report import render_report
from cist_core.tables import to_csv
from cist_core.temperature.readings import read_rule

NAMES = list(HOSTILE_NAMES.values())
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def hostile_set() -> LogitSet:
    rng = np.random.default_rng(1)
    logits = (rng.standard_normal((200, len(NAMES))) * 3).astype(np.float32)
    origin = {"teacher": HOSTILE_NAMES["script"], "data": HOSTILE_NAMES["escape sequence"]}
    return LogitSet.create(logits, rng.integers(0, len(NAMES), 200), class_names=NAMES, provenance=origin)


@pytest.fixture(scope="module")
def hostile_file(hostile_set: LogitSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "\x1b[31mred\x07 <b>$x$.safetensors"
    hostile_set.save(path)
    return path


def test_what_the_command_line_prints_commands_no_terminal(
    hostile_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = f"{hostile_file}.npy"
    runs = [
        ["analyze", "--logits", str(hostile_file), "--tau", "4", "--out", str(hostile_file.with_suffix(".html"))],
        ["analyze", "--logits", missing],
        ["analyze", "--logits", str(hostile_file), "--rule", "\x1b[31mrule"],
        ["analyze", "\x1b[31mnothing"],
    ]
    printed = ""
    for words in runs:
        with contextlib.suppress(SystemExit):  # of a command line that cannot be parsed
            main(words)
        captured = capsys.readouterr()
        printed += captured.out + captured.err
    assert printed.count("\\x1b") >= 4, "the names are shown, written out"
    assert not CONTROLS.search(printed)


def test_ordinary_text_is_printed_as_it_is() -> None:
    text = "τ = 4.00\tÄ 日本\n| a\r"
    assert printable(text) == text


def test_a_report_holds_names_as_text(hostile_set: LogitSet) -> None:
    curves = EntropyCurves.from_logits(hostile_set)
    readings = [read_rule(parse_rule(rule), curves) for rule in ("fixed:tau=4", "cist:rho=2.5")]
    page = render_report(hostile_set, curves, readings)
    for name in (HOSTILE_NAMES["HTML"], HOSTILE_NAMES["script"]):
        assert name not in page
    assert html.escape(HOSTILE_NAMES["script"]) in page, "the provenance is shown"
    data = page.partition('id="data">')[2].partition("</script>")[0]
    shown = json.dumps(json.loads(data))
    assert json.dumps(HOSTILE_NAMES["HTML"])[1:-1] in shown, "the class names are data of the charts"


def test_no_name_becomes_an_expression_of_a_chart(hostile_set: LogitSet) -> None:
    """Names stand in the data, where Vega computes nothing; one in a spec would be read as a field or an expression."""
    curves = EntropyCurves.from_logits(hostile_set)
    readings = [read_rule(parse_rule(rule), curves) for rule in ("fixed:tau=4", "cist:rho=2.5")]
    page = render_report(hostile_set, curves, readings)
    charts = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["charts"]
    for chart in charts.values():
        chart.pop("datasets", None)
        for key, value in _texts(chart):
            if key in ("expr", "calculate", "filter", "test", "signal", "update", "labelExpr", "field"):
                assert not any(name in value for name in NAMES), (key, value)


def _texts(node: object, key: str = "") -> list[tuple[str, str]]:
    if isinstance(node, dict):
        return [found for name, value in node.items() for found in _texts(value, name)]
    if isinstance(node, list):
        return [found for value in node for found in _texts(value, key)]
    return [(key, node)] if isinstance(node, str) else []


def test_a_spreadsheet_runs_no_name() -> None:
    rows = list(csv.reader(StringIO(to_csv(pd.DataFrame({"class": NAMES})).decode(), newline="")))[1:]
    assert len(rows) == len(NAMES)
    assert all(not row[0].lstrip().startswith(("=", "+", "-", "@")) for row in rows)


FILES = [
    "a b.npy",
    "$(touch ran).npy",
    "`touch ran`.npy",
    "x'; touch ran; '.npy",
    'a"b\\.npy',
    "two\nlines.npy",
    "é日.npy",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_name_in_a_command_is_one_word(name: str) -> None:
    reference = InFile(name, labels=name)
    assert shlex.split(reference.arguments) == ["--logits", name, "--labels", name]
    assert shlex.split(Named(name, name, "test").arguments) == ["--teacher", name, "--data", name, "--split", "test"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_name_in_python_is_one_string(name: str) -> None:
    for reference in (InFile(name, labels=name), Named(name, name, "test")):
        tree = ast.parse(reference.imports + reference.expression)
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert name in texts
        assert len([node for node in ast.walk(tree) if isinstance(node, ast.Call)]) == 1
