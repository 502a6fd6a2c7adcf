"""Reading other people's files: every kind comes back as the same set, every bad one as one clear sentence."""

import json
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from cist_core import CistError, LogitSet, read_logits
from cist_core.logits.files import read_labels

LOGITS = np.array([[2.5, 0.0, -1.0], [0.25, 3.0, 0.0]], np.float32)
LABELS = np.array([0, 2])


def write_safetensors(path, logits, labels):
    LogitSet.create(logits, labels).save(path)


def write_npz(path, logits, labels):
    np.savez(path, images=np.zeros((2, 4, 4)), logits=logits, labels=labels)


def write_torch(path, logits, labels):
    torch.save({"logits": torch.from_numpy(logits).requires_grad_(), "targets": torch.from_numpy(labels)}, path)


def write_csv(path, logits, labels):
    pd.DataFrame({**dict(zip("abc", logits.T, strict=True)), "Label": labels}).to_csv(path, index=False)


def write_parquet(path, logits, labels):
    pd.DataFrame({"y": labels, **dict(zip("abc", logits.T, strict=True))}).to_parquet(path)


WRITERS = {
    "set.safetensors": write_safetensors,
    "set.npz": write_npz,
    "set.pt": write_torch,
    "set.PTH": write_torch,
    "set.csv": write_csv,
    "set.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_set(tmp_path, name):
    WRITERS[name](tmp_path / name, LOGITS, LABELS)
    logit_set = read_logits(tmp_path / name)
    assert logit_set.logits.dtype == np.float32
    np.testing.assert_array_equal(logit_set.logits, LOGITS)
    np.testing.assert_array_equal(logit_set.labels, LABELS)
    assert logit_set.fingerprint == LogitSet.create(LOGITS, LABELS).fingerprint
    unused = {"unused": "images (2, 4, 4)"} if name == "set.npz" else {}
    assert dict(logit_set.provenance) == ({} if name == "set.safetensors" else {"file": name, **unused})
    assert logit_set.class_names == (("a", "b", "c") if name.endswith(("csv", "parquet")) else None)


def test_npy_is_memory_mapped(tmp_path):
    np.save(tmp_path / "set.npy", LOGITS.astype(np.float16))
    logit_set = read_logits(tmp_path / "set.npy")
    assert isinstance(logit_set.logits, np.memmap)
    assert logit_set.labels is None
    np.testing.assert_array_equal(logit_set.logits, LOGITS)


def test_npy_in_fortran_order_and_double_precision(tmp_path):
    np.save(tmp_path / "set.npy", np.asfortranarray(LOGITS.astype(np.float64)))
    np.testing.assert_array_equal(read_logits(tmp_path / "set.npy").logits, LOGITS)


@pytest.mark.parametrize("label", ["labels", "label", "targets", "target", "y"])
def test_npz_finds_labels_and_the_only_matrix_by_any_name(tmp_path, label):
    np.savez(tmp_path / "set.npz", scores=LOGITS, **{label: LABELS}, classes=np.array(["cat", "dog", "owl"]))
    logit_set = read_logits(tmp_path / "set.npz")
    np.testing.assert_array_equal(logit_set.logits, LOGITS)
    assert logit_set.labels.tolist() == [0, 2]
    assert logit_set.class_names == ("cat", "dog", "owl")


def test_npz_prefers_the_matrix_called_logits(tmp_path):
    np.savez(tmp_path / "set.npz", features=np.ones((2, 7)), logits=LOGITS)
    np.testing.assert_array_equal(read_logits(tmp_path / "set.npz").logits, LOGITS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_bare_tensor_of_any_precision(tmp_path, dtype):
    torch.save(torch.from_numpy(LOGITS).to(dtype), tmp_path / "set.pt")
    np.testing.assert_array_equal(read_logits(tmp_path / "set.pt").logits, LOGITS)


def test_class_names_of_a_torch_file(tmp_path):
    torch.save({"logits": torch.from_numpy(LOGITS), "label": [0, 2], "classes": ["a", "b", "c"]}, tmp_path / "set.pt")
    logit_set = read_logits(tmp_path / "set.pt")
    assert logit_set.class_names == ("a", "b", "c")
    assert logit_set.labels.tolist() == [0, 2]


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_no_code_runs_from_a_torch_file(tmp_path):
    torch.save({"logits": torch.zeros(2, 2), "x": Payload(str(tmp_path / "ran"))}, tmp_path / "set.pt")
    with pytest.raises(
        CistError, match=r"set.pt: this is damaged, or holds objects whose loading could run code; save a tensor"
    ):
        read_logits(tmp_path / "set.pt")
    assert not (tmp_path / "ran").exists()


def test_no_code_runs_from_a_numpy_file(tmp_path):
    np.savez(tmp_path / "set.npz", logits=np.array([Payload(str(tmp_path / "ran"))], object))
    np.save(tmp_path / "set.npy", np.array([Payload(str(tmp_path / "ran"))], object), allow_pickle=True)
    for name in ("set.npz", "set.npy"):
        with pytest.raises(CistError, match=f"{name}: .* holds Python objects, whose loading could run code; store"):
            read_logits(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".npz", ".pt", ".pth", ".csv", ".parquet"])
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02 nothing of the kind \xff\xfe"], ids=["empty", "garbage"])
def test_damaged_files_are_named(tmp_path, suffix, content):
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    with pytest.raises(CistError, match=f"set{suffix}") as caught:
        read_logits(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2 * len(str(path)) + 250


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.endswith("csv")])
def test_truncated_files_are_named(tmp_path, name):
    WRITERS[name](tmp_path / name, np.tile(LOGITS, (100, 1)), np.tile(LABELS, 100))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CistError, match=name):
        read_logits(tmp_path / name)


