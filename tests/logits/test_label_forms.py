"""Labels in every form that people keep them in, beside the logits and in files of their own; and text tables."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import run
from safetensors.numpy import save_file

from cist_core import CistError, LogitSet, read_logits
from cist_core.logits.files import read_labels
from cist_core.logits.files.separators import decimal_mark, separator

RNG = np.random.default_rng(23)
LOGITS = RNG.normal(0, 2, (40, 5)).astype(np.float32)
LABELS = RNG.integers(0, 5, 40)
NAMES = ["tit", "owl", "eagle", "crow", "auk"]
WORDS = np.array(NAMES)[LABELS]
ONE_HOT = np.eye(5)[LABELS]

FORMS = {
    "numbers": LABELS,
    "column": LABELS[:, None],
    "row": LABELS[None, :],
    "floats": LABELS.astype(np.float64),
    "bytes": LABELS.astype(np.uint8),
    "text": LABELS.astype(str),
    "one-hot": ONE_HOT,
    "one-hot, whole": ONE_HOT.astype(np.int8),
    "one-hot, yes and no": ONE_HOT.astype(bool),
    "names": WORDS,
    "names in a column": WORDS[:, None],
    "names in capitals": np.char.upper(WORDS),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_beside_the_logits(tmp_path, form):
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=FORMS[form], classes=NAMES)
    read = read_logits(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.labels, LABELS)
    said = {"one-hot": "one-hot, the place of each 1", "names": "names of the classes"}
    assert read.provenance.get("labels") == next((said[key] for key in said if form.startswith(key)), None)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_python(form):
    made = LogitSet.create(LOGITS, FORMS[form], class_names=NAMES)
    np.testing.assert_array_equal(made.labels, LABELS)


@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "safetensors", "csv", "tsv", "parquet", "txt"])
@pytest.mark.parametrize("form", ["numbers", "column", "one-hot", "names"])
def test_every_form_in_every_file_of_labels(tmp_path, suffix, form):
    path, values = tmp_path / f"labels.{suffix}", FORMS[form]
    if suffix in ("pt", "safetensors") and form == "names":
        pytest.skip("tensors hold no words")
    if suffix in ("csv", "tsv", "parquet", "txt") and form in ("column", "one-hot"):
        pytest.skip("one label a row")
    if suffix == "npy":
        np.save(path, values)
    elif suffix == "npz":
        np.savez(path, index=np.arange(40), gt=values)
    elif suffix == "pt":
        torch.save({"label_ids": torch.from_numpy(values), "index": torch.arange(40)}, path)
    elif suffix == "safetensors":
        save_file({"y_true": np.ascontiguousarray(values), "index": np.arange(40)}, path)
    elif suffix == "txt":
        path.write_text("\n".join(map(str, values)))
    else:
        table = pd.DataFrame({"index": np.arange(40), "ground_truth": values})
        if suffix == "parquet":
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    np.savez(tmp_path / "a.npz", logits=LOGITS, classes=NAMES)
    read = read_logits(tmp_path / "a.npz", labels=path)
    np.testing.assert_array_equal(read.labels, LABELS)
    if suffix not in ("npy", "txt"):
        assert read.provenance["unused beside the labels"].startswith("index")
    np.testing.assert_array_equal(read_labels(path, count=40, classes=5, class_names=NAMES), LABELS)


def test_a_label_of_minus_100_leaves_its_sample_out(tmp_path):
    labels = np.where(np.arange(40) % 8 == 0, -100, LABELS)
    kept = labels >= 0
    for name, path in (("labels", None), ("other", tmp_path / "l.npy")):
        np.savez(tmp_path / "a.npz", **{"logits": LOGITS, name: labels})
        np.save(tmp_path / "l.npy", labels)
        read = read_logits(tmp_path / "a.npz", labels=path)
        np.testing.assert_array_equal(read.logits, LOGITS[kept])
        np.testing.assert_array_equal(read.labels, LABELS[kept])
        assert read.provenance["left out"] == "5 of 40 samples: label -100"
    pd.DataFrame({**{f"c{place}": LOGITS[:, place] for place in range(5)}, "label": labels}).to_csv(
        tmp_path / "a.csv", index=False
    )
    np.testing.assert_array_equal(read_logits(tmp_path / "a.csv").labels, LABELS[kept])
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=np.full(40, -100))
    with pytest.raises(CistError, match=r"a.npz: none of the 40 samples is left: label -100"):
        read_logits(tmp_path / "a.npz")


def test_rows_of_padding_are_no_evidence_of_what_the_numbers_are(tmp_path):
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    shares[3] = 0
    np.savez(tmp_path / "a.npz", probs=shares, labels=np.where(np.arange(40) == 3, -100, LABELS))
    assert read_logits(tmp_path / "a.npz").provenance["given_as"].startswith("probabilities")


def test_the_command_line_says_what_became_of_the_labels(capsys, tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOGITS, ground_truth=np.where(np.arange(40) == 3, -100, LABELS))
    code, out, err = run(capsys, "analyze", "--logits", tmp_path / "a.npz", "--tau", 2)
    assert code == 0
    assert out.startswith("39 samples, 5 classes, accuracy")
    assert err == ""
    assert "\nLabels: from 'ground_truth'.\nLeft out: 1 of 40 samples: label -100.\n" in out


def test_names_without_names_of_the_classes_are_taken_in_alphabetical_order_and_that_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=WORDS)
    read = read_logits(tmp_path / "a.npz")
    assert read.class_names == tuple(sorted(NAMES))
    np.testing.assert_array_equal(np.array(read.class_names)[read.labels], WORDS)
    assert read.provenance["labels"].startswith("names; the columns of the logits were taken to be in their alph")
    columns = {f"logit_{place}": LOGITS[:, place] for place in range(5)}  # which name no class
    pd.DataFrame({**columns, "label": WORDS}).to_csv(tmp_path / "a.csv", index=False)
    assert read_logits(tmp_path / "a.csv").class_names == tuple(sorted(NAMES))
    np.savez(tmp_path / "b.npz", logits=LOGITS, labels=np.where(WORDS == "auk", "owl", WORDS))
    with pytest.raises(
        CistError, match=r"b.npz: Expected integer labels .* words such as .*, and the classes have no n"
    ):
        read_logits(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(np.arange(40) == 7, "kiwi", WORDS), "label of sample 7 is 'kiwi', which is none of the 5 classes"),
        (np.eye(6)[LABELS], r"or one-hot ones of the shape \(40, 5\), but got float64 of the shape \(40, 6\)"),
        (ONE_HOT * 0.9 + 0.02, "a single 1 for each sample, but sample 0 has 0.92 as largest value and sums to 1"),
        (np.where(np.arange(40) == 7, np.nan, LABELS), "sample 7 has none; fill it in, or write -100"),
        (np.where(np.arange(40) == 7, "", WORDS), "sample 7 has none; fill it in, or write -100"),
        (LABELS + 1, "found 5; the logits have 5 classes. They begin at 1"),
    ],
)
def test_labels_that_cannot_be_name_the_sample(tmp_path, labels, message):
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=labels, classes=NAMES)
    with pytest.raises(CistError, match=f"a.npz: .*{message}"):
        read_logits(tmp_path / "a.npz")
    np.save(tmp_path / "l.npy", labels)
    np.savez(tmp_path / "b.npz", logits=LOGITS, classes=NAMES)
    with pytest.raises(CistError, match=f"l.npy: .*{message}"):
        read_logits(tmp_path / "b.npz", labels=tmp_path / "l.npy")


def test_labels_of_tokens_in_a_file_of_their_own(tmp_path):
    labels = np.where(np.arange(40).reshape(8, 5) % 3 == 0, -100, LABELS.reshape(8, 5))
    np.savez(tmp_path / "a.npz", logits=LOGITS.reshape(8, 5, 5))
    np.save(tmp_path / "l.npy", labels)
    read = read_logits(tmp_path / "a.npz", labels=tmp_path / "l.npy")
    np.testing.assert_array_equal(read.logits, LOGITS[labels.reshape(-1) >= 0])
    assert read.provenance["tokens"] == (
        "26 of 40 positions of 8 sequences; of (8, 5, 5), the last axis is read as the classes, which the shape does "
        "not tell; left out: label -100"
    )
    np.save(tmp_path / "l.npy", LABELS)
    np.testing.assert_array_equal(read_logits(tmp_path / "a.npz", labels=tmp_path / "l.npy").labels, LABELS)


def test_small_whole_types_of_safetensors_are_labels(tmp_path):
    for dtype in (np.int8, np.uint16, np.uint32, np.uint64):
        save_file({"logits": LOGITS, "labels": LABELS.astype(dtype)}, tmp_path / "a.safetensors")
        np.testing.assert_array_equal(read_logits(tmp_path / "a.safetensors").labels, LABELS)


# Tensors in Python


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_with_or_without_gradient(dtype):
    logits = torch.from_numpy(LOGITS).to(dtype).requires_grad_()
    made = LogitSet.create(logits, torch.from_numpy(LABELS))
    np.testing.assert_array_equal(made.logits, logits.detach().float().numpy())
    np.testing.assert_array_equal(made.labels, LABELS)
    with pytest.raises(CistError, match=r"Expected `logits` to have the shape \(samples, classes\), but got \(40,\)"):
        LogitSet.create(logits[:, 0])
    with pytest.raises(CistError, match="Expected 40 labels, one for each sample, but got 3"):
        LogitSet.create(logits, torch.zeros(3, dtype=torch.long))


# Text tables

TABLE = pd.DataFrame({**{f"klasse_{place}": LOGITS[:, place] for place in range(5)}, "gt": LABELS})


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize(("between", "decimal"), [(",", "."), (";", "."), ("\t", "."), (";", ","), ("\t", ",")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheets_of_every_country(tmp_path, ending, between, decimal, encoding):
    path = tmp_path / f"set.{ending}"
    TABLE.to_csv(path, index=False, sep=between, decimal=decimal, encoding=encoding)
    read = read_logits(path)
    np.testing.assert_allclose(read.logits, LOGITS, rtol=1e-6)
    np.testing.assert_array_equal(read.labels, LABELS)
    TABLE[["gt"]].assign(file="x").to_csv(tmp_path / f"l.{ending}", index=False, sep=between, encoding=encoding)
    np.testing.assert_array_equal(read_labels(tmp_path / f"l.{ending}", count=40, classes=5), LABELS)


def test_a_separator_within_quotes_separates_nothing(tmp_path):
    names = ["owl, barn", "owl, snowy", 'say "tit"', "crow", "auk"]
    table = pd.DataFrame(LOGITS, columns=names)
    table.insert(0, "file", [f"a,{row};b.png" for row in range(40)])
    for between in ",;\t":
        table.to_csv(tmp_path / "set.csv", index=False, sep=between)
        read = read_logits(tmp_path / "set.csv")
        assert read.class_names == tuple(names)
        np.testing.assert_allclose(read.logits, LOGITS, rtol=1e-6)


def test_decimal_commas_between_commas_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "set.csv").write_text("a,b\n0,5,1,25\n1,5,2,25\n")
    with pytest.raises(
        CistError, match=r"set.csv: a row has 4 values, and the header 2 names; separate columns by semi"
    ):
        read_logits(tmp_path / "set.csv")


def test_whole_numbers_need_no_decimal_mark():
    assert separator("a") == ","
    assert decimal_mark(["1;2", "3;4"], ";") == "."
    assert decimal_mark(["1,5;2", "3;x"], ";") == ","
    assert decimal_mark(["1.5;2,5", "3.5;4"], ";") == "."


def test_labels_in_lists_of_a_table(tmp_path):
    table = {"logits": pa.array(LOGITS.tolist()), "label": pa.array(ONE_HOT.tolist())}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    read = read_logits(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read.labels, LABELS)
    assert read.provenance["labels"] == "one-hot, the place of each 1"
    pq.write_table(pa.table({"x": np.arange(40), "label": table["label"]}), tmp_path / "l.parquet")
    np.testing.assert_array_equal(read_labels(tmp_path / "l.parquet", count=40, classes=5), LABELS)


@pytest.mark.parametrize("between", [";", "\t", ","])
def test_the_line_with_the_separator_that_excel_writes_is_no_header(tmp_path, between):
    text = TABLE.to_csv(index=False, sep=between)
    (tmp_path / "set.csv").write_text(f"sep={between}\r\n{text}")
    read = read_logits(tmp_path / "set.csv")
    np.testing.assert_allclose(read.logits, LOGITS, rtol=1e-6)
    np.testing.assert_array_equal(read.labels, LABELS)
