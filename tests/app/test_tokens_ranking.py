"""Passages of a text, ranked by the measure that colours it: against SciPy, from the logits of both models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from scipy.stats import entropy

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model

from app.tokens.ranking import Ranking, in_order, lowest_temperature, ranking_of, values_in
from app.tokens.view import Shown
from cist_core.entropy.curves import EntropyCurves
from cist_core.language.inference import infer_pairs
from cist_core.language.models import LanguageModel, open_language_model
from cist_core.language.passage import Stretch
from cist_core.language.texts import example_of, tokenise_all
from cist_core.language.token_set import TokenPair

TAU, RHO = 1.7, 6.0
APART = Shown(tau=TAU, rho=RHO, matched=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[np.ndarray], TokenPair, TokenPair]:
    """The logits of a teacher, a student and another student, and both pairs, over a prompt with a response."""
    folder: Path = tmp_path_factory.mktemp("models")
    models = [
        open_language_model(str(save_tiny_model(folder / name, seed=seed, scale=8.0 - seed)))
        for seed, name in enumerate(("teacher", "student", "before"))
    ]
    words = [f" w{20 + 7 * number % 70}" for number in range(40)]
    example = example_of({"prompt": "".join(words[:10]), "response": "".join(words[10:])}, "x")
    texts = tokenise_all([example], models[0].tokenizer, longest=64)
    pair, before = infer_pairs(models[0], models[1:], texts)
    return [logits_of(model, texts[0].ids) for model in models], pair, before


def logits_of(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found = model.network(input_ids=torch.tensor(ids)[None]).logits
    return np.asarray(found[0, :-1, :WORDS].double().numpy())


def expected(logits: list[np.ndarray], pair: TokenPair, measure: str, rule: str, side: int) -> np.ndarray:
    """What colours the text of one model under one rule, from all its logits."""
    own, teacher, ids = logits[side], logits[0], pair.teacher.facts.ids
    maxima = [each.max(axis=1) - each.mean(axis=1) for each in logits]
    held = [each / RHO for each in maxima]
    temperatures = [np.full(len(ids), TAU) if rule == "tau" else each for each in held]
    labels = [log_softmax(each / at[:, None], axis=1) for each, at in zip(logits, temperatures, strict=True)]
    of_all = {
        "entropy": lambda: entropy(np.exp(labels[side]), axis=1),
        "surprisal": lambda: -labels[side][np.arange(len(ids)), ids],
        "maximum": lambda: maxima[side],
        "temperature": lambda: held[side],
        "weight": lambda: held[0] * (held[side] if side else 1.0),
        "divergence": lambda: rel_entr(np.exp(labels[0]), np.exp(labels[side])).sum(axis=1),
        "reverse": lambda: rel_entr(np.exp(labels[side]), np.exp(labels[0])).sum(axis=1),
        "rank": lambda: 1 + (own > own[np.arange(len(ids)), ids][:, None]).sum(axis=1),
    }
    assert teacher.shape == own.shape
    values = np.asarray(of_all[measure](), np.float64)
    return values / values[pair.teacher.facts.counted].mean() if measure == "weight" else values


@pytest.mark.parametrize("rule", ["tau", "rho", "difference"])
@pytest.mark.parametrize("model", ["teacher", "student", "both", "before", "change"])
@pytest.mark.parametrize(
    "measure", ["entropy", "surprisal", "maximum", "temperature", "weight", "divergence", "reverse", "rank"]
)
def test_the_measure_is_the_one_on_the_screen(made, measure: str, model: str, rule: str) -> None:
    logits, pair, before = made
    joint = measure in ("weight", "divergence", "reverse")
    shown_model = "student" if joint and model in ("teacher", "both") else model  # as the page falls back
    sides = {"teacher": [0], "student": [1], "both": [1, 0], "before": [2], "change": [1, 2]}[shown_model]
    ruled = measure in ("entropy", "surprisal", "divergence", "reverse")
    rules = ["rho", "tau"] if ruled and rule == "difference" else [rule]

    def less(values: list[np.ndarray]) -> np.ndarray:
        return values[0] - values[1] if len(values) > 1 else values[0]

    wanted = less([less([expected(logits, pair, measure, each, side) for side in sides]) for each in rules])
    found = ranking_of(pair, Shown(measure, rule, model, TAU, RHO, 0.0, False), before=before)
    np.testing.assert_allclose(found.values, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("shown", "words", "unit"),
    [
        (APART, "entropy at τ = 1.7", "nats"),
        (
            Shown("surprisal", "rho", "student", TAU, RHO, 1.0, False),
            "surprisal under CIST ρ = 6, floor 1, of the student",
            "nats",
        ),
        (
            Shown("entropy", "difference", "both", TAU, RHO, 0.0, False),
            "entropy under CIST ρ = 6 − at τ = 1.7, student − teacher",
            "nats",
        ),
        (Shown("weight", "tau", "teacher", TAU, RHO, 0.0, False), "CIST weight at ρ = 6", "× the mean of the text"),
        (Shown("divergence", "tau", "student", TAU, RHO, 0.0, False), "KL to the student at τ = 1.7", "nats"),
        (Shown("maximum", "difference", "change", TAU, RHO, 0.0, False), "centred maximum m, student − before", ""),
    ],
)
def test_the_words_say_measure_rule_and_model(made, shown: Shown, words: str, unit: str) -> None:
    _, pair, before = made
    found = ranking_of(pair, shown, before=before)
    assert (found.words, found.unit) == (words, unit)


def test_alone_a_model_has_its_own_measures_and_its_part_of_the_weight(made) -> None:
    logits, pair, _ = made
    assert ranking_of(pair.teacher, replace_measure("divergence")).words == "entropy at τ = 1.7"
    found = ranking_of(pair.teacher, replace_measure("weight"))
    np.testing.assert_allclose(found.values, expected(logits, pair, "weight", "rho", 0), rtol=1e-4)


def replace_measure(measure: str) -> Shown:
    return Shown(measure=measure, tau=TAU, rho=RHO, matched=False, model="both")


def test_matched_the_rho_is_that_of_the_whole_text_and_below_the_tables_the_lowest_temperature_is_said(made) -> None:
    _, pair, _ = made
    found = ranking_of(pair, Shown(rule="rho", tau=TAU, rho=RHO))
    counted = pair.teacher.facts.counted
    at_tau = ranking_of(pair, Shown(rule="tau", tau=TAU)).values[counted].mean()
    assert found.values[counted].mean() == pytest.approx(at_tau, rel=6e-3)
    assert "ρ = 6" not in found.words
    steep = EntropyCurves.from_chunks([[[90.0, 0.0, 0.0]]])
    assert lowest_temperature([pair.teacher.curves(), steep]) == pytest.approx(60 / 64, rel=0.01)


def test_the_values_of_passages_are_of_the_tokens_that_count(made) -> None:
    _, pair, _ = made
    ranking = ranking_of(pair, APART)
    counted = pair.teacher.facts.counted
    assert 0 < counted.sum() < len(counted)  # a prompt stands before them
    passages = [{"sequence": 0, "start": 0}, {"sequence": 0, "start": 512}]
    first, none = values_in(ranking, pair, passages)
    assert first is not None
    assert (first.start, none) == (0, None)
    assert first.mean == pytest.approx(ranking.values[counted].mean())
    assert first.largest == pytest.approx(ranking.values[counted].max())
    assert ranking.says(None) == "no token counts"


def test_passages_come_with_the_largest_first_and_those_without_a_token_that_counts_last() -> None:
    values = [None, Stretch(0, 1.0, 9.0), Stretch(512, -2.0, 3.0), Stretch(1024, 4.0, 5.0)]
    assert in_order(values, "text") == [0, 1, 2, 3]
    assert in_order(values, "mean") == [3, 1, 2, 0]
    assert in_order(values, "largest") == [1, 3, 2, 0]
    assert Ranking(np.zeros(1), "", "nats", "entropy", True).says(values[2]) == "mean −2.00, largest 3.00 nats"
