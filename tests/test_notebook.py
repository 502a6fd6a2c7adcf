"""How results show themselves in a notebook."""

import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import altair as alt
import numpy as np
import pytest

from cist_core import EntropyCurves, EntropyProfile, LogitSet, parse_rule, recommend_rho
from cist_core.charts import histogram_figure
from cist_core.notebook import in_notebook, progress_bar, table
from cist_core.temperature.readings import read_rules
from cist_core.wording import three_digits

HOSTILE = "<script>alert(1)</script>"


class Cells(HTMLParser):
    """The text of every cell, and the tags that there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attributes} - {"scope"}  # no colours, no fonts, no scripts

    def handle_data(self, data) -> None:
        self.texts.append(data)


TAGS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.fixture
def curves(logit_set) -> EntropyCurves:
    return EntropyCurves.from_logits(logit_set)


def test_a_logit_set_says_what_it_is(logit_set) -> None:
    accuracy = f"accuracy {100 * np.mean(logit_set.logits.argmax(1) == logit_set.labels):.1f} %"
    assert repr(logit_set) == (
        f"LogitSet(300 samples, 10 classes, {accuracy}, float32, teacher='example', data='random')"
    )
    cells = Cells(logit_set._repr_html_())
    assert cells.tags <= TAGS
    assert cells.texts[0] == f"Logits: 300 samples, 10 classes, {accuracy}"
    assert cells.texts[cells.texts.index("teacher") + 1] == "example"
    assert "no labels" in repr(LogitSet.create([[1.0, 0.0]]))


def test_the_accuracy_of_a_huge_set_is_not_computed_to_show_it(logit_set, monkeypatch) -> None:
    monkeypatch.setattr("cist_core.logits.logit_set.QUICK_VALUES", 10)
    huge = LogitSet.create(logit_set.logits, logit_set.labels)
    assert "with labels" in repr(huge)
    assert huge.accuracy is not None
    assert "accuracy" in repr(huge)


def test_text_from_files_stays_text() -> None:
    logit_set = LogitSet.create([[1.0, 0.0]], class_names=[HOSTILE, "b"], provenance={HOSTILE: HOSTILE, "x": "y" * 500})
    for shown in (logit_set._repr_html_(), table(HOSTILE, [(HOSTILE, HOSTILE)], head=("", HOSTILE))):
        cells = Cells(shown)
        assert cells.tags <= TAGS
        assert any(HOSTILE in text for text in cells.texts)
        assert max(map(len, cells.texts)) < 200


@pytest.mark.parametrize("rule", ["tau=4", "cist:rho=3"])
def test_a_profile_is_a_table_of_its_numbers(curves, rule) -> None:
    profile = EntropyProfile.of(parse_rule(rule), curves)
    cells = Cells(profile._repr_html_())
    numbers = dict(zip(cells.texts[1::2], cells.texts[2::2], strict=True))
    assert numbers["Mean"] == f"{three_digits(profile.mean)} nats"
    assert numbers["Spread"] == f"{three_digits(profile.std)} nats"
    assert numbers["H / ln C"] == three_digits(profile.normalised_mean)
    assert ("At the floor" in numbers) == rule.startswith("cist")
    assert repr(profile).startswith(f"EntropyProfile(rule='{rule}', mean={profile.mean:.4g}, std={profile.std:.4g}, ")
    assert len(repr(profile)) < 200


def test_a_recommendation_shows_both_rules_at_its_mean(curves) -> None:
    found = recommend_rho(curves, target=0.6)
    cells = Cells(found._repr_html_())
    assert cells.tags <= TAGS
    assert f"ρ = {three_digits(found.rho)}" in cells.texts[0]
    place = cells.texts.index("Spread")
    fixed, cist = found.outcome.fixed, found.outcome.cist
    assert fixed is not None
    assert cells.texts[place + 1 : place + 3] == [three_digits(fixed.std), three_digits(cist.std)]
    assert f"rho={three_digits(found.rho)}" in repr(found)


def test_a_figure_is_its_chart_by_whatever_renderer_altair_has(curves) -> None:
    figure = histogram_figure(read_rules([parse_rule("tau=4"), parse_rule("cist:rho=3")], curves))
    shown = figure._repr_mimebundle_()
    assert "vegaEmbed" in shown["text/html"]
    with alt.renderers.enable("svg"):
        drawn = figure._repr_mimebundle_()
    picture = str(drawn)
    assert "<svg" in picture
    assert figure.title.split()[0] in picture


# ---- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch, capsys):
    """This process as the kernel of a notebook; reads what tqdm writes."""
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(config={"IPKernelApp": {}}))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    return lambda: capsys.readouterr().err


def test_only_a_notebook_has_bars_of_its_own(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    with progress_bar(None, "Training") as bar:
        assert bar is None


def test_a_notebook_shows_how_far_it_is(notebook) -> None:
    assert in_notebook()
    with progress_bar(None, "Computing logits") as bar:
        for done in (10, 40):
            bar(done, 40)
    written = notebook()
    assert "Computing logits" in written
    assert "40/40" in written


def test_a_second_file_gets_a_bar_of_its_own(notebook) -> None:
    with progress_bar(None, "Downloading", of_bytes=True) as bar:
        for done, total in ((5, 0), (9, 0), (3, 2000), (2000, 2000)):
            bar(done, total)
    assert "2.00k/2.00k" in notebook()


def test_a_callback_is_the_callers_own(notebook) -> None:
    calls = []
    with progress_bar(lambda done, total: calls.append((done, total)), "Training") as report:
        report(1, 2)
    assert calls == [(1, 2)]
    assert notebook() == ""


def test_inference_tells_a_notebook(notebook, tmp_path) -> None:
    from cist_core.inference.sources import load_logits

    load_logits("mnist5k-mlp", "mnist-5k", limit=64, cache_dir=tmp_path)
    written = notebook()
    assert "Computing logits" in written
    assert "64/64" in written
