"""The anchors on hand-made curves in closed form, the evidence behind one of them, and anchors that cannot be had."""

import json
import math
from importlib import resources

import numpy as np
import pytest
from reference import centred_maximum, entropy_at, entropy_at_cist

from cist_core import CistError, EntropyCurves, LogitSet, default_pair, recommend_rho
from cist_core.compare import anchors as module
from cist_core.compare.anchors import ANCHORS, default_anchor, find_anchor, find_anchors, uncertainty_sentence
from cist_core.compare.evidence import all_evidence, evidence_for, parse_evidence
from cist_core.compare.recommendation import range_sentence, recommendation_sentence


def entry(
    classes=10, points=(("cist:rho=3", 0.9, 0.6), ("cist:rho=5", 0.895, 0.4), ("tau=4", 0.89, 0.5)), samples=5000
):
    return {
        "setting": "some students",
        "classes": classes,
        "validation_samples": samples,
        "points": [
            {"rule": rule, "accuracy": accuracy, "runs": 2, "normalised_entropy": entropy}
            for rule, accuracy, entropy in points
        ],
    }


@pytest.fixture
def trained(monkeypatch):
    """Evidence of 10 classes in place of what is shipped; another can be set."""

    def have(*entries):
        found = parse_evidence(entries)
        monkeypatch.setattr("cist_core.compare.evidence.all_evidence", lambda: found)
        return found

    have(entry())
    return have


@pytest.fixture
def untrained(trained):
    trained()


def two_classes(*maxima):
    """Rows of logits m and -m: at the ratio r the entropy is that of the chances 1 / (1 + exp(-+ 2 r))."""
    rows = np.array([[m, -m] for m in maxima])
    return EntropyCurves.from_logits(LogitSet.create(rows))


def entropy_of_ratio(ratio):
    p = 1 / (1 + math.exp(-2 * ratio))
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


@pytest.fixture
def curves(logits):
    return EntropyCurves.from_logits(LogitSet.create(4 * logits))


# ---------------------------------------------------------------------------------------------- closed forms


def test_the_authors_rho_has_the_mean_entropies_of_the_closed_form(untrained):
    anchor = find_anchor(two_classes(5.0, 8.0, 40.0), "authors")
    assert (anchor.rho, anchor.band) == (3.0, (2.0, 5.0))
    limit = math.log(2)
    assert anchor.target == pytest.approx(entropy_of_ratio(3) / limit, abs=1e-4)
    assert anchor.high == pytest.approx(entropy_of_ratio(2) / limit, abs=1e-4)
    assert anchor.low == pytest.approx(entropy_of_ratio(5) / limit, abs=1e-4)
    assert "lhchau/element-wise-kd" in anchor.why


def test_the_floor_counts_in_the_authors_mean_entropy(untrained):
    anchor = find_anchor(two_classes(1.5, 40.0), "authors")  # the first is at the floor, at the ratio 1.5
    expected = (entropy_of_ratio(1.5) + entropy_of_ratio(3)) / 2
    assert anchor.target == pytest.approx(expected / math.log(2), abs=1e-4)


def test_as_kd_on_rows_of_one_size_is_the_ratio_at_that_temperature(untrained):
    """Where every sample has the maximum m, tau and the rho m / tau are the same soft labels."""
    curves = two_classes(10.0, 10.0)
    for key, tau in (("kd-tau-4", 4), ("kd-tau-1", 1)):
        anchor = find_anchor(curves, key, floor=0)
        assert anchor.target == pytest.approx(entropy_of_ratio(10 / tau) / math.log(2), abs=1e-4)
        assert not anchor.has_range
    assert find_anchor(curves, "kd-tau-4", floor=0).rho == pytest.approx(2.5, rel=1e-4)


def test_as_kd_where_the_table_does_not_reach_the_temperature(logits):
    large = 100 / centred_maximum(logits).max() * logits
    streamed = EntropyCurves.from_chunks([large])
    anchor = find_anchor(streamed, "kd-tau-1", floor=0)
    assert anchor.title == "as KD at τ = 1.563, the lowest that the table reaches"
    assert "the largest centred maximum is 100: τ = 1.563 is the lowest" in anchor.why
    assert anchor.target * math.log(logits.shape[1]) == pytest.approx(entropy_at(large, 1.563).mean(), abs=1e-4)
    assert find_anchor(streamed, "kd-tau-4", floor=0).title == "as KD at τ = 4"


