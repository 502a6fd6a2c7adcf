"""An accuracy is judged against the most frequent class by an exact test, and a low one is explained if it can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from scipy import stats

from cist_core import LogitSet
from cist_core.doctor import State, examine
from cist_core.errors import CistError
from cist_core.logits.accuracy import SIGNIFICANCE, judge_accuracy
from cist_core.report import render_report

Pair = tuple[np.ndarray, np.ndarray]


def made(count: int, classes: int, *, scale: float = 5.0, seed: int = 0, shares: Any = None) -> Pair:
    """Logits of a good teacher, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=shares)
    logits = rng.normal(0, 1.5, (count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += scale
    return logits, labels


def answered(right: int, count: int, majority: int) -> LogitSet:
    """So many right answers of two classes, of which the first is labelled so often."""
    labels = np.repeat([0, 1], [majority, count - majority])
    answers = np.where(np.arange(count) % count < right, labels, 1 - labels)
    return LogitSet.create(np.eye(2, dtype=np.float32)[answers], labels)


# ---- chance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "count", "majority"),
    [(2406, 3000, 1500), (2406, 3000, 2340), (2406, 3000, 2400), (2406, 3000, 2406), (2406, 3000, 2500), (8, 10, 5),
     (6, 10, 5), (0, 40, 20), (61, 100, 50), (63, 100, 50), (500, 1000, 480)],
)  # fmt: skip
def test_chance_is_the_share_of_the_most_frequent_class(right: int, count: int, majority: int) -> None:
    judged = judge_accuracy(answered(right, count, majority))
    assert judged is not None
    share = max(majority, count - majority) / count
    at_least = sum(stats.binom.pmf(k, count, share) for k in range(right, count + 1))
    assert (judged.accuracy, judged.majority, judged.samples) == (right / count, share, count)
    assert judged.p_value == pytest.approx(at_least, rel=1e-6, abs=1e-12)
    assert judged.near_chance == (at_least > SIGNIFICANCE)
    if 0 < right < count:  # Clopper and Pearson, through the beta distribution
        expected = stats.beta.ppf(0.025, right, count - right + 1), stats.beta.ppf(0.975, right + 1, count - right)
        assert judged.interval == pytest.approx(expected, rel=1e-6)


def test_two_classes_at_eighty_percent_are_more_than_chance_unless_one_class_has_that_share() -> None:
    fine, guessed = judge_accuracy(answered(2406, 3000, 1500)), judge_accuracy(answered(2406, 3000, 2410))
    assert fine is not None
    assert fine.sentences == ()
    assert guessed is not None
    assert guessed.sentences[0].startswith(
        "The accuracy, 80.2 % of 3,000 samples, is not above that of always answering the most frequent class, 80.3 %"
    )


def test_a_thousand_classes_at_half_a_percent_are_more_than_chance() -> None:
    logits, labels = made(20_000, 1000, scale=0.8)
    judged = judge_accuracy(LogitSet.create(logits, labels))
    assert judged is not None
    assert 1 / 1000 < judged.accuracy < 0.02
    assert not judged.near_chance
    assert judged.sentences == ()


def test_without_labels_or_with_one_class_nothing_is_claimed() -> None:
    logits, _ = made(50, 4)
    assert judge_accuracy(LogitSet.create(logits)) is None
    judged = judge_accuracy(LogitSet.create(logits, np.zeros(50, int)))
    assert judged is not None
    assert not judged.near_chance


# ---- what explains it ------------------------------------------------------------------------------------------------


def shifted(by: int) -> Callable[[Pair], Pair]:
    return lambda pair: (pair[0], (pair[1] + by) % pair[0].shape[1])


def text_order(classes: int, first: int = 0) -> np.ndarray:
    return np.array(sorted(range(classes), key=lambda number: str(number + first)))


def background(pair: Pair) -> Pair:
    return np.hstack([np.full((len(pair[0]), 1), -3, np.float32), pair[0]]), pair[1]


def gathered(pair: Pair, processes: int = 3) -> Pair:
    order = np.concatenate([np.arange(rank, len(pair[0]), processes) for rank in range(processes)])
    return pair[0][order], pair[1]


EXPLAINED: list[tuple[str, Pair, str, str]] = [
    ("a background class of 1,001", background(made(300, 1000, scale=7)), "background", "labels + 1 would give"),
    ("a background class of 21", background(made(300, 20)), "background", "labels + 1 would give"),
    ("labels from 1", (made(300, 30)[0], np.minimum(made(300, 30)[1] + 1, 29)), "offset", "labels - 1 would give"),
    ("house numbers, whose 0 is class 10", shifted(-1)(made(400, 10)), "offset", "labels + 1 would give"),
    ("folders 0 to 39 sorted as text", (made(400, 40)[0][:, text_order(40)], made(400, 40)[1]), "order",
     "(0, 1, 10, 11, ..."),
    ("folders 1 to 40 sorted as text", (made(400, 40)[0], text_order(40, 1).argsort()[made(400, 40)[1]]), "order",
     "(1, 10, 11, 12, ..."),
    ("from the last class", (made(300, 12)[0][:, ::-1].copy(), made(300, 12)[1]), "reversed",
     "labels counted from the last class (11 - label) would give"),
    ("two classes exchanged", shifted(1)(made(300, 2, scale=3)), "reversed", "the two classes exchanged would give"),
    ("samples in reverse", (made(300, 8)[0][::-1].copy(), made(300, 8)[1]), "samples", "labels in reverse would give"),
    ("one row too late", (np.roll(made(300, 8)[0], 1, axis=0), made(300, 8)[1]), "samples",
     "labels moved by 1 sample down would give"),
    ("gathered from three processes", gathered(made(300, 8)), "samples", "as 3 processes deal the samples out"),
    ("another class map", (made(600, 9)[0][:, np.random.default_rng(5).permutation(9)], made(600, 9)[1]), "class map",
     "another class map would give"),
    ("distances", (-made(300, 7)[0], made(300, 7)[1]), "negated", "the smallest value in place of the largest"),
    ("transposed", (made(80, 80, scale=8)[0].T.copy(), made(80, 80, scale=8)[1]), "transposed", "store logits.T"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "kind", "words"), [case[1:] for case in EXPLAINED], ids=[case[0] for case in EXPLAINED]
)
def test_what_would_explain_it_is_found(pair: Pair, kind: str, words: str) -> None:
    judged = judge_accuracy(LogitSet.create(*pair))
    assert judged is not None
    assert judged.explanation is not None
    assert judged.explanation.kind == kind
    assert words in judged.explanation.sentence
    assert judged.sentences[-1].removeprefix("But ").endswith(judged.explanation.sentence)
    assert judged.explanation.accuracy is not None
    assert judged.explanation.accuracy > 0.8


def test_what_the_shapes_give_away_is_said_by_the_error() -> None:
    logits, labels = made(200, 10)
    with pytest.raises(CistError, match=r"the logits, 10 x 200, seem to be transposed: .*logits\.T"):
        LogitSet.create(logits.T, labels)
    with pytest.raises(CistError, match="They begin at 1: subtract 1 from each"):
        LogitSet.create(logits, labels + 1)
    part = labels > 1
    with pytest.raises(CistError, match="If they begin at 1, subtract 1 from each"):
        LogitSet.create(logits[part], labels[part] + 1)


def test_the_figure_is_the_accuracy_of_that_reading() -> None:
    logits, labels = made(400, 1000, scale=7, seed=4)
    judged = judge_accuracy(LogitSet.create(background((logits, labels))[0], labels))
    assert judged is not None
    assert judged.explanation is not None
    assert judged.explanation.accuracy == (logits.argmax(1) == labels).mean()
    assert f"labels + 1 would give {judged.explanation.accuracy * 100:.1f} %" in judged.explanation.sentence
    mapping = judged.explanation.class_map
    assert mapping is not None
    assert [mapping[label] for label in range(1000)] == list(range(1, 1001))


def test_a_class_map_is_named_class_by_class() -> None:
    logits, labels = made(600, 5)
    names = ["ape", "bee", "cow", "dog", "emu"]
    there = [3, 0, 4, 1, 2]  # the class that each column is of
    judged = judge_accuracy(LogitSet.create(logits[:, there], labels, class_names=[names[place] for place in there]))
    assert judged is not None
    assert judged.explanation is not None
    assert judged.explanation.class_map == {label: there.index(label) for label in range(5)}


def test_classes_by_name_are_an_order_too() -> None:
    logits, labels = made(300, 5)
    names = ["tram", "bus", "car", "van", "bike"]
    by_name = np.argsort(names)  # labels from folders, columns as the teacher has them
    judged = judge_accuracy(LogitSet.create(logits, np.argsort(by_name)[labels], class_names=names))
    assert judged is not None
    assert judged.explanation is not None
    assert "alphabetical order of their names" in judged.explanation.sentence


def test_a_shuffled_loader_is_a_guess() -> None:
    logits, labels = made(2000, 10)
    judged = judge_accuracy(LogitSet.create(logits[np.random.default_rng(1).permutation(2000)], labels))
    assert judged is not None
    assert judged.near_chance
    assert judged.explanation is not None
    assert (judged.explanation.kind, judged.explanation.accuracy) == ("shuffled", None)
    assert "may be in another order" in judged.explanation.sentence


def test_a_network_with_one_answer_is_told() -> None:
    logits, labels = made(300, 6)
    logits[:, 4] += 40
    judged = judge_accuracy(LogitSet.create(logits, labels))
    assert judged is not None
    assert judged.sentences[-1].startswith("100 % of the answers are one class, 4")


@pytest.mark.parametrize("seed", range(40))
def test_noise_is_not_explained(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 60))
    count = int(rng.integers(20, 800))
    judged = judge_accuracy(LogitSet.create(rng.normal(size=(count, classes)), rng.integers(0, classes, count)))
    assert judged is not None
    assert judged.explanation is None or judged.explanation.accuracy is None


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0, 6.0])
def test_a_teacher_that_is_what_it_is_needs_no_explanation(scale: float) -> None:
    judged = judge_accuracy(LogitSet.create(*made(1500, 25, scale=scale)))
    assert judged is not None
    assert judged.sentences == ()


