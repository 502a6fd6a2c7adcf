"""Only logits are logits: what else a file holds is left out and listed, or the file is refused."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import run
from safetensors.numpy import save_file

from cist_core import CistError, LogitSet, read_logits
from cist_core.logits.choices import chosen
from cist_core.logits.files.columns import Kind, find_roles

RNG = np.random.default_rng(11)
LOGITS = RNG.normal(0, 2, (30, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 30)
WORDS = ["bee", "ant", "wasp", "fly"]

BESIDE = {
    "y_true": LABELS,
    "pred": LOGITS.argmax(axis=1),
    "conf": RNG.uniform(0.2, 1, 30),
    "fold": np.arange(30) % 5,
    "loss": RNG.exponential(1, 30),
}


def columns(names, values=LOGITS):
    return dict(zip(names, values.T, strict=True))


def write(path, table):
    frame = pd.DataFrame(table)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "names",
    [
        [f"logit_{index}" for index in range(4)],
        [f"Class {index}" for index in range(4)],
        [str(index) for index in range(4)],
        [f"p[{index}]" for index in range(4)],
        [f"mynet.{index}" for index in range(1, 5)],
        WORDS,
        ["hat", "time", "true", "right"],
    ],
    ids=lambda names: names[0],
)
def test_columns_beside_the_logits_are_no_classes(tmp_path, suffix, names):
    path = tmp_path / f"set{suffix}"
    write(path, {"fold": BESIDE["fold"], **columns(names), **{name: BESIDE[name] for name in BESIDE if name != "fold"}})
    read = read_logits(path)
    np.testing.assert_array_equal(read.logits, LOGITS)
    np.testing.assert_array_equal(read.labels, LABELS)
    assert read.class_names == tuple(names)
    assert read.provenance["labels"] == "from 'y_true'"
    assert read.provenance["unused"] == "fold, pred, conf, loss"
    assert chosen(read.provenance) == ["Not used: fold, pred, conf, loss.", "Labels: from 'y_true'."]


@pytest.mark.parametrize(
    "name",
    ["true_label", "gt_label", "Ground Truth", "label_ids", "target", "GT", "y", "gold_label", "ClassLabel"],
)
def test_the_labels_of_a_table_have_many_names(tmp_path, name):
    write(tmp_path / "set.csv", {**columns(WORDS), name: LABELS})
    read = read_logits(tmp_path / "set.csv")
    np.testing.assert_array_equal(read.labels, LABELS)
    assert read.num_classes == 4


@pytest.mark.parametrize(
    "name",
    ["predicted_label", "Prediction", "max_prob", "top1_acc", "val_loss", "ce_loss", "entropy", "is_correct", "k-fold",
     "sample_weight", "true_class_prob", "pred_class", "margin", "nll", "y_pred", "weight", "score", "latency"],
)  # fmt: skip
def test_numbers_about_the_samples_are_left_out_among_words(tmp_path, name):
    write(tmp_path / "set.csv", {**columns(WORDS), name: RNG.normal(0, 1, 30)})
    read = read_logits(tmp_path / "set.csv")
    assert read.class_names == tuple(WORDS)
    assert read.provenance["unused"] == name


def test_whole_numbers_among_fractions_are_left_out(tmp_path):
    write(tmp_path / "set.csv", {"minute": np.arange(30) % 7, **columns(WORDS), "device": np.ones(30, int)})
    read = read_logits(tmp_path / "set.csv")
    assert read.class_names == tuple(WORDS)
    assert read.provenance["unused"] == "minute, device"


def test_whole_numbers_are_logits_where_all_are(tmp_path):
    votes = RNG.integers(0, 30, (30, 4))
    write(tmp_path / "set.csv", columns(WORDS, votes))
    np.testing.assert_array_equal(read_logits(tmp_path / "set.csv").logits, votes)


def test_text_beside_the_logits_is_left_out(tmp_path):
    write(tmp_path / "set.csv", {"model": ["resnet"] * 30, **columns(WORDS), "split": ["test"] * 30, "label": LABELS})
    read = read_logits(tmp_path / "set.csv")
    assert read.class_names == tuple(WORDS)
    assert read.provenance["unused"] == "model, split"


def test_a_text_among_the_numbers_of_a_class_is_refused(tmp_path):
    broken = LOGITS[:, 0].astype(object)
    broken[29] = "n/a!"
    for names, message in ((WORDS, "'bee' is not numeric: it holds numbers and text"), (
        [f"logit_{index}" for index in range(4)], "'logit_0' is not numeric, though called like the logits",
    )):  # fmt: skip
        write(tmp_path / "set.csv", {**columns(names), names[0]: broken})
        with pytest.raises(CistError, match=f"set.csv: column {message}"):
            read_logits(tmp_path / "set.csv")


def test_of_two_groups_the_one_called_logits_is_taken(tmp_path):
    table = {**columns([f"prob_{index}" for index in range(4)], np.abs(LOGITS)), "true": LABELS}
    write(tmp_path / "set.csv", {**table, **columns([f"logit_{index}" for index in range(4)])})
    read = read_logits(tmp_path / "set.csv")
    np.testing.assert_array_equal(read.logits, LOGITS)
    assert read.provenance["unused"] == "prob_0, prob_1, prob_2, prob_3, true"


def test_two_groups_that_may_both_be_the_logits_are_refused(tmp_path):
    teacher, student = ([f"{who}_{index}" for index in range(4)] for who in ("big", "small"))
    write(tmp_path / "set.csv", {**columns(teacher), **columns(student)})
    with pytest.raises(CistError, match=r"both the columns big_0 to big_3 and the columns small_0 to small_3 can be"):
        read_logits(tmp_path / "set.csv")


def test_words_after_a_common_beginning_are_the_names_of_the_classes(tmp_path):
    named = {f"prob_{word}": column for word, column in columns(WORDS).items()}
    write(tmp_path / "set.csv", {**named, "prob_max": LOGITS.max(axis=1), "label": [WORDS[label] for label in LABELS]})
    read = read_logits(tmp_path / "set.csv", given_as="logits")
    assert read.class_names == tuple(WORDS)
    np.testing.assert_array_equal(read.labels, LABELS)
    assert read.provenance["unused"] == "prob_max"


def test_letters_are_classes_whatever_else_they_are_called(tmp_path):
    letters = list("abcdefghijklmnopqrstuvwxyz")
    values = RNG.normal(0, 1, (30, 26))
    write(tmp_path / "set.csv", columns(letters, values))
    read = read_logits(tmp_path / "set.csv")
    assert read.class_names == tuple(letters)  # among them y, which holds no labels, and x
    assert read.labels is None
    write(tmp_path / "set.csv", {**columns(list("0123")), "y": LABELS})
    np.testing.assert_array_equal(read_logits(tmp_path / "set.csv").labels, LABELS)


def test_classes_that_are_called_by_numbers_of_their_own_are_classes(tmp_path):
    models = ["A320", "A330", "737-200", "C-47"]
    write(tmp_path / "set.csv", columns(models))
    assert read_logits(tmp_path / "set.csv").class_names == tuple(models)


def test_fractions_are_no_labels_and_that_is_said(tmp_path):
    write(tmp_path / "set.csv", {**columns(WORDS), "target": RNG.uniform(0, 1, 30)})
    read = read_logits(tmp_path / "set.csv")
    assert (read.labels, read.provenance["unused"]) == (None, "target (fractions)")


def test_a_column_that_is_a_class_only_in_its_first_rows_is_looked_at_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("cist_core.logits.files.tables.BLOCK_VALUES", 20)
    late = np.r_[np.arange(25), LOGITS[25:, 0]]  # whole numbers first
    table = {"id": np.r_[np.arange(29), 0], **columns(WORDS), "speed": late}
    write(tmp_path / "set.csv", table)
    read = read_logits(tmp_path / "set.csv")
    assert read.class_names == (*WORDS, "speed")
    assert read.provenance["unused"] == "id"


@pytest.mark.parametrize("prefix", ["feat", "embedding", "pixel", "hidden_", "dim"])
def test_columns_of_features_are_refused_by_name(tmp_path, prefix):
    features = {f"{prefix}{index}": RNG.normal(0, 1, 30) for index in range(9)}
    write(tmp_path / "a.csv", {"label": LABELS, **features})
    with pytest.raises(CistError, match=rf"the columns {prefix}0 to {prefix}8 are called like the inner values"):
        read_logits(tmp_path / "a.csv")
    write(tmp_path / "b.csv", {**features, **columns([f"logit{index}" for index in range(4)])})
    np.testing.assert_array_equal(read_logits(tmp_path / "b.csv").logits, LOGITS)
    write(tmp_path / "c.csv", {**features, **columns(WORDS)})
    assert read_logits(tmp_path / "c.csv").class_names == tuple(WORDS)


# Arrays

ARRAY_WRITERS = {
    "a.npz": lambda path, arrays: np.savez(path, **arrays),
    "a.pt": lambda path, arrays: torch.save({name: torch.from_numpy(each) for name, each in arrays.items()}, path),
    "a.safetensors": lambda path, arrays: save_file(arrays, path),
}
FEATURES = RNG.normal(0, 1, (30, 7)).astype(np.float32)


@pytest.mark.parametrize("name", ARRAY_WRITERS)
@pytest.mark.parametrize("called", ["features", "embeddings", "Features", "hidden_states", "penultimate", "X"])
def test_features_alone_are_refused_by_name(tmp_path, name, called):
    ARRAY_WRITERS[name](tmp_path / name, {called: FEATURES, "labels": LABELS})
    with pytest.raises(CistError, match=rf"{name}: the array {called} \(30, 7\) is called like the inner values"):
        read_logits(tmp_path / name)


@pytest.mark.parametrize("name", ARRAY_WRITERS)
def test_features_beside_logits_of_any_name_are_left_out_and_listed(tmp_path, name):
    arrays = {"features": FEATURES, "outputs_of_mine": LOGITS, "labels": LABELS, "fold": BESIDE["fold"]}
    ARRAY_WRITERS[name](tmp_path / name, arrays)
    read = read_logits(tmp_path / name)
    np.testing.assert_array_equal(read.logits, LOGITS)
    assert read.provenance["unused"] in ("features (30, 7), fold (30,)", "fold (30,), features (30, 7)")


def test_a_list_of_the_largest_probabilities_is_not_taken_for_the_matrix(tmp_path):
    np.savez(tmp_path / "a.npz", probs=BESIDE["conf"], scores=LOGITS)
    read = read_logits(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.logits, LOGITS)
    assert read.provenance["unused"] == "probs (30,)"


@pytest.mark.parametrize("called", ["label_ids", "ground_truth", "y_true", "gt", "true_labels", "Target", "y_test"])
def test_labels_of_arrays_have_many_names(tmp_path, called):
    np.savez(tmp_path / "a.npz", predictions=LOGITS, **{called: LABELS})
    np.testing.assert_array_equal(read_logits(tmp_path / "a.npz").labels, LABELS)


def test_arrays_without_names_are_told_apart_where_only_one_reading_is_left(tmp_path):
    np.savez(tmp_path / "a.npz", LOGITS, LABELS)
    torch.save((torch.from_numpy(LOGITS), torch.from_numpy(LABELS)), tmp_path / "a.pt")
    for name, label in (("a.npz", "arr_1"), ("a.pt", "1")):
        read = read_logits(tmp_path / name)
        np.testing.assert_array_equal(read.labels, LABELS)
        assert read.provenance["labels"] == f"from '{label}'"
    np.savez(tmp_path / "b.npz", LOGITS, LABELS, LABELS)
    read = read_logits(tmp_path / "b.npz")
    assert (read.labels, read.provenance["unused"]) == (None, "arr_1 (30,), arr_2 (30,)")


def test_what_is_not_used_is_told_on_the_command_line(capsys, tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOGITS, y_true=LABELS, features=FEATURES, seed=3)
    code, out, err = run(capsys, "analyze", "--logits", tmp_path / "a.npz", "--tau", 2)
    assert (code, err) == (0, "")
    assert "\nNot used: features (30, 7), seed.\nLabels: from 'y_true'.\n" in out
    code, out, err = run(capsys, "analyze", "--logits", tmp_path / "a.npz", "--tau", 2, "--json")
    assert json.loads(out)["remarks"] == ["Not used: features (30, 7), seed.", "Labels: from 'y_true'."]
    code, _, err = run(capsys, "analyze", "--logits", tmp_path / "a.npz", "--student", tmp_path / "a.npz", "--tau", 2)
    assert code == 0
    assert err.endswith("Of the student: not used: features (30, 7), seed.\nOf the student: labels: from 'y_true'.\n")


def test_many_unused_names_are_cut(tmp_path):
    write(tmp_path / "set.csv", {**columns([f"logit_{index}" for index in range(4)]), **columns(
        [f"feat_{index}" for index in range(100)], RNG.normal(0, 1, (30, 100)))})  # fmt: skip
    assert read_logits(tmp_path / "set.csv").provenance["unused"].endswith("feat_11, 88 more")


def test_our_own_file_has_nothing_left_over(tmp_path):
    LogitSet.create(LOGITS, LABELS, class_names=WORDS).save(tmp_path / "own.safetensors")
    assert chosen(read_logits(tmp_path / "own.safetensors").provenance) == []


# Lists of numbers


VALUES, OFFSETS = pa.array(LOGITS.reshape(-1)), pa.array(np.arange(0, 121, 4, np.int32))
LISTS = {
    "fixed": pa.FixedSizeListArray.from_arrays(VALUES, 4),
    "list": pa.ListArray.from_arrays(OFFSETS, VALUES),
    "large": pa.LargeListArray.from_arrays(OFFSETS.cast(pa.int64()), VALUES),
    "half": pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.astype(np.float16).reshape(-1)), 4),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_column_of_lists_holds_the_logits(tmp_path, kind):
    column = LISTS[kind]
    embedding = pa.array(FEATURES.tolist())
    table = {"id": np.arange(30), "logits": column, "label": LABELS, "embedding": embedding, "score": BESIDE["conf"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=7)
    read = read_logits(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read.logits, LOGITS.astype(np.float16) if kind == "half" else LOGITS)
    np.testing.assert_array_equal(read.labels, LABELS)
    assert (read.class_names, read.provenance["unused"]) == (None, "embedding, score")


def test_lists_as_text_in_csv_as_pandas_writes_them(tmp_path):
    for cells in ([row.tolist() for row in LOGITS], [str(row) for row in LOGITS]):
        pd.DataFrame({"logits": cells, "label": LABELS}).to_csv(tmp_path / "a.csv", index=False)
        read = read_logits(tmp_path / "a.csv")
        np.testing.assert_allclose(read.logits, LOGITS, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(read.labels, LABELS)


def test_lists_that_are_no_logits_are_refused(tmp_path):
    features, ids = pa.array(FEATURES.tolist()), pa.array(np.tile([3, 1], (30, 1)).tolist())
    cases = [
        ({"embedding": features, "label": LABELS}, r"columns of lists are called \['embedding'\], not like logits"),
        ({"one": features, "two": features}, r"\['one', 'two'\] hold lists of numbers; call the one"),
        ({"ids": ids, "logprobs": pa.array(np.tile([-0.1, -3.0], (30, 1)).tolist())}, "the most probable classes of"),
        ({"logits": pa.array([[[1.0, 2.0]]])}, r"'logits' holds neither numbers nor lists of numbers.*\(B, L, C\)"),
    ]
    for table, message in cases:
        pq.write_table(pa.table(table), tmp_path / "a.parquet")
        with pytest.raises(CistError, match=message):
            read_logits(tmp_path / "a.parquet")


# The decision alone


@pytest.mark.parametrize(
    ("names", "kinds", "classes", "label"),
    [
        ("c0 c1 c2 conf margin loss", "fffFff", (0, 1, 2), None),
        ("neg pos y_hat label", "ffii", (0, 1), 3),
        ("score_a score_b y", "ffi", (0, 1), 2),
        ("label class_0 class_1", "iff", (1, 2), 0),
        ("label y_true class_0 class_1", "iiff", (2, 3), 0),
        ("c4 c5 saab volvo", "ffff", (0, 1, 2, 3), None),
        ("X1 X2 X3 truth", "fffi", (0, 1, 2), 3),
        ("m_0 m_1 conf loss fold", "ffffi", (0, 1), None),
        ("prob_true prob_false", "ff", (0, 1), None),
    ],
)
def test_roles_by_name_and_kind(names, kinds, classes, label):
    known = {"f": Kind.FRACTIONS, "F": Kind.FRACTIONS, "i": Kind.INTEGERS, "t": Kind.TEXT}
    roles = find_roles(names.split(), [known[kind] for kind in kinds])
    assert (roles.classes, roles.label) == (classes, label)
