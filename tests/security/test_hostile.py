"""What should not open is refused: with the documented sentence, in bounded memory, and nothing of it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from security.case import Hostile
from security.catalogue import CATALOGUE
from security.hostile import PEAK_MIB, cell, documented

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory through /proc")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What came of every file, opened by one process that forks for each."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("hostile.py")),
        "run",
        str(tmp_path_factory.mktemp("files")),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CIST_CACHE": str(tmp_path_factory.mktemp("cache"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {(case.reader, case.what): record for case, record in zip(CATALOGUE, records, strict=True)}


@pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: f"{case.reader}: {case.what}")
def test_it_is_refused(case: Hostile, outcomes: dict[tuple[str, str], dict[str, Any]]) -> None:
    _needs(case)
    outcome = outcomes[case.reader, case.what]
    assert outcome["refused"], outcome["text"]
    assert not outcome["ran"], "its payload ran"
    assert outcome["peak"] < PEAK_MIB, "it took too much memory"
    stem = case.file.partition(".")[0]
    assert stem in outcome["text"], "the sentence does not name the file"


@pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: f"{case.reader}: {case.what}")
def test_the_command_line_and_the_page_refuse_it_too(
    case: Hostile, outcomes: dict[tuple[str, str], dict[str, Any]]
) -> None:
    _needs(case)
    outcome, stem = outcomes[case.reader, case.what], case.file.partition(".")[0]
    if outcome["command"] is not None and case.at_keyboard:
        code, said = outcome["command"]
        assert code == 2, said
        assert stem in said
        assert "Traceback" not in said
    if outcome["page"] is not None:
        refused, said = outcome["page"]
        assert refused, said
        assert said == outcome["text"] if case.reader == "logits" else stem in said


@pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: f"{case.reader}: {case.what}")
def test_the_documentation_says_what_is_said(case: Hostile, outcomes: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Words of other libraries stand in brackets; they may change with their versions."""
    _needs(case)
    said = cell(outcomes[case.reader, case.what]["text"])
    assert _own_words(said) == _own_words(documented()[case.reader, case.what]), (
        "run `python tests/security/hostile.py table`"
    )


def test_the_documentation_lists_nothing_else() -> None:
    assert set(documented()) == {(case.reader, case.what) for case in CATALOGUE}


def test_no_two_files_are_called_alike() -> None:
    assert len({(case.reader, case.what) for case in CATALOGUE}) == len(CATALOGUE)


def test_the_payload_runs_where_it_is_let(tmp_path: Path) -> None:
    """Otherwise its absence would prove nothing."""
    import pickle

    from security.forge import flag_beside, payload

    pickle.loads(payload(tmp_path / "file.pt"))
    assert flag_beside(tmp_path / "file.pt").exists()


def _needs(case: Hostile) -> None:
    if case.needs:
        pytest.importorskip(case.needs)


def _own_words(text: str) -> str:
    return re.sub(r"\(.*\)", "(...)", text)
