"""Names with control characters and halves of surrogate pairs, in every format: written out, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from security.forge import GOOD
from security.readers import load_data

from cist_core import LogitSet, read_logits
from cist_core.added import AddSpec, work
from cist_core.added.entry import read_failure, write_failure, write_json
from cist_core.data.arrays import CLASSES
from cist_core.errors import CistError
from cist_core.plain_text import is_plain_text

HALF, CONTROL = "a\ud800", "b\x00\x1b[31m\x9b"
WRITTEN = ("a\\ud800", "b\\x00\\x1b[31m\\x9b", "c")
LABELS = np.array([0, 1, 2, 0])


def _safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    names = json.dumps({"file": [f"{HALF}{row}\x07" for row in range(4)]}).encode()
    names += b" " * (-len(names) % 8)
    metadata = {
        "class_names": json.dumps([HALF, CONTROL, "c"]),
        "provenance": json.dumps({"teacher": HALF, "da\x00ta": CONTROL, "split": 3}),
    }
    tensors = {"logits": GOOD, "labels": LABELS, "sample_names": np.frombuffer(names, np.uint8)}
    save_file(tensors, path, metadata=metadata)


def _npz(path: Path) -> None:
    files = np.array([f"{HALF}{row}\x07" for row in range(4)])
    np.savez(path, logits=GOOD, labels=LABELS, classes=np.array([HALF, CONTROL, "c"]), filename=files)


def _pt(path: Path) -> None:
    import torch

    torch.save(
        {"logits": torch.tensor(GOOD), "labels": torch.tensor(LABELS), "class_names": [HALF, CONTROL, "c"]}, path
    )


def _csv(path: Path) -> None:
    rows = [f"f\x1b{row},{','.join(map(str, values))},{LABELS[row]},1" for row, values in enumerate(GOOD)]
    path.write_text("\n".join(["file,\x07a,b\x01,c,label,extra\x02_loss", *rows]) + "\n")


def _parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: GOOD[:, place] for place, name in enumerate(("\x07a", "b\x00", "c"))}
    columns |= {"label": LABELS, "file": [f"f\x1b{row}" for row in range(4)]}
    pq.write_table(pa.table(columns), path)


FORMATS: dict[str, Callable[[Path], None]] = {
    ".safetensors": _safetensors, ".npz": _npz, ".pt": _pt, ".csv": _csv, ".parquet": _parquet,
}  # fmt: skip


def _texts(logit_set: LogitSet) -> list[str]:
    found = [*(logit_set.class_names or ()), *logit_set.provenance, *logit_set.provenance.values()]
    if logit_set.sample_names is not None:
        for column, names in logit_set.sample_names.columns.items():
            found += [column, *map(str, names.tolist())]
    return found


@pytest.mark.parametrize("ending", FORMATS)
def test_no_format_lets_such_a_name_in(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"logits{ending}"
    FORMATS[ending](path)
    logit_set = read_logits(path)
    texts = _texts(logit_set)
    assert any("\\x" in text for text in texts), "the name is there, written out"
    assert all(map(is_plain_text, texts)), [text for text in texts if not is_plain_text(text)]
    if ending in (".safetensors", ".npz", ".pt"):
        assert logit_set.class_names == WRITTEN
    np.testing.assert_array_equal(logit_set.labels, LABELS)
    # What the pages do with names: the preview of what is added, a report, and our own file.
    preview = work.preview(AddSpec.of(title="t\x00", logits={"teacher": str(path)}))
    write_json(tmp_path / "preview.json", preview, what="The preview")
    logit_set.save(tmp_path / "again.safetensors")
    assert _texts(LogitSet.load(tmp_path / "again.safetensors")) == texts


def test_labels_that_are_such_names_are_still_those_of_the_classes() -> None:
    logit_set = LogitSet.create(GOOD, [HALF, CONTROL, "c", HALF], class_names=[HALF, CONTROL, "c"])
    assert (logit_set.labels.tolist(), logit_set.class_names) == (LABELS.tolist(), WRITTEN)


def test_files_are_joined_by_such_names(tmp_path: Path) -> None:
    names = [f"{HALF}{row}\x07" for row in range(4)]
    np.savez(tmp_path / "logits.npz", logits=GOOD, filename=np.array(names))
    np.savez(tmp_path / "labels.npz", labels=LABELS[::-1], filename=np.array(names[::-1]))
    joined = read_logits(tmp_path / "logits.npz", labels=tmp_path / "labels.npz")
    np.testing.assert_array_equal(joined.labels, LABELS)


def test_classes_of_images_with_such_names_are_refused_by_name(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("dog\x07", "cat"):
        (tmp_path / "folder" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "folder" / name / "a\x1b.png")
    images = {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.arange(2)}
    np.savez(tmp_path / "images.npz", **images, **{CLASSES: np.array([HALF, "b"])})
    for data in (tmp_path / "folder", tmp_path / "images.npz"):
        with pytest.raises(CistError, match="control characters; rename it"):
            load_data(data)


def test_a_picture_that_cannot_be_read_is_named_written_out(tmp_path: Path) -> None:
    import os

    for name in (b"dog", b"cat"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(folder)
        with open(os.path.join(folder, b"caf\xe9\x1b.png"), "wb") as file:  # of a disk that had Latin names
            file.write(b"none")
    with pytest.raises(CistError, match=r"caf\\udce9\\x1b\.png is not a readable image") as caught:
        load_data(tmp_path)
    write_failure(tmp_path, str(caught.value))
    assert read_failure(tmp_path) == str(caught.value)


def test_a_teacher_and_a_title_are_written_out() -> None:
    from dataclasses import replace

    from cist_core.inference.sources import find_teacher

    known = find_teacher("mnist5k-mlp")
    named = replace(
        known, name=HALF, class_names=(CONTROL,) * 10, facts={"licence\x00": "x\x1b"}, other_weights=(HALF,)
    )
    assert (named.name, named.other_weights) == (WRITTEN[0], (WRITTEN[0],))
    assert named.class_names == (WRITTEN[1],) * 10
    assert named.facts == {"licence\\x00": "x\\x1b"}
    assert AddSpec.of(title="a\x1b", logits={"teacher": "/x"}).title == "a\\x1b"


@pytest.mark.parametrize("value", [1e308, -1e308, 2.0**63])
def test_labels_beyond_whole_numbers_are_named(value: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "logits.npz", logits=GOOD, labels=np.full(4, value))
    (tmp_path / "labels.txt").write_text(f"{value!r}\n" * 4)
    np.save(tmp_path / "bare.npy", GOOD)
    for arguments in (
        {"path": tmp_path / "logits.npz"},
        {"path": tmp_path / "bare.npy", "labels": tmp_path / "labels.txt"},
    ):
        with pytest.raises(CistError, match=r"Expected labels that number the classes from 0, but found -?[19]"):
            read_logits(**arguments)
    np.savez(tmp_path / "unsigned.npz", logits=GOOD, labels=np.full(4, 2**63, np.uint64))
    with pytest.raises(CistError, match=r"but found 9\.22337e\+18"):
        read_logits(tmp_path / "unsigned.npz")
