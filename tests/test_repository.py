"""What stands about the project outside of the code agrees with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from cist_core import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(*parts: str) -> dict:
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def test_the_workflow_runs_what_a_developer_runs_on_the_oldest_and_the_newest_python() -> None:
    job = read(".github", "workflows", "test.yml")["jobs"]["test"]
    assert job["steps"][-1] == {"run": "make test"}
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert job["strategy"]["matrix"]["python"] == [classified[0], classified[-1]]
    assert PROJECT["requires-python"] == f">={classified[0]}"


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_names_itself_and_asks(form: Path) -> None:
    content = read(".github", "ISSUE_TEMPLATE", form.name)
    assert {"name", "description", "body"} <= set(content)
    asked = [field["id"] for field in content["body"]]
    assert len(set(asked)) == len(asked) >= 1
    assert any(field.get("validations", {}).get("required") for field in content["body"])


def test_there_is_a_form_for_bugs_and_one_for_features() -> None:
    assert [form.stem for form in FORMS] == ["bug_report", "feature_request"]


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["references"][0]
    assert f"*{paper['title']}*, arXiv 2605.20357" in (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    assert paper["url"].endswith("/2605.20357")
