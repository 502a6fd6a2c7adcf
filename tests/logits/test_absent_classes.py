"""Classes that take no part are left out by one rule wherever logits come from; the values are those of the others."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run
from reference import centred_maximum, entropy_at, entropy_at_cist
from safetensors.numpy import save_file
from scipy.special import log_softmax, softmax

from cist_core import CistError, EntropyCurves, EntropyProfile, LogitSet, parse_rule, read_logits
from cist_core.errors import CistWarning
from cist_core.logits import scratch
from cist_core.logits.absent_classes import takes_part
from cist_core.logits.alignment import align
from cist_core.logits.cache import write_logits
from cist_core.logits.ensemble import average_logits
from cist_core.logits.files.given import convert
from cist_core.logits.recording import record
from cist_core.objectives import create_objective
from cist_core.objectives.batch import Batch

TOLERANCE = 1e-4  # nats
MASKS = (-np.inf, -1000.0, -1e4, -65504.0, -1e9, -3.4e38)


def made(samples=60, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    logits = rng.normal(0, 1.5, (samples, classes))
    logits[np.arange(samples), labels] += 4
    return logits.astype(np.float32), labels


def masked(mask, column=5):
    """Logits with one class masked, and those of the others with their labels, none of which is the masked one."""
    logits, labels = made()
    others, left = np.delete(logits, column, 1), labels % 5
    logits[:, column] = mask
    return logits, others, np.delete(np.arange(6), column)[left], left


def check_like_the_others(read, others, labels=None):
    assert read.logits.shape == others.shape
    curves = EntropyCurves.from_logits(read)
    np.testing.assert_allclose(curves.statistics.maximum, centred_maximum(others), rtol=1e-5, atol=1e-5)
    for rule, expected in (("cist:rho=3", entropy_at_cist(others, 3)), ("tau=2", entropy_at(others, 2.0))):
        found = EntropyProfile.of(parse_rule(rule), curves)
        assert found.mean == pytest.approx(expected.mean(), abs=TOLERANCE)
        assert found.normalised_mean == pytest.approx(expected.mean() / np.log(others.shape[1]), abs=TOLERANCE)
    if labels is not None:
        np.testing.assert_array_equal(read.labels, labels)
        assert read.accuracy == pytest.approx(np.mean(others.argmax(1) == labels))


# ---- the rule --------------------------------------------------------------------------------------------------------

RULE_CASES = {
    "-inf": ([1.0, 2.0, -np.inf], [True, True, False]),
    "finite": ([1.0, 2.0, -1000.0], [True, True, False]),
    "several kinds": ([3.0, -1.0, -1e4, -1e9, -np.inf], [True, True, False, False, False]),
    "an added mask": ([1.0, 30.0, -1e4 - 25], [True, True, False]),
    "one class left": ([4.0, -1e9, -1e9], [True, False, False]),
    "large logits without a gap": ([9e5, 100.0, -2000.0, -4e5], [True] * 4),
    "as far as the others are high": ([3e4, 0.0, -3e4], [True] * 3),
    "no ordinary logit": ([-1e9, -1e9, -1e9], [True] * 3),
    "a logarithm of the smallest double": ([-0.1, -2.0, -744.4], [True] * 3),
    "two classes": ([3.0, -1e9], [True, True]),
    "two classes, -inf": ([3.0, -np.inf], [True, False]),
    "not a number": ([3.0, np.nan, 1.0], [True] * 3),
}


@pytest.mark.parametrize(("row", "expected"), RULE_CASES.values(), ids=RULE_CASES)
def test_the_rule_is_one_for_numpy_and_torch(row, expected):
    assert takes_part(np.array([row])).tolist() == [expected]
    assert takes_part(torch.tensor([row]), torch).tolist() == [expected]


# ---- arrays and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_class_masked_in_every_sample_is_left_out(mask, dtype):
    logits, others, labels, left = masked(mask)
    with np.errstate(over="ignore"):
        given = logits.astype(dtype)
    read = LogitSet.create(given, labels, class_names=list("abcdef"))
    check_like_the_others(read, others.astype(dtype), left)
    assert read.class_names == tuple("abcde")
    assert read.left_out == (5,)
    said = read.provenance["absent classes"]
    assert said.startswith("1 of 6, number 5 ('f'); its logit is -")
    assert said.endswith(" in every sample, as masks are, so 5 classes take part")


def test_a_mask_that_was_added_to_the_logit_is_known_by_its_size():
    logits, others, _, _ = masked(0)
    logits[:, 5] = np.random.default_rng(1).normal(-1000, 9, len(logits))
    check_like_the_others(LogitSet.create(logits), others)


@pytest.mark.parametrize("column", [0, 2, 5])
def test_classes_without_names_are_called_by_their_old_numbers_where_these_changed(column):
    logits, others, labels, left = masked(-1e9, column)
    read = LogitSet.create(logits, labels)
    check_like_the_others(read, others, left)
    assert read.class_names == (None if column == 5 else tuple(str(place) for place in range(6) if place != column))


def test_several_masks_of_several_kinds_are_counted_and_named():
    logits, _ = made(classes=12)
    for place, mask in enumerate([-np.inf, -1e4, -1e9, -np.inf, -1e9, -1e9, -1e9]):
        logits[:, 2 + place] = mask
    read = LogitSet.create(logits)
    check_like_the_others(read, np.delete(logits, range(2, 9), 1))
    assert read.provenance["absent classes"] == (
        "7 of 12, numbers 2, 3, 4, 5, 6 and 2 more; their logits are -inf or -1e+09 to -10000 in every sample, as "
        "masks are, so 5 classes take part"
    )


WRITERS = {
    "a.npy": lambda path, values, labels: np.save(path, values),
    "a.npz": lambda path, values, labels: np.savez(path, logits=values, labels=labels),
    "a.pt": lambda path, values, labels: torch.save(
        {"logits": torch.from_numpy(values), "labels": torch.from_numpy(labels)}, path
    ),
    "a.safetensors": lambda path, values, labels: save_file({"logits": values, "labels": labels}, path),
    "a.csv": lambda path, values, labels: frame(values, labels).to_csv(path, index=False),
    "a.parquet": lambda path, values, labels: frame(values, labels).to_parquet(path),
}


def frame(values, labels):
    return pd.DataFrame({**{f"logit_{place}": column for place, column in enumerate(values.T)}, "label": labels})


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mask", MASKS)
def test_every_reader_leaves_masked_classes_out(tmp_path, name, mask):
    logits, others, labels, left = masked(mask, column=2)
    WRITERS[name](tmp_path / name, logits, labels)
    read = read_logits(tmp_path / name)
    check_like_the_others(read, others, None if name == "a.npy" else left)
    assert "number 2" in read.provenance["absent classes"]


def test_samples_that_are_labelled_with_a_masked_class_are_left_out_and_counted(tmp_path):
    logits, labels = made()
    logits[:, 5] = -1e9
    np.savez(tmp_path / "set.npz", logits=logits, labels=labels, index=np.arange(60))
    read = read_logits(tmp_path / "set.npz")
    counting = labels != 5
    check_like_the_others(read, logits[counting, :5], labels[counting])
    assert read.provenance["left out"] == "10 of 60 samples: their label is a class that takes no part"
    np.testing.assert_array_equal(read.sample_names.columns["index"], np.flatnonzero(counting))
    with pytest.raises(CistError, match=r"10 of 60 samples are labelled with a class that takes no part \(5\); leave"):
        LogitSet.create(logits, labels)


def test_a_file_of_labels_beside_masked_logits(tmp_path):
    logits, others, labels, left = masked(-np.inf, column=1)
    np.save(tmp_path / "z.npy", logits)
    (tmp_path / "y.txt").write_text("\n".join(map(str, labels)))
    check_like_the_others(read_logits(tmp_path / "z.npy", labels=tmp_path / "y.txt"), others, left)


def test_blocks_of_a_file_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cist_core.logits.logit_set.CHUNK_VALUES", 42)  # 7 rows at a time
    monkeypatch.setattr("cist_core.logits.logit_set.COPIED_VALUES", 42)
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    logits, others, labels, left = masked(-1e9, column=2)
    np.savez_compressed(tmp_path / "set.npz", logits=logits.astype(np.float64), labels=labels)
    check_like_the_others(read_logits(tmp_path / "set.npz"), others, left)


@pytest.mark.parametrize("mask", MASKS)
def test_a_stream_leaves_masked_classes_out(mask):
    logits, others, labels, left = masked(mask, column=2)
    curves = EntropyCurves.from_chunks(np.array_split(logits, 4), labels=labels)
    assert curves.num_classes == 5
    assert curves.left_out == (2,)
    np.testing.assert_array_equal(curves.labels, left)
    np.testing.assert_allclose(curves.at_temperature(2.0), entropy_at(others, 2.0), rtol=0, atol=TOLERANCE)
    changed = logits.copy()
    changed[30:, 2] = 0
    with pytest.raises(CistError, match="Class 2 is masked in the chunk that starts with sample 0 and takes part"):
        EntropyCurves.from_chunks(np.array_split(changed, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("mask", [-1e4, -65504, -np.inf])
def test_masked_entries_of_a_vocabulary_leave_the_centred_maximum_alone(mask, dtype):
    """49,152 classes of which 271 are masked: with those in the mean, m would be 376, or infinite, instead of 17."""
    logits = 2.2 * np.random.default_rng(0).standard_normal((4, 49_152))
    logits[:, :20] += 8
    logits = logits.astype(dtype)
    expected = centred_maximum(logits[:, :-271])
    logits[:, -271:] = mask
    read = LogitSet.create(logits)
    assert "271 of 49,152" in read.provenance["absent classes"]
    streamed = EntropyCurves.from_chunks([logits[:1], logits[1:]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CistWarning)  # of finite masks, which another test reads
        batch = Batch.create(student_logits=torch.zeros(logits.shape), teacher_logits=torch.from_numpy(logits))
    for found in (EntropyCurves.from_logits(read).statistics.maximum, streamed.statistics.maximum):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(batch.teacher.maximum.numpy(), expected, rtol=0, atol=1e-5)


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
def test_a_class_that_is_masked_in_some_samples_is_refused_by_name_and_number(tmp_path, mask):
    logits, _ = made()
    logits[7:20, 3] = mask
    logits[9:, 4] = mask
    np.save(tmp_path / "z.npy", logits)
    with pytest.raises(CistError) as caught:
        read_logits(tmp_path / "z.npy")
    assert "Class 3 is masked in 13 of 60 samples (so is 1 more class in some), first in sample 7" in str(caught.value)
    assert "Save the samples that have the same classes as a file each, or remove those samples" in str(caught.value)


def test_large_logits_that_scatter_are_no_masks():
    rng = np.random.default_rng(0)
    logits = -np.exp(rng.uniform(0, 12, (200, 3)))  # joint log-likelihoods, as of naive Bayes
    assert not takes_part(logits).all()
    np.testing.assert_array_equal(LogitSet.create(logits).logits, logits.astype(np.float32))


def test_fewer_than_two_classes_that_take_part_are_refused():
    with pytest.raises(CistError, match=r"at least 2 classes that take part, but 1 of 3 does: a class takes no part"):
        LogitSet.create([[1.0, -np.inf, -1e9], [2.0, -np.inf, -1e9]])
    np.testing.assert_array_equal(LogitSet.create([[1.0, -1e9], [2.0, -1e9]]).logits[:, 1], np.float32(-1e9))


# ---- kept ------------------------------------------------------------------------------------------------------------


def test_what_was_left_out_stays_known_through_files_and_parts(tmp_path):
    logits, _, labels, _ = masked(-np.inf, column=2)
    read = LogitSet.create(logits, labels)
    read.save(tmp_path / "own.safetensors")
    copy = write_logits(tmp_path / "copy.safetensors", read)
    for again in (LogitSet.load(tmp_path / "own.safetensors"), copy, read.take(np.arange(30)), read):
        assert again.left_out == (2,)
        assert again.class_names == ("0", "1", "3", "4", "5")
        assert again.provenance["absent classes"] == read.provenance["absent classes"]
        np.testing.assert_array_equal(again.whole(), logits[: again.num_samples])
        np.testing.assert_array_equal(again.kept_classes[again.labels], labels[: again.num_samples])


def test_a_student_is_read_on_the_classes_of_its_teacher():
    logits, _, labels, left = masked(-1e9, column=2)
    student, _ = made(seed=1)
    teacher = LogitSet.create(logits, labels)
    beside = align(teacher, LogitSet.create(student, labels))
    check_like_the_others(beside, np.delete(student, 2, 1), left)
    assert beside.class_names == teacher.class_names
    assert beside.provenance["absent classes"] == "2 of the student, masked in the teacher"
    with pytest.raises(CistError, match="Class 2 of the teacher is masked in every sample of the student; both have"):
        align(LogitSet.create(student, labels), teacher)


NAMES = ("ant", "bee", "cat", "dog", "eel", "fly")
OTHER_ORDER = np.array([2, 0, 1, 5, 4, 3])


def test_classes_that_take_no_part_are_found_by_name_in_another_order():
    logits, _, labels, _ = masked(-1e9, column=2)
    student, _ = made(seed=1)
    teacher = LogitSet.create(logits, labels, class_names=NAMES)
    moved = [NAMES[place] for place in OTHER_ORDER]
    wanted = np.delete(student, 2, 1)
    for mask in (None, -np.inf):  # the student masks no class; the same, which has another number there
        values = student[:, OTHER_ORDER]
        if mask is not None:
            values[:, moved.index("cat")] = mask
        beside = align(teacher, LogitSet.create(values, class_names=moved))
        np.testing.assert_array_equal(beside.logits, wanted)
        assert beside.class_names == teacher.class_names == ("ant", "bee", "dog", "eel", "fly")
        assert beside.left_out == (2,)
    values = student[:, OTHER_ORDER]
    values[:, [moved.index("bee"), moved.index("cat")]] = -np.inf
    with pytest.raises(CistError, match=r"Class 1 \('bee'\) of the teacher is masked in every sample of the student"):
        align(teacher, LogitSet.create(values, class_names=moved))


@pytest.mark.parametrize("names", [(*NAMES[:5], "flies"), tuple("uvwxyz")])
def test_classes_that_are_called_otherwise_are_those_of_the_same_numbers(names):
    logits, _, _, _ = masked(-np.inf, column=2)
    student = made(seed=1)[0]
    student[:, 2] = -np.inf
    beside = align(LogitSet.create(logits, class_names=NAMES), LogitSet.create(student, class_names=names))
    np.testing.assert_array_equal(beside.logits, np.delete(student, 2, 1))
    assert "by position" in beside.provenance["class_order"]


def test_an_ensemble_averages_the_classes_that_take_part():
    logits, others, _, _ = masked(-1e9, column=2)
    other, _ = made(seed=1)
    mean = average_logits([LogitSet.create(logits), LogitSet.create(other)])
    np.testing.assert_allclose(mean.logits, (others + np.delete(other, 2, 1)) / 2, rtol=0, atol=1e-6)
    assert "model 1: 1 of 6, number 2" in mean.provenance["absent classes"]


def test_a_recorded_model_that_masks_its_head():
    class Masked(torch.nn.Module):
        def forward(self, logits):
            masks = torch.zeros(6)
            masks[4] = -1e9
            return logits + masks

    logits, others, labels, left = masked(0.5, column=4)
    model = Masked().eval()
    with record(model) as recorded, torch.inference_mode():
        for rows in np.array_split(np.arange(60), 3):
            model(torch.from_numpy(logits[rows]))
            recorded.labels(torch.from_numpy(labels[rows]))
    check_like_the_others(recorded.logit_set(), others, left)


# ---- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["probabilities", "log-probabilities", "log of probabilities", "masked log-softmax"])
def test_a_probability_of_zero_in_every_sample_is_a_class_that_takes_no_part(tmp_path, kind):
    logits, others, labels, left = masked(-np.inf, column=2)
    values = softmax(logits.astype(np.float64), axis=1)
    if kind == "masked log-softmax":
        values = log_softmax(np.where(np.isfinite(logits), logits, -1e9).astype(np.float64), axis=1)
    elif kind != "probabilities":
        with np.errstate(divide="ignore"):
            values = np.log(values)
    np.savez(tmp_path / "set.npz", probs=values.astype(np.float32), labels=labels)
    read = read_logits(tmp_path / "set.npz")
    check_like_the_others(read, others, left)
    assert "number 2" in read.provenance["absent classes"]
    assert "clipped" not in read.provenance


@pytest.mark.parametrize("samples", [30, 3000])
def test_where_rounding_can_have_made_the_zeros_many_samples_have_to_agree(samples):
    logits, labels = made(samples)
    logits[:, 5] = -np.inf
    rounded = softmax(logits.astype(np.float64), axis=1).round(3)
    found = convert(rounded, labels=labels % 5)
    left_out = samples > 60
    assert (found.logits[:, 5] == -np.inf).all() == left_out
    assert ("class 5 is 0 in every sample and takes no part" in found.said) == left_out
    assert ("class 5 is 0 in every sample: leave out its column" in found.clipped) == (not left_out)
    assert np.isfinite(convert(rounded, labels=labels).logits).all()  # a label says that the class is one


def test_scattered_zeros_say_what_rests_on_the_floor(tmp_path, capsys):
    logits, labels = made(300)
    probabilities = softmax(logits.astype(np.float64) * 3, axis=1)
    probabilities[probabilities < 1e-4] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.savez(tmp_path / "set.npz", probs=probabilities, labels=labels)
    read = read_logits(tmp_path / "set.npz")
    floors = [np.where(probabilities > 0, probabilities, floor) for floor in (1e-12, 1e-11, 1e-13)]
    maxima = [centred_maximum(np.log(filled)).mean() for filled in floors]
    zeros = np.count_nonzero(probabilities == 0)
    assert read.provenance["clipped"].startswith(
        f"{zeros:,} of 1,800 probabilities are 0 and were clipped to a floor of 1e-12, which goes into the mean of the "
        f"logits: the centred maximum m, {maxima[0]:.3g} on average, would be {maxima[1]:.3g} with ten times that "
        f"floor and {maxima[2]:.3g} with a tenth of it, and the ρ that matches a τ moves with m."
    )
    said = f"ρ rests on clipped zeros: {read.provenance['clipped']}."
    with np.errstate(divide="ignore"):
        assert convert(np.log(probabilities)).clipped.startswith(
            f"{zeros:,} of 1,800 log-probabilities are -inf and were"
        )
    for command in ("analyze", "rho"):
        assert said in run(capsys, command, "--logits", tmp_path / "set.npz")[1]
    assert said in json.loads(run(capsys, "rho", "--logits", tmp_path / "set.npz", "--json")[1])["source"]["remarks"]
    run(capsys, "analyze", "--logits", tmp_path / "set.npz", "--out", tmp_path / "report.html")
    assert said in (tmp_path / "report.html").read_text("utf-8")


# ---- the terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["analyze", "rho"])
def test_the_commands_name_the_classes_that_take_no_part(tmp_path, capsys, command):
    logits, others, labels, left = masked(-1e9, column=2)
    np.savez(tmp_path / "set.npz", logits=logits, labels=labels)
    np.savez(tmp_path / "others.npz", logits=others, labels=left)
    said = (
        "Classes that take no part, left out: 1 of 6, number 2; its logit is -1e+09 in every sample, as masks are, so "
        "5 classes take part."
    )
    shown, plain = (run(capsys, command, "--logits", tmp_path / name)[1] for name in ("set.npz", "others.npz"))
    assert said in shown
    assert shown.replace(f"{said}\n", "") == plain
    record = json.loads(run(capsys, command, "--logits", tmp_path / "set.npz", "--json")[1])
    assert (record.get("source") or record)["left_out_classes"] == [2]


@pytest.mark.parametrize("mask", [-100.0, -500.0])
def test_a_class_that_is_masked_by_an_ordinary_number_stays_and_is_said(tmp_path, capsys, mask):
    logits = masked(mask, column=2)[0]
    np.savez(tmp_path / "set.npz", logits=logits)
    read = read_logits(tmp_path / "set.npz")
    assert read.left_out == ()
    with_it, without = centred_maximum(logits).mean(), centred_maximum(np.delete(logits, 2, 1)).mean()
    said = (
        f"Like masks: 1 class (2) has the logit {mask:g} in every sample and is read as a logit; without it the "
        f"centred maximum, {with_it:.3g} on average, would be {without:.3g}. If it is masked, write -inf."
    )
    assert said in run(capsys, "analyze", "--logits", tmp_path / "set.npz")[1]
    logits[5, 2] = mask + 1
    assert "like masks" not in LogitSet.create(logits).provenance


# ---- logits that are no masks ----------------------------------------------------------------------------------------


def unbounded(samples=60, classes=8):
    """Log-probabilities of a naive Bayes classifier: 0 for the winner, thousands below for the others."""
    rng = np.random.default_rng(5)
    logits = -rng.uniform(100, 5000, (samples, classes))
    logits[np.arange(samples), rng.integers(0, classes, samples)] = 0
    return logits.astype(np.float32)


def test_a_class_that_scatters_in_every_sample_is_no_mask():
    logits, _ = made()
    logits[:, 4] = -np.random.default_rng(0).uniform(1000, 200_000, len(logits))
    assert LogitSet.create(logits).left_out == ()


@pytest.mark.parametrize("rows", [1, 2, 3, 10])
def test_unbounded_logits_stay_whole_in_a_set_in_its_parts_and_in_a_stream(rows):
    logits = unbounded()
    whole = LogitSet.create(logits)
    assert whole.left_out == ()
    for start in range(0, len(logits), rows):
        part = whole.take(range(start, min(start + rows, len(logits))))
        assert (part.num_classes, part.left_out) == (8, ())
    if rows > 1:
        chunks = [logits[start : start + rows] for start in range(0, len(logits), rows)]
        streamed = EntropyCurves.from_chunks(chunks)
        np.testing.assert_allclose(streamed.statistics.maximum, EntropyCurves.from_logits(whole).statistics.maximum)


def test_a_part_of_a_masked_set_remembers_what_was_left_out():
    logits, others, labels, _ = masked(-1e9, 2)
    read = LogitSet.create(logits, labels)
    part = read.take([3])
    assert (part.left_out, part.given_classes) == (read.left_out, read.given_classes)
    np.testing.assert_allclose(part.logits, others[[3]])


def test_large_numbers_in_one_or_two_samples_are_logits_of_these():
    logits, _ = made()
    logits[5, 1], logits[9, 1] = -640_000, -467_000
    assert LogitSet.create(logits).left_out == ()


def test_a_million_masked_numbers_are_counted_without_a_loop_over_classes():
    logits, _ = made(classes=6)
    wide = np.concatenate([logits, np.full((len(logits), 20_000), -1e9, np.float32)], axis=1)
    assert LogitSet.create(wide).num_classes == 6


def test_the_objectives_take_unbounded_logits_as_the_analysis_does():
    logits = unbounded()
    curves = EntropyCurves.from_logits(LogitSet.create(logits))
    batch = Batch.create(student_logits=torch.zeros(logits.shape), teacher_logits=torch.tensor(logits))
    np.testing.assert_allclose(batch.teacher.maximum.numpy(), curves.statistics.maximum, rtol=1e-5)


def test_a_student_that_runs_away_at_the_label_keeps_its_gradient():
    """There a finite number is a logit, however far it has come."""
    for height in (-850.0, -950.0, -1e5):
        student = torch.tensor([[0.0, 5.0, -20.0, height]], requires_grad=True)
        kd = create_objective("kd:tau=1")(
            student_logits=student, teacher_logits=torch.tensor([[0.0, 1.0, 2.0, 9.0]]), labels=torch.tensor([3])
        )["kd"]
        kd.backward()
        assert student.grad is not None
        assert student.grad[0, 3] < -0.8


def test_zeros_of_an_underflow_do_not_remove_the_samples_that_are_labelled_so():
    """Eight float32 rows in which one class lies 130 logits lower, and one sample has its label."""
    logits, labels = np.random.default_rng(0).normal(size=(8, 5)), np.array([0, 1, 2, 3, 0, 1, 2, 4])
    logits[np.arange(8), labels] += 9
    logits[:, 4] -= 130
    probabilities = softmax(logits.astype(np.float32), axis=1).astype(np.float32)
    assert (probabilities[:, 4] == 0).all()
    read = LogitSet.create(convert(probabilities, labels=labels).logits, labels)
    assert (read.num_samples, read.num_classes, read.accuracy) == (8, 5, 0.875)
