"""The HTML report without a browser: what is in it, and that nothing from outside is more than text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from cist_core import EntropyCurves, LogitSet, matched_pair
from cist_core.compare.findings import comparison
from cist_core.compare.recommendation import recommend_rho
from cist_core.errors import CistError
from cist_core.report import render_report, write_report
from cist_core.temperature import Cist, Fixed, Lskd, TemperatureRule
from cist_core.temperature.readings import read_rules
from cist_core.wording import percent

EVIL = "</script><img src=x onerror=alert(1)>{{7*7}}\"'&<!--"


class Elements(HTMLParser):
    """Tags in order, and the text of each element with an id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "input", "img", "br"):
            self._open.append(dict(attrs).get("id"))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in filter(None, self._open):
            self.texts[name] = self.texts.get(name, "") + data


def report(logit_set: LogitSet, rules: list[TemperatureRule], slices: pd.DataFrame | None = None) -> str:
    curves = EntropyCurves.from_logits(logit_set)
    return render_report(logit_set, curves, read_rules(rules, curves), slices=slices)


def data(html: str) -> dict:
    return json.loads(Elements(html).texts["data"])


def test_the_headline_is_the_comparison_and_the_sliders_start_at_the_pair(logit_set: LogitSet) -> None:
    curves = EntropyCurves.from_logits(logit_set)
    rules = [Fixed(2.0), Cist(matched_pair(curves, tau=2.0).rho)]
    html = report(logit_set, rules)
    page = Elements(html)
    assert page.texts["headline"] == comparison(*read_rules(rules, curves))
    grid = data(html)["grid"]
    assert grid["taus"][grid["start"][0]]["label"] == page.texts["tau-label"] == "τ = 2"
    assert grid["rhos"][grid["start"][1]]["at"] == rules[1].rho
    assert ("checked", None) in page.attributes
    assert page.texts["gain"].endswith("×")
    assert "note" not in page.texts


def test_a_pair_that_does_not_match_starts_apart_and_says_so(logit_set: LogitSet) -> None:
    page = Elements(report(logit_set, [Fixed(0.5), Cist(1.0)]))
    assert page.texts["headline"].startswith("Not matched")
    assert page.texts["gain"] == "not matched"
    assert page.texts["note"] == "Not matched: spreads at different mean entropies cannot be compared."
    assert ("checked", None) not in page.attributes


@pytest.mark.parametrize("rules", [[Fixed(2.0)], [Cist(3.0), Lskd(2.0)]])
def test_without_a_pair_there_are_no_sliders(logit_set: LogitSet, rules: list[TemperatureRule]) -> None:
    html = report(logit_set, rules)
    assert "grid" not in data(html)
    assert "input" not in Elements(html).tags
    assert len(data(html)["charts"]) == len(rules) + 1  # and the classes


