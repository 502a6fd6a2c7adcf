"""Files that promise what they do not hold, or unfold without an end: one sentence, little memory, no code."""

import io
import json
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cist_core import CistError, LogitSet, read_logits
from cist_core.logits.files import UPLOAD_LIMITS, Limits, read_labels

LOGITS = np.arange(12, dtype=np.float32).reshape(4, 3)


def npy(shape, dtype="<f4", content=b"", fortran=False):
    """An ``.npy`` of any header over any content."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npz(path, members, kind=zipfile.ZIP_STORED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of two members of one name
        for name, content in members:
            archive.writestr(name, content)


def zeros_npz(path, count):
    """Zeros without an end, packed."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("logits.npy", "w") as stream,
    ):
        stream.write(npy((count // 10, 10)))
        for _ in range(4 * count >> 20):
            stream.write(bytes(1 << 20))


def claimed_size(path, size):
    """The same archive, whose directory says that its only member has another size."""
    content = bytearray(path.read_bytes())
    directory = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, directory + 24, size)
    path.write_bytes(content)


def expanded(path):
    torch.save({"logits": torch.zeros(1).expand(10**9, 10**9)}, path)


def overlapping(path):
    torch.save(torch.zeros(1001).as_strided((1000, 1000), (0, 1)), path)


def packed_torch(path):
    torch.save({"logits": torch.zeros(4, 3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    npz(path, members, zipfile.ZIP_DEFLATED)


def beyond_its_storage(path):
    """A tensor of another size than its storage: the size in the pickle is changed by hand."""
    torch.save({"logits": torch.zeros(4, 250)}, path)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    npz(path, [(name, data.replace(b"K\x04K\xfa\x86", b"K\xffK\xff\x86", 1)) for name, data in members])


def run_length_parquet(path):
    zeros = pa.array(np.zeros(1 << 20, np.float32))
    with pq.ParquetWriter(path, pa.schema([(f"c{index}", pa.float32()) for index in range(2)])) as writer:
        for _ in range(40):
            writer.write_table(pa.table({"c0": zeros, "c1": zeros}))


def deep_metadata(path):
    header = json.dumps(
        {
            "__metadata__": {"provenance": "[" * 100_000},
            "logits": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]},
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + LOGITS.tobytes())


BIG = npy((4, 3), content=LOGITS.tobytes())

CASES = [
    ("a.npy", lambda p: p.write_bytes(npy((10**6, 10))), r"\(1000000, 10\), 40,000,000 bytes, but 0 are there"),
    ("a.npy", lambda p: p.write_bytes(npy((2**32, 2**32))), "values, and at most 268,435,456 are read"),
    ("a.npy", lambda p: p.write_bytes(npy((0, 2**60))), "at most 262,144 classes are read|at least 1 sample"),
    ("a.npy", lambda p: p.write_bytes(npy((2**60, 0))), "at least 1 sample and 2 classes"),
    ("a.npy", lambda p: p.write_bytes(npy((-4, 3), content=bytes(48))), "damaged header|shape"),
    ("a.npy", lambda p: p.write_bytes(npy((4, 3), "<f0", bytes(48))), "a.npy"),
    ("a.npy", lambda p: p.write_bytes(npy((4, 3), "<f4", bytes(47))), "the file is cut off or damaged"),
    ("a.npy", lambda p: p.write_bytes(npy((4, 3), "|V12", bytes(144))), "neither numbers nor text"),
    ("a.npy", lambda p: p.write_bytes(npy((4, 3), "<M8[s]", bytes(96))), "neither numbers nor text"),
    ("a.npy", lambda p: np.save(p, np.zeros(4, [("a", "f4"), ("b", "f4")])), "neither numbers nor text"),
    ("a.npy", lambda p: np.save(p, np.array([["1", "2"]])), "real numbers, but got the type <U1"),
    ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(9)), "header of 2,147,483,647"),
    ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY\x09\x00" + bytes(100)), "in version 9 of NumPy's format"),
    ("a.npy", lambda p: p.write_bytes(npy("(" * 3000 + ")" * 3000, content=LOGITS.tobytes())), "damaged header"),
    ("a.npz", lambda p: zeros_npz(p, 80 << 20), r"'logits' unfolds .* to 335,544,320, which logits never do"),
    ("a.npz", lambda p: npz(p, [("logits.npy", npy((10**6, 100)))]), "promises the shape .*, but the archive has 0"),
    ("a.npz", lambda p: npz(p, [("logits.npy", BIG + bytes(8))]), "48 bytes, but the archive has 56"),
    ("a.npz", lambda p: (npz(p, [("logits.npy", BIG)]), claimed_size(p, 1 << 30)), "promises 1,073,741,824 bytes in"),
    ("a.npz", lambda p: npz(p, [("logits.npy", BIG)] * 2), "two members called 'logits.npy'"),
    ("a.npz", lambda p: npz(p, [(f"{i}.npy", BIG) for i in range(101)]), "has 101 members, and at most 100"),
    ("a.npz", lambda p: npz(p, [("logits.npy", BIG)], zipfile.ZIP_LZMA), "packed in another way than NumPy"),
    ("a.npz", lambda p: npz(p, [("inner.npz", BIG), ("../../logits.txt", BIG)]), r"found the arrays \[\], but none"),
    ("a.npz", lambda p: npz(p, [("logits.npy", b"(dp0\n.")]), "'logits' is not in NumPy's format"),
    ("a.npz", lambda p: np.savez(p, logits=LOGITS, classes=np.array(["x" * 10**6] * 3)), "'classes' is 12,000,000"),
    ("a.pt", expanded, r"'logits' has the shape \(1000000000, 1000000000\), .* values"),
    ("a.pt", overlapping, r"the shape \(1000, 1000\), but the file holds 4,004 bytes of it, shown many times"),
    ("a.pt", packed_torch, "is packed, which torch.save does not do"),
    ("a.pt", beyond_its_storage, "a.pt"),
    ("a.pt", lambda p: torch.save({"logits": torch.zeros(4, 3).to_sparse()}, p), "not a plain tensor in memory"),
    ("a.pt", lambda p: torch.save({"logits": torch.zeros(4, 3, device="meta")}, p), "not a plain tensor in memory"),
    ("a.safetensors", lambda p: p.write_bytes(b"\xff" * 8 + b"{}"), "header of this safetensors file is .* bytes long"),
    ("a.safetensors", lambda p: p.write_bytes(struct.pack("<Q", 1 << 20) + b"{}"), "not a readable safetensors"),
    ("a.safetensors", deep_metadata, "damaged metadata"),
    ("a.csv", lambda p: p.write_bytes(b"a,b\n1," + b"2" * (6 << 20)), "one line is 5,242,877 bytes long, and at most"),
    ("a.csv", lambda p: p.write_bytes(b'a,b\n1,"' + b"2,3\n" * (2 << 20)), "one line is"),
    ("a.csv", lambda p: p.write_bytes(b"a" + b",a" * 40_000 + b"\n1"), "has 40,001 columns, and at most 32,768"),
    ("a.csv", lambda p: p.write_bytes(b"a,b,c\n" + b"\n" * 10_000 + b"1,2,x\n"), "column 'c' is not numeric"),
    ("a.csv", lambda p: p.write_bytes(b"a,b\n1,\xff\xfe\n"), "a.csv"),
    ("a.parquet", run_length_parquet, "the table unfolds .* bytes to 335,544,320"),
    ("a.parquet", lambda p: pq.write_table(pa.table([[1.0], [2.0]], names=["a", "a"]), p), "two columns have the same"),
    ("a.parquet", lambda p: pq.write_table(pa.table({"a": [[[1.0]]], "b": [1.0]}), p), "found 1 column of logits"),
    ("a.parquet", lambda p: pq.write_table(pa.table({"logits": [[[1.0]]]}), p), "neither numbers nor lists of numbers"),
    ("a.parquet", lambda p: pq.write_table(pa.table({"logits": [[1.0, 2.0], [1.0]]}), p), "row 1 holds 1 numbers"),
    ("a.parquet", lambda p: pq.write_table(pa.table({"logits": [[1.0, 2.0], None]}), p), "row 1 holds nothing"),
    ("a.csv", lambda p: p.write_text('logits\n"[1, 2]"\n"[1, x]"\n'), "row 1 holds something else than numbers"),
    ("a.parquet", lambda p: pd.DataFrame({"a": [], "b": []}).to_parquet(p), "a header, but no rows"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "message"), CASES)
def test_refused_with_a_sentence_and_in_little_memory(tmp_path, name, write, message):
    path = tmp_path / name
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(CistError, match=message) as caught:
            read_logits(path, limits=UPLOAD_LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < len(str(path)) + 500
    assert peak < 48 << 20
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("name", "write"), [("a.npz", lambda path: zeros_npz(path, 80 << 20))])
def test_labels_are_read_within_the_same_limits(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(CistError, match=f"{name}: 'logits' unfolds"):
        read_labels(tmp_path / name, count=4, classes=3, limits=UPLOAD_LIMITS)


def test_only_what_is_needed_is_read(tmp_path):
    images = npy((1 << 20, 64), content=b"")  # promises much and holds nothing, and is none of our business
    inner = io.BytesIO()
    np.save(inner, np.array([{}], object), allow_pickle=True)
    npz(tmp_path / "a.npz", [("images.npy", images), ("notes.npy", inner.getvalue()), ("logits.npy", BIG)])
    np.testing.assert_array_equal(read_logits(tmp_path / "a.npz", limits=UPLOAD_LIMITS).logits, LOGITS)


def test_a_member_with_a_wrong_checksum_is_refused(tmp_path):
    npz(tmp_path / "a.npz", [("logits.npy", BIG)])
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(LOGITS.tobytes(), LOGITS[::-1].tobytes()))
    with pytest.raises(CistError, match=r"a.npz cannot be read as .npz \(Bad CRC-32"):
        read_logits(tmp_path / "a.npz")


@pytest.mark.parametrize("limits", [Limits(values=11), Limits(classes=2), Limits(columns=2)])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz", "pt", "safetensors"])
def test_every_reader_keeps_to_the_limits(tmp_path, suffix, limits):
    path = tmp_path / f"set.{suffix}"
    if suffix in ("csv", "parquet"):
        frame = pd.DataFrame(LOGITS, columns=list("abc"))
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    elif limits.columns == 2:
        return  # arrays have no columns
    elif suffix == "npy":
        np.save(path, LOGITS)
    elif suffix == "npz":
        np.savez(path, LOGITS)
    elif suffix == "pt":
        torch.save(torch.from_numpy(LOGITS), path)
    else:
        LogitSet.create(LOGITS).save(path)
    with pytest.raises(CistError, match=r"at most (11|2)( classes)? are read"):
        read_logits(path, limits=limits)
    assert read_logits(path).num_samples == 4
