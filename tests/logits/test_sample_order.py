"""Columns stand in the order of their numbers, and files that name their samples are joined by the names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cist_core import LogitSet, read_logits
from cist_core.added import AddSpec
from cist_core.added.work import preview
from cist_core.compare.teacher_comparison import CapacityGap
from cist_core.errors import CistError
from cist_core.logits.alignment import align, check_same_order
from cist_core.logits.cache import write_logits
from cist_core.logits.ensemble import average_logits
from cist_core.logits.sample_names import SampleNames, match_samples


def made(count: int = 60, classes: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 6
    return logits, labels


def table(path: Path, logits: np.ndarray, names: list[str], order: Any = None, **others: Any) -> Path:
    """A CSV or Parquet file with the columns of the classes in any order."""
    frame = pd.DataFrame(logits.astype(np.float64).round(4), columns=names)
    frame = frame[names if order is None else [names[place] for place in order]]
    for name, values in others.items():
        frame.insert(0, name, values)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


# ---- columns by number -----------------------------------------------------------------------------------------------


TEXT_ORDER = sorted(range(12), key=str)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("called", "order"),
    [
        ([f"logit_{number}" for number in range(12)], TEXT_ORDER),
        ([f"{number}" for number in range(12)], TEXT_ORDER),
        ([f"{number}" for number in range(12)], [3, 1, 0, 2, *range(4, 12)]),
        ([f"{number}" for number in range(1, 13)], None),
        ([f"{number}" for number in range(1, 13)], list(range(11, -1, -1))),
        ([f"class {number}" for number in range(12)], TEXT_ORDER),
        ([f"p{number:02d}" for number in range(12)], list(range(11, -1, -1))),
        ([f"{number}.0" for number in range(12)], TEXT_ORDER),
    ],
)
def test_columns_stand_in_the_order_of_their_numbers(
    tmp_path: Path, ending: str, called: list[str], order: list[int] | None
) -> None:
    logits, labels = made()
    found = read_logits(table(tmp_path / f"teacher.{ending}", logits, called, order, label=labels))
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    assert found.accuracy == (logits.argmax(1) == labels).mean()
    assert found.class_names == tuple(called)
    said = found.provenance.get("class_order", "")
    assert ("the file has" in said) == (order is not None)
    assert ("is class 0" in said) == (called[0] == "1")
    assert not said or said.startswith("Classes in the order of the numbers in their columns")


def test_a_header_of_ids_with_gaps_is_taken(tmp_path: Path) -> None:
    logits, labels = made(classes=4)
    ids = np.array([3, 17, 42, 980])
    path = table(tmp_path / "some.csv", logits, [str(each) for each in ids], label=ids[labels])
    found = read_logits(path)
    assert found.class_names == ("3", "17", "42", "980")
    assert found.accuracy == (logits.argmax(1) == labels).mean()
    assert found.provenance["labels"] == "the numbers in the names of the columns"


@pytest.mark.parametrize("lowest", [0, 1])
def test_labels_from_one_beside_columns_from_one_name_them(tmp_path: Path, lowest: int) -> None:
    logits, labels = made()
    called = [f"logit_{number}" for number in range(1, 13)]
    found = read_logits(table(tmp_path / "from_one.csv", logits, called, label=labels + lowest))
    assert found.accuracy == (logits.argmax(1) == labels).mean()


def test_a_sample_in_the_place_of_the_header_is_told_with_what_mends_it(tmp_path: Path) -> None:
    logits, _ = made()
    np.savetxt(tmp_path / "bare.csv", logits, delimiter=",", fmt="%.4f")
    with pytest.raises(CistError, match="no numbers of classes; add a header line above it"):
        read_logits(tmp_path / "bare.csv")
    mended = "0,1,2,3,4,5,6,7,8,9,10,11\n" + (tmp_path / "bare.csv").read_text()
    (tmp_path / "mended.csv").write_text(mended)
    np.testing.assert_allclose(read_logits(tmp_path / "mended.csv").logits, logits, atol=1e-4)
    (tmp_path / "whole.csv").write_text("7,3,12\n1,2,30\n4,5,6\n")
    with pytest.raises(CistError, match=r"may name the classes or be a sample; call the columns class_0, .* or add"):
        read_logits(tmp_path / "whole.csv")


def test_words_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    logits, _ = made(classes=3)
    found = read_logits(table(tmp_path / "words.csv", logits, ["zebra", "ant", "cow"]))
    assert found.class_names == ("zebra", "ant", "cow")
    assert "class_order" not in found.provenance


# ---- samples by name -------------------------------------------------------------------------------------------------


FILES = [f"img_{number}.png" for number in range(60)]


@pytest.fixture
def shuffled() -> np.ndarray:
    return np.random.default_rng(9).permutation(60)


def columns(classes: int = 12) -> list[str]:
    return [f"logit_{number}" for number in range(classes)]


@pytest.mark.parametrize("names", [FILES, [*range(60)], [1000 + 7 * number for number in range(60)]])
def test_labels_are_joined_by_name(tmp_path: Path, shuffled: np.ndarray, names: list[Any]) -> None:
    logits, labels = made()
    teacher = table(tmp_path / "teacher.csv", logits, columns(), id=names)
    apart = pd.DataFrame({"id": names, "label": labels}).iloc[shuffled]
    apart.to_csv(tmp_path / "labels.csv", index=False)
    found = read_logits(teacher, labels=tmp_path / "labels.csv")
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, labels)
    assert found.provenance["sample_order"] == "Labels joined to the logits by 'id'"
    whole = pd.concat([apart, pd.DataFrame({"id": [f"more {number}" for number in range(9)], "label": 0})])
    whole.to_csv(tmp_path / "all.csv", index=False)
    part = read_logits(teacher, labels=tmp_path / "all.csv")
    assert part.labels is not None
    np.testing.assert_array_equal(part.labels, labels)
    assert part.provenance["sample_order"] == "Labels joined to the logits by 'id'; 9 of other samples left out"


def test_labels_of_other_samples_are_refused(tmp_path: Path) -> None:
    logits, labels = made()
    teacher = table(tmp_path / "teacher.csv", logits, columns(), filename=FILES)
    others = [name.replace("img_5", "pic_5") for name in FILES]
    pd.DataFrame({"filename": others, "label": labels}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(CistError, match=r"by 'filename' 11 are only in the logits \('img_5\.png', .*use the same data"):
        read_logits(teacher, labels=tmp_path / "labels.csv")


def test_labels_without_names_are_taken_by_position(tmp_path: Path) -> None:
    logits, labels = made()
    teacher = table(tmp_path / "teacher.csv", logits, columns(), filename=FILES)
    np.save(tmp_path / "labels.npy", labels)
    found = read_logits(teacher, labels=tmp_path / "labels.npy")
    np.testing.assert_array_equal(found.labels, labels)  # type: ignore[arg-type]
    assert "sample_order" not in found.provenance


@pytest.mark.parametrize("ending", [".npz", ".pt", ".safetensors"])
def test_arrays_name_their_samples_too(tmp_path: Path, shuffled: np.ndarray, ending: str) -> None:
    logits, labels = made()
    ids = np.arange(60) * 3
    content = {"logits": logits[shuffled], "labels": labels[shuffled], "sample_ids": ids[shuffled]}
    path = tmp_path / f"student{ending}"
    if ending == ".npz":
        np.savez(path, **content)
    elif ending == ".pt":
        torch.save({name: torch.from_numpy(values) for name, values in content.items()}, path)
    else:
        save_file(content, path)
    teacher = read_logits(table(tmp_path / "teacher.csv", logits, columns(), sample_id=ids))
    other = read_logits(path)
    assert other.provenance["identifiers"] == "sample_ids"
    assert "unused" not in other.provenance
    joined = align(teacher, other)
    np.testing.assert_array_equal(joined.logits, logits)
    assert joined.provenance["sample_order"] == "Samples of the student in the order of the teacher, by 'sample_id'"


def test_names_of_rows_as_r_writes_them_join(tmp_path: Path, shuffled: np.ndarray) -> None:
    logits, _ = made()
    frame = pd.DataFrame(logits.astype(np.float64).round(4), columns=columns(), index=FILES)
    for name, rows in (("teacher", frame), ("student", frame.iloc[shuffled])):
        lines = rows.to_csv(header=False).splitlines()
        (tmp_path / f"{name}.csv").write_text("\n".join([",".join(columns()), *lines]) + "\n")  # no name above them
        rows.to_csv(tmp_path / f"{name}_index.csv")  # as pandas writes them
    for ending in ("", "_index"):
        teacher, student = (read_logits(tmp_path / f"{name}{ending}.csv") for name in ("teacher", "student"))
        np.testing.assert_array_equal(align(teacher, student).logits, teacher.logits)


def test_an_index_that_only_counts_rows_says_nothing_against_another(tmp_path: Path) -> None:
    logits, _ = made()
    frame = pd.DataFrame(logits.astype(np.float64).round(4), columns=columns())
    frame.to_csv(tmp_path / "teacher.csv")
    frame.set_index(frame.index + 5000).to_csv(tmp_path / "student.csv")
    teacher, student = read_logits(tmp_path / "teacher.csv"), read_logits(tmp_path / "student.csv")
    np.testing.assert_array_equal(align(teacher, student).logits, teacher.logits)


def test_a_name_twice_joins_nothing_unless_the_order_is_the_same() -> None:
    logits, _ = made(4)
    first = LogitSet.create(logits, sample_names={"file": ["a", "a", "b", "c"]})
    np.testing.assert_array_equal(align(first, first).logits, logits)
    with pytest.raises(CistError, match="'a' is in 'file' of the teacher 2 times; give every sample one name"):
        align(first, LogitSet.create(logits, sample_names={"file": ["b", "a", "a", "c"]}))


@given(st.permutations(range(30)), st.booleans())
@settings(max_examples=30)
def test_every_order_is_found(order: list[int], as_text: bool) -> None:
    names = [f"{number:x}" if as_text else number for number in range(30)]
    ours = SampleNames.of({"key": names}, 30)
    theirs = SampleNames.of({"Key": [names[place] for place in order]}, 30)
    match = match_samples(ours, theirs, name="it")
    assert match is not None
    positions = np.arange(30) if match.positions is None else match.positions
    assert [order[place] for place in positions] == list(range(30))


def test_numbers_under_other_headings_are_not_compared() -> None:
    ours, theirs = SampleNames.of({"id": [2, 0, 1]}, 3), SampleNames.of({"row": [0, 1, 2]}, 3)
    assert match_samples(ours, theirs, name="it") is None
    assert match_samples(ours, None, name="it") is None


def test_names_survive_every_way_of_keeping_logits(tmp_path: Path) -> None:
    logits, labels = made()
    names = {"file": FILES, "id": np.arange(60)}
    whole = LogitSet.create(logits, labels, sample_names=names)
    whole.save(tmp_path / "saved.safetensors")
    kept = [LogitSet.load(tmp_path / "saved.safetensors"), read_logits(tmp_path / "saved.safetensors")]
    kept += [write_logits(tmp_path / "written.safetensors", whole), read_logits(tmp_path / "written.safetensors")]
    for each in kept:
        np.testing.assert_array_equal(each.logits, logits)
        np.testing.assert_array_equal(each.labels, labels)  # type: ignore[arg-type]
        assert each.sample_names is not None
        assert each.sample_names.columns["file"].tolist() == FILES
        assert each.sample_names.columns["id"].dtype.kind == "i"
        assert "unused" not in each.provenance
    part = whole.take([3, 1])
    assert part.sample_names is not None
    assert part.sample_names.columns["file"].tolist() == [FILES[3], FILES[1]]


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b'{"file": [1]}', b'{"file": [[1], [2]]}'])
def test_damaged_names_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    logits, _ = made(3, 4)
    save_file({"logits": logits, "sample_names": np.frombuffer(content, np.uint8)}, tmp_path / "bad.safetensors")
    for reader in (LogitSet.load, read_logits):
        with pytest.raises(CistError, match=r"bad\.safetensors: "):
            reader(tmp_path / "bad.safetensors")


# ---- classes by name -------------------------------------------------------------------------------------------------


def test_classes_of_two_files_are_joined_by_name(tmp_path: Path) -> None:
    logits, labels = made(classes=4)
    names = ["cat", "dog", "emu", "fox"]
    order = [2, 0, 3, 1]
    teacher = read_logits(table(tmp_path / "teacher.csv", logits, names, label=labels))
    student = read_logits(table(tmp_path / "student.csv", logits, names, order, label=[names[each] for each in labels]))
    joined = align(teacher, student)
    np.testing.assert_array_equal(joined.logits, teacher.logits)
    np.testing.assert_array_equal(joined.labels, labels)  # type: ignore[arg-type]
    assert joined.class_names == tuple(names)
    assert joined.provenance["class_order"] == "Classes of the student in the order of the teacher, by their names"


def test_classes_called_otherwise_are_taken_by_position_which_is_said() -> None:
    logits, _ = made(classes=2)
    first = LogitSet.create(logits, class_names=["car", "plane"])
    other = align(first, LogitSet.create(logits, class_names=["automobile", "airplane"]))
    assert "by position" in other.provenance["class_order"]
    assert "class_order" not in align(first, LogitSet.create(logits, class_names=["0", "1"])).provenance


def test_what_has_its_own_curves_is_refused_in_another_order() -> None:
    logits, _ = made()
    first = LogitSet.create(logits, sample_names={"id": np.arange(60)})
    other = LogitSet.create(logits[::-1], sample_names={"id": np.arange(60)[::-1]})
    for refused in (lambda: check_same_order(first, other), lambda: CapacityGap.of(first, other, 3.0)):
        with pytest.raises(CistError, match=r"by 'id' they are in another; bring them into one .*align"):
            refused()
    np.testing.assert_allclose(average_logits([first, other]).logits, logits, atol=1e-6)


# ---- where it is said ------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path, shuffled: np.ndarray) -> tuple[Path, Path]:
    logits, labels = made()
    teacher = table(tmp_path / "teacher.csv", logits, columns(), TEXT_ORDER, label=labels, filename=FILES)
    names = [FILES[place] for place in shuffled]
    student = table(tmp_path / "student.csv", 0.5 * logits[shuffled], columns(), filename=names)
    return teacher, student


def test_the_command_line_joins_and_says_so(pair: tuple[Path, Path], capsys: Any, tmp_path: Path) -> None:
    teacher, student = pair
    code, said, remarks = run(
        capsys, "analyze", "--logits", teacher, "--student", student, "--rule", "dtkd:tau=4", "--json"
    )
    assert code == 0, remarks
    joined = json.loads(said)
    assert joined["class_order"].endswith("the file has logit_0, logit_1, logit_10, ..., logit_9")
    assert "in the order of the teacher, by 'filename'" in remarks
    by_hand = read_logits(student)
    names = by_hand.sample_names.columns["filename"].tolist()  # type: ignore[union-attr]
    by_hand.take([names.index(name) for name in FILES]).save(tmp_path / "ordered.safetensors")
    _, again, _ = run(
        capsys, "analyze", "--logits", teacher, "--student", tmp_path / "ordered.safetensors", "--rule", "dtkd:tau=4",
        "--json",
    )  # fmt: skip
    assert json.loads(again)["profiles"] == joined["profiles"]
    _, said, _ = run(capsys, "convert", teacher, tmp_path / "t.safetensors", "--float16")
    assert "Classes in the order of the numbers in their columns: logit_0, logit_1, logit_2, ..., logit_11" in said
    assert LogitSet.load(tmp_path / "t.safetensors").sample_names is not None


def test_the_page_add_joins_and_says_so(pair: tuple[Path, Path]) -> None:
    teacher, student = pair
    spec = AddSpec.of(title="t", logits={"teacher": str(teacher), "student": str(student)})
    said = " ".join(preview(spec).remarks)
    assert "the file has logit_0, logit_1, logit_10, ..., logit_9." in said
    assert "Samples of the student in the order of the teacher, by 'filename'." in said
    pd.read_csv(student).assign(filename=[f"other {number}" for number in range(60)]).to_csv(student, index=False)
    with pytest.raises(CistError, match="Expected the student to be of the samples of the teacher"):
        preview(spec)
