"""Runs of language models on the Runs page: likelihoods, weights by entropy, and tokens where something is counted."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_runs import ExampleStore, metric_rows
from scipy import stats
from streamlit.testing.v1 import AppTest

from app.forms import run_tokens, run_views
from app.forms.run_tokens import Likelihood, comparison_sentence
from app.forms.run_views import SettingView, in_settings, read_runs, student_archive, told_apart
from cist_core.charts.training_tokens import perplexity_figure, weights_figure
from cist_core.runs import RunState
from cist_core.training import parse_config
from cist_core.training.presets import DEMO_LANGUAGE, LANGUAGE_PRESETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExampleStore:
    example = ExampleStore(tmp_path)
    monkeypatch.setattr("cist_core.runs.RunStore", lambda: example)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: None)
    return example


def put(store: ExampleStore, objective: str, nll: float, seed: int = 0, **changes: object) -> None:
    """A finished run of the demo for language models, as the engine leaves it."""
    config = parse_config(LANGUAGE_PRESETS[DEMO_LANGUAGE][1]).changed(objective=objective, seed=seed, **changes)
    (queued,) = store.add_all([(objective, config)])
    run = store.runs[0] = replace(queued, state=RunState.FINISHED, started_at=2_000.0, ended_at=2_060.0)
    rows = metric_rows(3, fixed_tau=objective.startswith("kd"))
    shares = np.linspace(0.19, 0.01, 10)
    for row, value in zip(rows, (5.0, 4.5, nll), strict=True):
        row |= {"val_nll": value, "val_perplexity": math.exp(value), "tokens": 50_000.0, "weight_median": 1.0}
        row |= {f"weight_share_{tenth}": float(share) for tenth, share in enumerate(shares, start=1)}
    run.directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = {"accuracy": 0.25, "nll": nll, "perplexity": math.exp(nll), "bits_per_byte": 1.5, "agreement": 0.6}
    run.directory.write_status(
        {
            **{"state": "finished", "epoch": 3, "epochs": 3, "step": 60, "steps": 60, "warnings": []},
            **{f"test_{name}": value for name, value in scores.items()},
            **{"test_nll_at_best": nll, "best_epoch": 3, "best_val_accuracy": 0.25, "last_val_accuracy": 0.25},
            **{"teacher_test_accuracy": 0.3, "teacher_test_nll": 3.5, "samples_per_second": 40.0, "logit_scale": None},
        }
    )
    run.directory.student.write_bytes(b"weights")
    folder = run.directory.path / "student"
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def settings_of(store: ExampleStore) -> list[SettingView]:
    return told_apart(in_settings(read_runs(store.list_runs())))


def open_runs() -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.run()
    app.switch_page("../pages/runs.py").run()
    assert not app.exception
    assert not app.error
    return app


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([4.0], None, "A reached a test perplexity of 54.6 (one seed)"),
        ([4.0], [4.1], "one seed does not say whether that is more than chance"),
        (
            [4.0, 4.02, 3.98],
            [4.1, 4.121, 4.079],
            "A is better than B: test perplexity 54.6 against 60.3 (0.1000 nats a token less, 95 % interval 0.0975 to "
            "0.1025; paired over 3 seeds)",
        ),
        ([4.0, 4.1, 4.2], [4.2, 4.05, 4.15], "A cannot be told apart from B"),
        ([4.0, 4.0], [4.03, 4.05], "A cannot be told apart from B"),  # two deviations and more, but of two seeds
        ([4.0] * 20, [4.0, 4.06] * 10, "A cannot be told apart from B"),  # one deviation, but of twenty seeds
        ([4.0, 4.1, 4.2], [4.0, 4.1, 4.2], "A cannot be told apart from B"),
    ],
)
def test_what_seeds_cannot_tell_apart_is_not_called_better(first, second, words: str) -> None:
    tested = [Likelihood("A", dict(enumerate(first)))]
    tested += [] if second is None else [Likelihood("B", dict(enumerate(second)))]
    assert words in comparison_sentence(tested)


def test_of_several_settings_those_are_named_that_cannot_be_told_apart() -> None:
    a, b, c = {0: 4.0, 1: 4.02, 2: 3.98}, {0: 4.01, 1: 4.0, 2: 4.02}, {0: 4.5, 1: 4.521, 2: 4.479}
    tested = [Likelihood(*each) for each in (("A", a), ("B", b), ("C", c))]
    words = "A has the lowest test perplexity of 3, 54.6, but cannot be told apart from B"
    assert comparison_sentence(tested) == words


def test_settings_are_ranked_by_the_seeds_that_all_have(store: ExampleStore) -> None:
    for seed, (a, b) in enumerate([(4.0, 4.1), (4.02, 4.1)]):
        put(store, "kd:tau=1", a, seed)
        put(store, "cist:rho=12", b, seed)
    put(store, "kd:tau=1", 5.0, seed=2)
    first, second = run_tokens.ranked(settings_of(store))
    assert (first.name, first.mean) == ("KD τ = 1", pytest.approx(4.01))
    assert run_tokens.differences([first, second])[0].mean == pytest.approx(0.09)


def test_the_list_has_the_perplexity_of_language_models_over_the_seeds(store: ExampleStore) -> None:
    for seed, nll in enumerate((4.0, 4.2)):
        put(store, "kd:tau=1", nll, seed)
    settings = settings_of(store)
    assert run_views.listing(settings, {})["Perplexity"].tolist() == pytest.approx([math.exp(4.1)])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"teacher": {"name": "other"}}, "teacher.name"),
        ({"data": {"test": "other.jsonl"}}, "data.test"),
        ({"data": {"length": 64}}, "data.length"),
        ({"data": {"train_samples": 7}}, None),
    ],
)
def test_perplexities_of_other_tokens_are_not_ranked(
    store: ExampleStore, changes: dict[str, object], field: str | None
) -> None:
    put(store, "kd:tau=1", 4.1)
    put(store, "kd:tau=1", 4.0, **changes)
    settings = settings_of(store)
    assert (field is not None) == ("bits per byte" in run_tokens.finding(settings))
    assert (field is not None) != bool(run_tokens.numbers(settings))
    if field is not None:
        assert f"differ in {field}, so perplexity does not rank them" in run_tokens.finding(settings)
        assert run_tokens.over_seeds(settings)["Above the first"].isna().all()


def test_language_models_are_ranked_by_likelihood(store: ExampleStore) -> None:
    put(store, "kd:tau=1", 4.1)
    put(store, "cist:rho=12", 4.0)
    settings = settings_of(store)
    assert run_tokens.are_texts(settings)
    assert [one.name for one in run_tokens.ranked(settings)] == ["CIST ρ = 12", "KD τ = 1"]
    store.put("finished", done=12)
    assert not run_tokens.are_texts(settings_of(store))


def test_the_page_speaks_of_tokens_and_shows_likelihoods(store: ExampleStore) -> None:
    put(store, "kd:tau=1", 4.1)
    app = open_runs()
    assert "KD τ = 1 reached a test perplexity of 60.3 (one seed)" in app.main.subheader[0].value
    assert [(one.label, one.value) for one in app.main.metric][:2] == [
        ("Lowest test perplexity", "60.3"),
        ("The teacher", "33.1"),
    ]
    said = [app.main.subheader[0].value, *(each.value for each in (*app.main.caption, *app.main.markdown))]
    assert not [words for words in said if "image" in words]
    for tab in ("Soft labels", "Tables", "Agreement"):
        app.session_state["runs-tab"] = tab
        app.run()
        assert not app.exception
        assert not app.error
        assert not [words.value for words in (*app.main.caption, *app.main.markdown) if "image" in words.value]


def test_tables_have_likelihoods_scales_and_weights(store: ExampleStore) -> None:
    put(store, "kd:tau=1", 4.1)
    (row,) = run_tokens.results(read_runs(store.list_runs())).to_dict("records")
    assert row["Perplexity"] == pytest.approx(math.exp(row["Test NLL"]))
    assert row["Teacher's mean m"] == 12.0
    assert row["Tokens an epoch"] == 50_000


def test_seeds_are_summed_up_by_likelihood(store: ExampleStore) -> None:
    for seed, (a, b) in enumerate([(4.0, 4.1), (4.2, 4.4)]):
        put(store, "kd:tau=1", a, seed)
        put(store, "cist:rho=12", b, seed)
    first, second = run_tokens.over_seeds(settings_of(store)).to_dict("records")
    assert (first["Setting"], first["Seeds"], first["Test NLL"]) == ("KD τ = 1", 2, pytest.approx(4.1))
    assert second["Above the first"] == pytest.approx(0.15)
    expected = stats.ttest_rel([4.1, 4.4], [4.0, 4.2]).confidence_interval()
    assert (second["From"], second["To"]) == pytest.approx((expected.low, expected.high))
    assert (first["Told apart"], second["Told apart"]) == ("", "no")


def test_figures_have_the_perplexity_and_the_weight_of_every_tenth(store: ExampleStore) -> None:
    put(store, "kd:tau=1", 4.1)
    curves = [setting.curve("#000000") for setting in settings_of(store)]
    perplexity = perplexity_figure(curves)
    assert perplexity.datasets["lines"]["value"].tolist() == pytest.approx([math.exp(nll) for nll in (5.0, 4.5, 4.1)])
    weights = weights_figure(curves)
    assert weights.title.endswith("KD τ = 1 19.0 % and 1.0 %")
    assert weights.datasets["shares"]["share"].sum() == pytest.approx(100)


def test_the_archive_opens_in_transformers(store: ExampleStore) -> None:
    put(store, "kd:tau=1", 4.1)
    with zipfile.ZipFile(io.BytesIO(student_archive(read_runs(store.list_runs())[0]))) as archive:
        assert "student/config.json" in archive.namelist()


@pytest.mark.parametrize("same_weights", [True, False])
def test_the_archive_has_the_last_weights_once(store: ExampleStore, same_weights: bool) -> None:
    put(store, "kd:tau=1", 4.1)
    if same_weights:
        (store.runs[0].directory.path / "student" / "model.safetensors").write_bytes(b"weights")
    with zipfile.ZipFile(io.BytesIO(student_archive(read_runs(store.list_runs())[0]))) as archive:
        names = archive.namelist()
    assert ("student.safetensors" in names, "student/model.safetensors" in names) == (not same_weights, same_weights)