def test_every_chart_has_its_place(logit_set: LogitSet) -> None:
    html = report(logit_set, [Fixed(2.0), Cist(3.0), Lskd(2.0)])
    ids = [value for name, value in Elements(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(data(html)["charts"]) <= set(ids)


def test_the_browser_is_told_to_stay_off_the_network(logit_set: LogitSet) -> None:
    html = report(logit_set, [Fixed(2.0), Cist(3.0)])
    page = Elements(html)
    policy = next(value for name, value in page.attributes if name == "content" and value and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert not {name for name, _ in page.attributes} & {"src", "href"}
    assert len(html.encode()) < 2_000_000


def test_names_and_texts_from_outside_stay_text(logits: np.ndarray, labels: np.ndarray) -> None:
    plain_set, evil_set = (
        LogitSet.create(logits, labels, class_names=[f"{name}{i}" for i in range(10)], provenance={name: name})
        for name in ("name", EVIL)
    )
    rules: list[TemperatureRule] = [Fixed(2.0), Cist(3.0)]
    plain, evil = (
        report(logit_set, rules, pd.DataFrame({"slice": [name], "rule": [name], name: [1.0]}))
        for logit_set, name in ((plain_set, "name"), (evil_set, EVIL))
    )
    assert Elements(evil).tags == Elements(plain).tags
    assert "<img" not in re.sub(r"(?s)<script>.*?</script>", "", evil)
    assert EVIL + "0" in json.dumps(data(evil)["charts"], ensure_ascii=False).replace('\\"', '"')


def test_slices_are_a_table_with_the_rules_of_the_pair(logit_set: LogitSet) -> None:
    slices = pd.DataFrame(
        {
            "slice": ["all samples", "none"],
            "rule": ["", "entropy=9..10"],
            "samples": [30000, 0],
            "share": [1.0, 0.0],
            "accuracy": [0.8125, np.nan],
            "mean_fixed": [0.60312, np.nan],
            "spread_cist": [0.1234, np.nan],
        }
    )
    html = report(logit_set, [Fixed(2.0), Cist(3.0)], slices)
    section = html[html.index("<h2>Slices</h2>") :].replace("<thead>", "")
    cells = re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", section[: section.index("</table>")])
    assert cells == [
        "slice", "rule", "samples", "share", "accuracy", "mean, τ = 2", "spread, CIST ρ = 3",
        "all samples", "", "30,000", "100 %", "81.2 %", "0.603", "0.123",
        "none", "entropy=9..10", "0", "0 %", "–", "–", "–",
    ]  # fmt: skip


def test_the_report_says_on_how_many_samples_the_floor_holds(logit_set: LogitSet) -> None:
    html = report(logit_set, [Fixed(2.0), Cist(3.0)])
    curves = EntropyCurves.from_logits(logit_set)
    share = percent(float(np.mean(curves.statistics.maximum < 3)))
    sentence = f"The floor of 1 holds on {share} of the samples: there CIST is KD at τ = 1."
    assert Elements(html).texts["sentences"] == sentence
    table = html[html.index("<h2>Profiles, in nats</h2>") :]
    assert sentence in table[: table.index("</section>")]
    head, fixed, cist = (
        re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row) for row in table[: table.index("</table>")].split("<tr>")[1:]
    )
    assert (fixed[head.index("at the floor")], cist[head.index("at the floor")]) == ("–", share)
    assert "Ratio above the floor of 1" in html
    assert "Ratio of every sample" in report(logit_set, [Fixed(2.0), Cist(3.0, floor=0)])


def test_the_report_says_the_students_share_as_well(logit_set: LogitSet) -> None:
    student = EntropyCurves.from_logits(LogitSet.create(np.eye(10)[np.arange(300) % 10]))
    curves = EntropyCurves.from_logits(logit_set).beside(student)
    html = render_report(logit_set, curves, read_rules([Fixed(2.0), Cist(3.0)], curves))
    assert "for the teacher and on all for the student; where it holds for both, CIST is KD at τ = 1." in html


def test_the_report_chooses_rho_with_the_floor_of_its_rule(logits: np.ndarray) -> None:
    sharp = LogitSet.create(4 * logits)
    for floor in (0.0, 1.0, 3.0):
        charts = data(report(sharp, [Fixed(8.0), Cist(4.0, floor)]))["charts"]
        recommended = [
            row["rho"]
            for chart in charts.values()
            for row in chart["datasets"].get("points", [])
            if row.get("kind") == "recommended"
        ]
        expected = recommend_rho(EntropyCurves.from_logits(sharp), floor=floor).rho
        assert recommended == [pytest.approx(expected, rel=1e-4)]


def test_the_choice_of_rho_is_in_the_report_where_there_is_one(logit_set: LogitSet) -> None:
    rules: list[TemperatureRule] = [Fixed(2.0), Cist(3.0)]
    assert "recommended" in report(logit_set, rules)
    constant = report(LogitSet.create(np.zeros((40, 3))), rules)
    assert "recommended" not in constant
    assert "chart-ratios" in data(constant)["charts"]


@pytest.mark.parametrize("slices", [None, pd.DataFrame()])
def test_without_slices_there_is_no_table_of_them(logit_set: LogitSet, slices: pd.DataFrame | None) -> None:
    assert "Slices" not in report(logit_set, [Fixed(2.0), Cist(3.0)], slices)


def test_the_same_analysis_gives_the_same_file(logit_set: LogitSet, tmp_path) -> None:
    curves = EntropyCurves.from_logits(logit_set)
    readings = read_rules([Fixed(2.0), Cist(3.0)], curves)
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, logit_set, curves, readings)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    with pytest.raises(CistError, match="The report cannot be written"):
        write_report(tmp_path / "a.html" / "c.html", logit_set, curves, readings)