def test_as_kd_has_the_mean_entropy_of_the_temperature(curves, logits):
    anchor = find_anchor(curves, "kd-tau-4")
    assert entropy_at_cist(4 * logits, anchor.rho).mean() == pytest.approx(entropy_at(4 * logits, 4).mean(), abs=1e-4)


def test_with_many_classes_the_authors_figures_are_those_of_imagenet():
    rows = np.random.default_rng(0).normal(size=(20, 1000)) * 3
    many = find_anchor(EntropyCurves.from_logits(LogitSet.create(rows)), "authors")
    assert (many.rho, many.band, "ImageNet" in many.why) == (4.5, (4.0, 6.0), True)
    few = find_anchor(EntropyCurves.from_logits(LogitSet.create(rows[:, :300])), "authors")
    assert (few.rho, "CIFAR-100" in few.why) == (3.0, True)


# ---------------------------------------------------------------------------------------------- evidence


def test_the_shipped_evidence_reads_and_says_what_its_file_says():
    content = json.loads(resources.files("cist_core.compare").joinpath("evidence.json").read_text(encoding="utf-8"))
    assert [found.classes for found in all_evidence()] == [each["classes"] for each in content]
    for found, each in zip(all_evidence(), content, strict=True):
        tried = [point for point in each["points"] if point["rule"].startswith("cist")]
        if tried:
            top = max(point["accuracy"] for point in tried)
            best = found.best()
            assert best.accuracy == top
            assert best.runs == sum(point["runs"] for point in tried)
            assert best.low <= best.target <= best.high


def test_the_range_holds_what_lies_within_196_standard_errors_of_a_difference(trained):
    (found,) = trained(entry(points=[("cist:rho=3", 0.5, 0.6), ("cist:rho=4", 0.481, 0.4), ("cist:rho=2", 0.48, 0.8)]))
    assert 1.96 * math.sqrt(2 * 0.25 / 5000) == pytest.approx(0.0196)
    best = found.best()
    assert (best.rule, best.target, best.low, best.high, best.runs, best.points) == ("cist:rho=3", 0.6, 0.4, 0.6, 6, 3)
    assert found.best("kd") is None


@pytest.mark.parametrize(("classes", "near"), [(4, True), (30, True), (3, False), (31, False)])
def test_evidence_stands_for_classes_up_to_a_factor_of_three(trained, classes, near):
    trained(entry(classes=10))
    assert (evidence_for(classes) is not None) is near


def test_the_nearest_number_of_classes_speaks(trained):
    trained(entry(classes=10), entry(classes=25))
    assert (evidence_for(12).classes, evidence_for(20).classes) == (10, 25)


def test_what_trained_best_is_the_default_where_there_is_evidence(trained, curves, logits):
    found = recommend_rho(curves)
    anchor = found.anchor
    assert (anchor.key, anchor.target, anchor.low, anchor.high) == ("trained-best", 0.6, 0.4, 0.6)
    assert entropy_at_cist(4 * logits, found.rho).mean() == pytest.approx(0.6 * math.log(10), abs=1e-4)
    assert entropy_at_cist(4 * logits, found.band[1]).mean() == pytest.approx(0.4 * math.log(10), abs=1e-4)
    assert anchor.uncertainty == "from 4 runs with 10 classes; 40 to 60 % of ln C cannot be told apart"
    assert all(words in anchor.why for words in ("some students", "90 % on validation", anchor.uncertainty, "claim.md"))
    assert range_sentence(found).endswith("stays in the range that trained best")
    assert ", at the mean entropy that trained best in our runs. It matches τ = " in recommendation_sentence(found)
    assert found.to_dict()["anchor"]["evidence"]["runs"] == 4


def test_the_default_pair_is_that_of_the_default_anchor(trained, curves, logits):
    pair = default_pair(curves)
    assert pair.mean_entropy == pytest.approx(0.6 * math.log(10), abs=1e-4)
    assert entropy_at(4 * logits, pair.tau).mean() == pytest.approx(0.6 * math.log(10), abs=1e-4)
    trained()
    assert default_pair(curves).rho == 3.0