def test_a_few_samples_prove_nothing() -> None:
    logits, labels = made(8, 10, scale=9)
    judged = judge_accuracy(LogitSet.create(logits, (labels + 1) % 10))
    assert judged is not None
    assert judged.explanation is None


# ---- where it is said ------------------------------------------------------------------------------------------------


@pytest.fixture
def off_by_one(tmp_path: Path) -> Path:
    logits, labels = made(400, 50, seed=3)
    np.savez(tmp_path / "off.npz", logits=background((logits, labels))[0], labels=labels)
    return tmp_path / "off.npz"


@pytest.mark.parametrize(
    "command", [("analyze", "--tau", "1"), ("rho", "--target", "0.9", "--range", "0.7", "0.99"), ("convert",)]
)
def test_the_commands_say_it(off_by_one: Path, command: tuple[str, ...], tmp_path: Path, capsys: Any) -> None:
    name, *options = command
    source = [off_by_one, tmp_path / "o.safetensors"] if name == "convert" else ["--logits", off_by_one]
    code, said, wrong = run(capsys, name, *source, *options)
    assert code == 0, wrong
    assert "is not above that of always answering the most frequent class" in said
    assert "But labels + 1 would give 8" in said
    assert "background" in said
    assert "--class-map takes this map, as a file of such lines too: 0=1 1=2 2=3 " in said
    _, said, _ = run(capsys, name, *source, *options, "--json")
    record = json.loads(said)
    check = record.get("source", record)["accuracy_check"]
    assert check["near_chance"]
    assert check["explanation"]["kind"] == "background"


