"""Data made to harm, beside what the catalogue of hostile files has: refused by name, and nothing outside is read."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cist_core.data import archives
from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.errors import CistError


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png(200))
    return tmp_path / "set"


# ---- pictures --------------------------------------------------------------------------------------------------------


def _deep() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_deep(), "16 or 32 bits"),
        (b"GIF89a" + bytes(3), "it is none of BMP, GIF|index"),
    ],
)
def test_pictures_that_harm_are_named(folder: Path, content: bytes, reason: str) -> None:
    (folder / "b" / "1.png").write_bytes(content)
    with pytest.raises(CistError, match=rf"b/1\.png is not a readable image .*({reason})"):
        load_dataset(folder).images[:]


def test_damage_anywhere_in_a_picture_gives_pixels_or_one_sentence(folder: Path) -> None:
    rng, path = np.random.default_rng(0), folder / "b" / "1.png"
    pictures = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(file, kind)
        pictures.append(file.getvalue())
    images, messages = load_dataset(folder).images, []
    for content in pictures * 20:
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        path.write_bytes(mutated)
        try:
            assert images[np.array([1])].shape == (1, 32, 32, 3)
        except CistError as error:
            messages.append(str(error))
    assert messages
    assert all(str(path) in message for message in messages)


# ---- links and paths -------------------------------------------------------------------------------------------------


def test_links_out_of_a_folder_are_refused(folder: Path) -> None:
    (folder / "a" / "2.png").symlink_to("1.png")
    assert load_dataset(folder).num_samples == 3  # inside, a link is as good as a file
    (folder / "a" / "3.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(CistError, match=r"a/3\.png', which lies outside .*/set; .*copy it there"):
        load_dataset(folder)


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert load_dataset(folder.parent / "link").num_samples == 2


@pytest.mark.parametrize(
    "name", ["../secret.png", "a/../../secret.png", "{outside}", "link/secret.png", "a\0b.png", ""]
)
def test_paths_out_of_a_table_are_refused(folder: Path, name: str) -> None:
    (folder / "link").symlink_to(folder.parent)
    name = name.format(outside=folder.parent / "secret.png")
    (folder / "list.csv").write_text(f"path,label\na/1.png,0\n{name},1\n")
    with pytest.raises(CistError, match=r"Row 2 of .*list\.csv names"):
        load_dataset(folder / "list.csv")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(
        pa.table({"image": pa.array([{"bytes": None, "path": name}], kind), "label": [0]}), folder / "list.parquet"
    )
    with pytest.raises(CistError, match=r"Image 0 of .*list\.parquet is (only named|missing)"):
        load_dataset(folder / "list.parquet").images[:]


# ---- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\n\xe9.png,0\n", r"is not UTF-8 text \(byte 11\); save it as UTF-8"),
        (b"", "has the columns .* but none of paths"),
        (b"path,what\n1.png,0\n", "but none of labels; call it 'label'"),
        (b"path,label\n", "no rows below its header"),
        (b"path,label\na/1.png,0,5\n", "Row 1 of .* has 3 values, but there are 2 columns"),
        (b"path,label\na/9.png,0\n", r"Row 1 of .* names 'a/9\.png', but there is no such file"),
        (b"path,label\na,0\n", "names 'a', but there is no such file"),
        (b"path,label\na/1.png,-1\n", "run from -1 to -1"),
        (b"path,label\na/1.png,999999999999\n", "at most 100,000 classes are read"),
        (b"path,label\na/1.png,\n", "has a row without a label"),
        (b'path,label\n"a/1.png,0\n', "cannot be read as a CSV file"),
        (b"path,label\na/1.png,x\x1b[31m\n", "holds control characters; rename it"),
        (b"path,label\na/1.png," + b"x" * 2000 + b"\n", "is longer than 1000 letters"),
        (b"path,label\n" + b"y" * 200_000 + b",0\n", "cannot be read as a CSV file"),
    ],
)
def test_csv_files_that_cannot_be_are_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "list.csv").write_bytes(content)
    with pytest.raises(CistError, match=message) as caught:
        load_dataset(folder / "list.csv")
    assert "list" in str(caught.value)


def _parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0]}, "has the columns .'label'., but none of them called 'image'"),
        ({"image": [b"x"]}, "but none of them called 'label'"),
        ({"image": [b"x"], "label": [0.5]}, "but none of them called 'label'"),
        ({"image": [b"x"], "label": [[0, 1]]}, "but none of them called 'label'"),
        ({"image": [b"x"], "label": pa.array([None], pa.int64())}, "has no label in row 0"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "holds no rows"),
        ({"image": [b"x", b"x"], "label": [0, -1]}, "run from -1 to 0"),
        ({"image": [b"x"], "label": pa.array([2**63], pa.uint64())}, "has the label 9,223,372,036,854,775,808"),
        ({"one": [b"x"], "two": [b"x"], "label": [0]}, "none of them called 'image'"),
    ],
)
def test_parquet_files_that_cannot_be_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(CistError, match=message) as caught:
        load_dataset(_parquet(tmp_path / "table.parquet", **columns))
    assert "table" in str(caught.value)


def test_null_pictures_are_named_when_they_are_read(tmp_path: Path) -> None:
    images = pa.array([png(), None], pa.binary())
    dataset = load_dataset(_parquet(tmp_path / "t.parquet", image=images, label=[0, 1]))
    with pytest.raises(CistError, match=r"Image 1 of .*t\.parquet is missing"):
        dataset.images[:]


def test_a_picture_repeated_in_a_small_file_takes_its_place_once(tmp_path: Path) -> None:
    picture = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array([bytes(1 << 16)]))
    rows, path = pa.table({"image": picture, "label": np.zeros(200_000, int)}), tmp_path / "t.parquet"
    pq.write_table(rows, path, store_schema=False)  # so that the column reads as plain bytes
    assert path.stat().st_size < 1 << 20  # 13 GB, if every row had its own
    before = pa.total_allocated_bytes()
    with pytest.raises(CistError, match=r"Image 5 of .* is not a readable image"):
        load_dataset(path).images[np.array([5])]
    assert pa.total_allocated_bytes() - before < 64 << 20


@pytest.mark.parametrize(
    "metadata",
    [
        b"{",
        b"[]",
        b'{"info": 3}',
        b"[" * 100_000,
        b'{"info": {"features": {"label": {"names": 5, "_type": "ClassLabel"}}}}',
    ],
)
def test_odd_metadata_is_left_alone(tmp_path: Path, metadata: bytes) -> None:
    rows = pa.table({"image": [png()], "label": [0]}).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(rows, tmp_path / "t.parquet")
    assert load_dataset(tmp_path / "t.parquet").class_names is None


def test_damage_anywhere_in_a_table_gives_a_set_or_one_sentence(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "table.parquet"
    cells = [{"bytes": png(value), "path": "x"} for value in range(6)]
    content = _parquet(path, image=cells, label=list("abcabc")).read_bytes()
    messages = []
    for _ in range(150):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        path.write_bytes(mutated)
        try:
            load_dataset(path).images[:]
        except CistError as error:
            messages.append(str(error))
    assert messages
    assert all("table" in message for message in messages)


# ---- saved data sets -------------------------------------------------------------------------------------------------


def _saved(folder: Path, labels: pa.Array | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    rows = pa.table({"image": [png(), png(9)], "label": pa.array([0, 1]) if labels is None else labels})
    with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return folder


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_data_files": [{"filename": "../data.arrow"}]}, r"state\.json names '\.\./data\.arrow'"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "which lies outside"),
        ({"_data_files": [{"filename": 5}]}, "names ''"),
        ({"_data_files": []}, "lists no data files"),
        ([], "lists no data files"),
        ({"_data_files": [{"filename": "absent.arrow"}]}, r"absent\.arrow cannot be read as an Arrow file"),
    ],
)
def test_states_that_lead_elsewhere_are_refused(tmp_path: Path, state: Any, message: str) -> None:
    folder = _saved(tmp_path / "set")
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CistError, match=message):
        load_dataset(folder)


@pytest.mark.parametrize("splits", [["../other"], [], "train", [3], ["/etc"]])
def test_splits_that_lead_elsewhere_are_refused(tmp_path: Path, splits: Any) -> None:
    _saved(tmp_path / "other")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(CistError, match=r"names|lists no splits"):
        load_dataset(tmp_path / "set", "train")


def test_damage_anywhere_in_an_arrow_file_gives_a_set_or_one_sentence(tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), _saved(tmp_path / "set")
    content, messages = (folder / "data.arrow").read_bytes(), []
    for _ in range(150):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        (folder / "data.arrow").write_bytes(mutated)
        try:
            load_dataset(folder).images[:]
        except CistError as error:
            messages.append(str(error))
    assert messages
    assert all("set" in message for message in messages)


# ---- NumPy archives --------------------------------------------------------------------------------------------------


def _npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def _npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    """An array, under a head that promises another shape perhaps."""
    file = io.BytesIO()
    head = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape or array.shape}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue() + array.tobytes()


@pytest.mark.parametrize("shape", [(1 << 40, 4, 4), (3, 4, 1 << 50), (2, 4, 4), (-3, 4, 4)])
def test_heads_that_promise_something_else_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    members = {"images": _npy(np.zeros((3, 4, 4), np.uint8), shape), "labels": _npy(np.arange(3))}
    with pytest.raises(CistError, match=r"bad\.npz is not a readable \.npz .*'images\.npy' promises uint8 of shape"):
        load_dataset(_npz(tmp_path / "bad.npz", **members))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SUSPICIOUS_BYTES", 1 << 20)
    path, count = tmp_path / "bomb.npz", 3000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", _npy(np.zeros(count, np.uint8)))
        with archive.open("images.npy", "w", force_zip64=True) as member:
            member.write(_npy(np.zeros((0, 32, 32), np.uint8), (count, 32, 32)))
            for _ in range(count // 1000):
                member.write(bytes(1000 * 32 * 32))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CistError, match=r"would grow .*-fold to .* bytes, as archives do that are made to fill"):
        load_dataset(path)


def test_more_than_the_memory_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(CistError, match="take 48 bytes, and at most 10 are read"):
        archives.read_npz(tmp_path / "a.npz", ["images"], most_bytes=10)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": np.zeros((2, 3, 8, 8), np.uint8), "labels": np.arange(2)},
            r"channels first; .*transpose\(0, 2, 3, 1\)",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, 2**64 - 1], np.uint64)},
            r"found 1\.84467e\+19",
        ),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros((2, 3), int)}, "with a single 1 for each"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros((2, 3, 1), int)}, r"of shape \(2, 3, 1\)"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": [0], "classes": ["a\u202eb"]}, "control characters"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": [0], "classes": ["a\nb"]}, "control characters"),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(CistError, match=message):
        load_dataset(tmp_path / "bad.npz")


def test_too_many_class_names_are_refused() -> None:
    images = np.zeros((1, 2, 2, 1), np.uint8)
    with pytest.raises(CistError, match="has 100,001 classes; at most 100,000"):
        ImageDataset("many", "all", images, np.zeros(1, np.int64), tuple(map(str, range(100_001))), "many")


# ---- names of data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["hf:", "hf:../x", "hf:/etc", "hf:http://x", "hf:a/b/c", "hf:a..b", "hf:a b", "hf:x:y:z"]
)
def test_names_that_are_no_repository_are_refused(name: str) -> None:
    with pytest.raises(CistError, match="to name a repository of the Hugging Face hub"):
        load_dataset(name)


def test_a_folder_is_not_taken_for_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CistError, match="a folder on disk is given by its path"):
        load_dataset("hf:pets")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_that_no_file_has_are_refused(name: str) -> None:
    with pytest.raises(CistError, match=r"There is no data set|cannot be opened"):
        load_dataset(name)


@pytest.mark.parametrize(
    "head", [b"", b"\0\0\x08", b"\0\0\x08\x03" + b"\xff" * 12, b"\0\0\x0d\x03" + bytes(12), b"PK\3\4" * 9]
)
def test_idx_files_that_lie_are_refused(tmp_path: Path, head: bytes) -> None:
    for part in ("train", "t10k"):
        for name in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(head)
    with pytest.raises(CistError, match=r"ubyte (is no file of images or labels|promises)"):
        load_dataset(tmp_path)