def test_without_evidence_the_authors_are_the_default_and_it_is_said_why(untrained, curves):
    assert recommend_rho(curves).anchor.key == "authors"
    assert "trained-best" not in [anchor.key for anchor in find_anchors(curves)]
    with pytest.raises(CistError, match=r"No students of ours were trained with about 10 classes .* such as 'authors'"):
        recommend_rho(curves, anchor="trained-best")


def test_one_entropy_that_beats_all_others_has_no_range(trained, curves):
    trained(entry(points=[("cist:rho=3", 0.9, 0.6), ("cist:rho=5", 0.5, 0.4)]))
    found = recommend_rho(curves)
    assert not found.has_range
    assert uncertainty_sentence(found.anchor.best).endswith("every other mean entropy that was tried was worse")
    assert range_sentence(found) == ""


# ---------------------------------------------------------------------------------------------- what cannot be had


def test_an_anchor_below_the_floor_says_so_and_the_others_stay(trained, curves):
    found = {anchor.key: anchor for anchor in find_anchors(curves, floor=2)}
    assert list(found) == [key for key in ANCHORS if key != "own"]
    assert found["kd-tau-1"].rho is None
    assert "no temperature of CIST falls below its floor of 2" in found["kd-tau-1"].refused
    assert found["kd-tau-4"].rho is not None
    assert found["kd-tau-1"].to_dict()["rho"] is None
    with pytest.raises(CistError, match="its floor of 2"):
        recommend_rho(curves, anchor="kd-tau-1", floor=2)


def test_a_floor_above_what_trained_best_leaves_the_authors(trained, curves, logits):
    trained(entry(points=[("cist:rho=9", 0.9, 0.02), ("cist:rho=3", 0.5, 0.6)]))
    assert entropy_at(4 * logits, 1).mean() > 0.02 * math.log(10)
    assert default_anchor(curves).key == "authors"
    assert default_anchor(curves, floor=0).key == "trained-best"


def test_a_floor_of_the_temperature_itself_reaches_it(curves, logits):
    anchor = find_anchor(curves, "kd-tau-1", floor=1)
    assert entropy_at_cist(4 * logits, anchor.rho, 1.0).mean() == pytest.approx(
        entropy_at(4 * logits, 1).mean(), abs=1e-4
    )


@pytest.mark.parametrize("with_evidence", [True, False])
def test_constant_rows_have_no_anchor(trained, with_evidence):
    if not with_evidence:
        trained()
    curves = EntropyCurves.from_logits(LogitSet.create(np.ones((5, 10))))
    assert all(anchor.refused for anchor in find_anchors(curves))
    with pytest.raises(CistError, match="tied or constant logits keep their entropy"):
        default_pair(curves)


def test_every_key_has_a_title_and_words(trained, curves):
    for anchor in find_anchors(curves):
        assert anchor.title.startswith(ANCHORS[anchor.key])
        assert anchor.why.endswith(".")
        json.dumps(anchor.to_dict(), allow_nan=False)
    assert module.own_anchor(curves, 0.5, 0.5, 0.5).rho is not None


def test_evidence_that_tells_hardly_anything_apart_is_offered_and_not_the_default(trained, curves):
    """On 100 validation samples 90 and 85 % are the same: everything from 0.1 to 0.9 of ln C is left open."""
    wide = (("cist:rho=3", 0.9, 0.6), ("cist:rho=7", 0.89, 0.1), ("cist:rho=1.5", 0.85, 0.9))
    trained(entry(points=wide, samples=100))
    anchor = find_anchor(curves, "trained-best")
    assert anchor.best is not None
    assert (anchor.best.low, anchor.best.high, anchor.best.decides) == (0.1, 0.9, False)
    assert anchor.why.endswith("So little is decided by that, that it is not the default.")
    assert default_anchor(curves).key == "authors"
    trained(entry(points=wide, samples=100_000))
    assert default_anchor(curves).key == "trained-best"


def test_of_settings_with_as_many_classes_the_one_judged_on_more_samples_speaks(trained):
    few, many = entry(samples=500), entry(samples=1000) | {"setting": "more of them"}
    trained(few, many)
    assert evidence_for(10).setting == "more of them"