def test_the_map_that_is_named_mends_it(off_by_one: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "map.txt").write_text("\n".join(f"{label} = {label + 1}" for label in range(50)))
    source = ["--logits", off_by_one, "--class-map", tmp_path / "map.txt", "--tau", "1"]
    code, said, wrong = run(capsys, "analyze", *source)
    assert code == 0, wrong
    assert "chance" not in said
    assert "accuracy 8" in said


def test_the_report_says_it(off_by_one: Path) -> None:
    from cist_core import EntropyCurves, read_logits
    from cist_core.temperature import parse_rule
    from cist_core.temperature.readings import read_rules

    logit_set = read_logits(off_by_one)
    curves = EntropyCurves.from_logits(logit_set)
    assert "labels + 1 would give" in render_report(logit_set, curves, read_rules([parse_rule("tau=2")], curves))


def test_the_doctor_says_it_of_what_was_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_by_one: Path
) -> None:
    from cist_core import doctor, read_logits
    from cist_core.added import AddedStore, AddSpec
    from cist_core.logits.cache import write_logits

    monkeypatch.setenv("CIST_ADDED", str(tmp_path / "added"))
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in ("Added", "Sample models")})
    added = AddedStore().draft(title="mine")
    spec = AddSpec.of(title="Twisted", logits={"teacher": str(off_by_one)})
    entry = json.loads((added.folder / "entry.json").read_text())
    (added.folder / "entry.json").write_text(json.dumps({**entry, "spec": spec.model_dump()}))
    write_logits(added.logit_file, read_logits(off_by_one))
    found = {check.name: check for check in examine()}
    assert found["Added logits"].state is State.NOTE
    assert "Twisted: The accuracy," in found["Added logits"].sentence
    assert "labels + 1 would give" in found["Added logits"].sentence
    assert found["Sample models"].state is State.OK


def test_few_samples_that_are_all_right_need_no_explanation() -> None:
    judged = judge_accuracy(LogitSet.create(np.eye(100)[[3, 7, 50]], [3, 7, 50]))
    assert judged.near_chance
    assert judged.sentences == (
        "3 samples are too few to tell the accuracy, 100 %, from always answering the most frequent class, 33.3 % "
        "(binomial test, p = 0.0370).",
    )


def test_a_high_accuracy_that_is_the_most_frequent_class_is_explained_still() -> None:
    judged = judge_accuracy(LogitSet.create(np.tile([5.0, 0.0], (100, 1)), [0] * 90 + [1] * 10))
    assert (judged.near_chance, judged.good) == (True, False)
    assert "is not above that of always answering" in judged.sentences[0]


def test_labels_that_are_all_alike_are_remarked() -> None:
    judged = judge_accuracy(LogitSet.create(np.eye(5)[np.arange(200) % 5], np.zeros(200, int)))
    assert judged.sentences[0].startswith("All 200 samples have one label, as sets without labels are often filled")
    assert judge_accuracy(LogitSet.create(np.eye(5)[[0] * 9], [0] * 9)).sentences == ()