def _mutations(content, count, seed):
    """Copies with a few bytes changed, cut out or doubled."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            start = int(rng.integers(len(mutated)))
            kind = rng.integers(4)
            if kind == 0:
                del mutated[start : start + int(rng.integers(1, 40))]
            elif kind == 1:
                mutated[start:start] = mutated[start : start + 8]
            else:
                mutated[start] = rng.integers(256)
        yield bytes(mutated)


@pytest.mark.parametrize("name", [*WRITERS, "set.npy", "deflated.npz"])
def test_damage_anywhere_gives_a_set_or_one_sentence(tmp_path, name):
    path = tmp_path / name
    logits = np.tile(LOGITS, (4, 1))
    if name == "set.npy":
        np.save(path, logits)
    elif name == "deflated.npz":
        np.savez_compressed(path, logits=logits)
    else:
        WRITERS[name](path, logits, np.tile(LABELS, 4))
    messages = []
    for content in _mutations(path.read_bytes(), 150, seed=0):
        path.write_bytes(content)
        try:
            assert read_logits(path).logits.ndim == 2
        except CistError as error:
            messages.append(str(error))
    assert messages
    assert all(name in message and "\n" not in message for message in messages)


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".npz", ".pt", ".csv", ".parquet"])
def test_missing_files_are_named(tmp_path, suffix):
    with pytest.raises(CistError, match=f"There is no file .*none{suffix}"):
        read_logits(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("name", ["set.xlsx", "set"])
def test_unknown_endings_list_the_known_ones(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(
        CistError, match=r"has the ending '(.xlsx)?'; logits are read from .safetensors, .npy, .npz, .pt"
    ):
        read_logits(tmp_path / name)


def _npy_called_npz(path):
    np.save(path.with_suffix(".npy"), LOGITS)
    path.with_suffix(".npy").rename(path)


def _npz_called_npy(path):
    np.savez(path.with_suffix(".npz"), LOGITS)
    path.with_suffix(".npz").rename(path)


def _zip_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.txt", "1 2 3")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npz", lambda path: np.savez(path, a=LOGITS, b=LOGITS), r"a.npz: found the arrays \['a', 'b'\], but none"),
        (
            "a.npz",
            lambda path: np.savez(path, a=LABELS),
            r"found the arrays \['a'\], but none named 'logits'; name the",
        ),
        ("a.npz", lambda path: np.savez(path, logits=LOGITS, labels=[0]), "a.npz: Expected 2 labels"),
        ("a.npz", _npy_called_npz, "not an .npz archive; write it with"),
        ("a.npz", _zip_of_text, "a.npz: found the arrays"),
        ("a.npy", lambda path: np.save(path, LABELS), r"a.npy: Expected `logits` to have the shape"),
        ("a.npy", _npz_called_npy, "a.npy: the array is not in NumPy's format; write it with numpy.save"),
        ("a.npy", lambda path: np.save(path, np.array([[1.0, np.nan]])), "sample 0, class 1 is nan"),
        ("a.pt", lambda path: torch.save([1, 2], path), "a.pt: expected a tensor or a dict of tensors, but got a list"),
        ("a.pt", lambda path: torch.save({"w": torch.ones(2), "b": torch.ones(1)}, path), "but none named 'logits'"),
        ("a.pt", lambda path: torch.save({"fc.weight": torch.ones(2, 3)}, path), r"weights of a network \(fc.weight"),
        ("a.pt", lambda path: torch.save({"logits": "text"}, path), "a.pt: Expected `logits` to have the shape"),
        ("a.csv", lambda path: path.write_text("a|b|c\n1|2|3\n"), "found 0 columns of logits .* keep one numeric"),
        ("a.csv", lambda path: path.write_text("a,b,label\n1,x,0\n"), "column 'b' is not numeric"),
        ("a.csv", lambda path: path.write_text("a,b,label\n1,2,cat\n"), "sample 0 is 'cat', which is none of the 2 cl"),
        ("a.csv", lambda path: path.write_text("a,b,label\n1,2,\n"), "Expected integer labels from 0 to 1"),
        ("a.csv", lambda path: path.write_text("a,b\n1,2\n3,\n"), "value at sample 1, class 1 is nan"),
        ("a.csv", lambda path: path.write_text("a,b\n1,2\n3,1e39\n"), "value at sample 1, class 1 is inf"),
        ("a.csv", lambda path: path.write_text("a,b\n"), "the table has a header, but no rows of numbers"),
        ("a.csv", lambda path: path.write_text("a,b\n1,2\n1,2,3\n"), "a.csv cannot be read as .csv"),
        ("a.csv", lambda path: path.write_text("1.5,-0.25\n1,2\n"), "first line holds numbers.*add a header"),
        ("a.csv", lambda path: path.write_text("2.0,-1.5,0.3\n1,2,3\n"), r"a.csv: the first line .*\(2.0, .*a header"),
        ("a.csv", lambda path: path.write_text("3,1,0\n1,2,3\n"), r"holds numbers \(3, ...\).*add a header"),
        ("a.csv", lambda path: path.write_text("0,0,0\n1,2,3\n"), "first line holds numbers"),
        ("a.csv", lambda path: path.write_text("2.0,NA,0.3\n1,2,3\n"), "first line holds numbers"),
        ("a.csv", lambda path: path.write_text("a,name\n1,x\n"), "'name'.* cannot be logits.*such as 'id' or"),
        (
            "a.csv",
            lambda path: path.write_text("cat,dog,owl\n1,2,x\n3,4,5\n"),
            "column 'owl' is not numeric: it holds n",
        ),
        ("a.csv", lambda path: path.write_text(",a,b\n0.5,1,2\n"), "column 1 has no name; give it that of its class"),
        ("a.csv", lambda path: path.write_text("a,b,\n1,2,\n"), "column 3 has no name; give it that of its class"),
        ("a.parquet", lambda path: pd.DataFrame({"a": ["x"], "b": [1]}).to_parquet(path), "column 'a' is not numeric"),
    ],
)
def test_files_that_do_not_hold_logits_say_why(tmp_path, name, write, message):
    path = tmp_path / name
    write(path)
    with pytest.raises(CistError, match=message):
        read_logits(path)


def test_whole_numbers_are_names_of_classes(tmp_path):
    pd.DataFrame(LOGITS).to_csv(tmp_path / "set.csv", index=False)
    assert read_logits(tmp_path / "set.csv").class_names == ("0", "1", "2")
    (tmp_path / "set.csv").write_text("0, 1, A, label\n1, 2, 3, 2\n")  # digits, then letters; a space after each comma
    logit_set = read_logits(tmp_path / "set.csv")
    assert (logit_set.class_names, logit_set.accuracy) == (("0", "1", "A"), 1.0)


@pytest.mark.parametrize(
    ("name", "values"),
    [("id", [17, 4]), ("Index", [0, 1]), ("image", ["a.png", "b.png"]), ("filename", ["a.png", "a.png"])],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_names_the_samples_is_not_a_class(tmp_path, name, values, suffix):
    table = pd.DataFrame({name: values, **dict(zip("abc", LOGITS.T, strict=True)), "label": LABELS})
    path = tmp_path / f"set{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    logit_set = read_logits(path)
    np.testing.assert_array_equal(logit_set.logits, LOGITS)
    assert logit_set.class_names == ("a", "b", "c")
    assert logit_set.provenance["identifiers"] == name


@pytest.mark.parametrize("index", [None, ["x", "y"]])
def test_the_index_that_pandas_writes_is_not_a_class(tmp_path, index):
    pd.DataFrame(LOGITS, index=index).to_csv(tmp_path / "set.csv")
    logit_set = read_logits(tmp_path / "set.csv")
    assert logit_set.class_names == ("0", "1", "2")
    assert logit_set.provenance["identifiers"] == "the first, without a name"


@pytest.mark.parametrize(
    ("name", "values"),
    [("id", [0.5, -1.5]), ("path", [3.0, 0.25]), ("image", [2, 2]), ("cat", [1, 2]), ("rowing boat", [1, 2])],
)
def test_a_column_of_numbers_that_may_be_logits_is_a_class(tmp_path, name, values):
    pd.DataFrame({name: values, "a": [1.5, 2.5]}).to_csv(tmp_path / "set.csv", index=False)
    logit_set = read_logits(tmp_path / "set.csv")
    assert logit_set.class_names == (name, "a")
    assert "identifiers" not in logit_set.provenance


def test_the_index_of_a_parquet_table_is_not_a_class(tmp_path):
    pd.DataFrame(LOGITS, columns=list("abc"), index=["x", "y"]).to_parquet(tmp_path / "set.parquet")
    assert read_logits(tmp_path / "set.parquet").class_names == ("a", "b", "c")


def test_bfloat16_of_a_safetensors_file(tmp_path):
    from safetensors.torch import save_file

    wide = torch.from_numpy(np.tile(LOGITS, (3, 1))).to(torch.bfloat16)
    save_file({"logits": wide}, tmp_path / "set.safetensors")
    logit_set = read_logits(tmp_path / "set.safetensors")
    assert logit_set.logits.dtype == np.float32
    np.testing.assert_array_equal(logit_set.logits, wide.float().numpy())


def test_names_and_provenance_of_our_own_files_come_back(tmp_path):
    saved = LogitSet.create(LOGITS, LABELS, class_names=["a", "b", "c"], provenance={"teacher": "t"})
    saved.save(tmp_path / "set.safetensors")
    logit_set = read_logits(tmp_path / "set.safetensors")
    assert (logit_set.class_names, dict(logit_set.provenance)) == (("a", "b", "c"), {"teacher": "t"})
    assert isinstance(logit_set.logits, np.memmap)


def test_published_logits_are_read(shared_file):
    logit_set = read_logits(shared_file("imagenet1k_sample_efflite0_logits.npz"))
    assert (logit_set.num_samples, logit_set.num_classes) == (1000, 1000)
    assert logit_set.accuracy == pytest.approx(0.883)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("l.npy", lambda path: np.save(path, LABELS)),
        ("l.npz", lambda path: np.savez(path, images=np.zeros(3), targets=LABELS)),
        ("l.npz", lambda path: np.savez(path, LABELS)),
        ("l.csv", lambda path: path.write_text("file,label\na.png,0\nb.png,2\n")),
        ("l.csv", lambda path: path.write_text("digit\n0\n2\n")),
        ("l.txt", lambda path: path.write_text("0\n2\n")),
        ("l.pt", lambda path: torch.save({"logits": torch.zeros(2, 3), "y": [0, 2]}, path)),
        ("l.parquet", lambda path: pd.DataFrame({"file": ["a", "b"], "label": [0, 2]}).to_parquet(path)),
    ],
)
def test_labels_of_their_own_file(tmp_path, name, write):
    write(tmp_path / name)
    labels = read_labels(tmp_path / name, count=2, classes=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("l.txt", lambda path: None, "There is no file .*l.txt"),
        (
            "l.json",
            lambda path: path.write_text(json.dumps([0, 2])),
            "ending '.json'; labels are read from .safetensors, .npy, .npz",
        ),
        (
            "l.txt",
            lambda path: path.write_text("zero\none\n"),
            "l.txt: Expected integer labels .* words such as 'zero'",
        ),
        (
            "l.txt",
            lambda path: path.write_text("0\n" * 2000),
            "l.txt: Expected 2 labels, one a line, but .* 4,000 b",
        ),
        ("l.txt", lambda path: path.write_text(""), r"l.txt: Expected 2 labels.*got 0"),
        ("l.txt", lambda path: path.write_text("0\n3\n"), "l.txt: Expected labels from 0 to 2, but found 3"),
        (
            "l.csv",
            lambda path: path.write_text("a,b\n0,1\n"),
            r"found the columns \['a', 'b'\], but none named 'label'",
        ),
        ("l.npz", lambda path: np.savez(path, a=LABELS, b=LABELS), r"found the arrays \['a', 'b'\], but none named"),
    ],
)
def test_bad_label_files_say_why(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(CistError, match=message):
        read_labels(tmp_path / name, count=2, classes=3)
