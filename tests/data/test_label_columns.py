"""Labels of image data in the forms and under the names that labels of logits may have; and what is left over."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run
from PIL import Image

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import describe_data, load_dataset
from cist_core.errors import CistError
from cist_core.inference.run import infer
from cist_core.logits.files import LABEL_NAMES

IMAGES = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3)).astype(np.uint8)
LABELS = np.array([2, 0, 1, 1, 2, 0])
WORDS = np.array(["ant", "bee", "cow"])[LABELS]

FORMS = {
    "numbers": LABELS,
    "column": LABELS[:, None],
    "floats": LABELS.astype(float),
    "text": LABELS.astype(str),
    "names": WORDS,
    "one-hot": np.eye(3)[LABELS],
    "one-hot, whole": np.eye(3, dtype=int)[LABELS],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("split", [None, "train", "test"])
def test_an_archive_holds_labels_in_any_form(tmp_path: Path, form: str, split: str | None) -> None:
    if split is None:
        np.savez(tmp_path / "a.npz", images=IMAGES, y_true=FORMS[form])
    else:
        both = {f"x_{name}": IMAGES for name in ("train", "test")} | {
            f"y_{name}": FORMS[form] for name in ("train", "test")
        }
        np.savez(tmp_path / "a.npz", **both)
    found = load_dataset(tmp_path / "a.npz", split or "test")
    assert found.labels.tolist() == LABELS.tolist()
    assert found.class_names == (("ant", "bee", "cow") if form == "names" else None)
    assert describe_data(tmp_path / "a.npz").num_classes == 3


def test_names_are_those_of_the_list_of_classes_where_there_is_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=WORDS, classes=["cow", "bee", "ant", "doe"])
    found = load_dataset(tmp_path / "a.npz")
    assert found.class_names == ("cow", "bee", "ant", "doe")
    assert [found.class_names[label] for label in found.labels] == WORDS.tolist()
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=WORDS, classes=["cow", "bee", "auk"])
    with pytest.raises(CistError, match=r"`labels` in .*a.npz: The label of sample 1 is 'ant', which is none of the 3"):
        load_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["gt", "Ground Truth", "label_ids", "Target", "fine_labels"])
@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_labels_have_many_names(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, **{"Images": IMAGES, name: LABELS, "coarse": LABELS // 2})
    elif kind == "parquet":
        files = [picture(tmp_path, index).read_bytes() for index in range(6)]
        pq.write_table(pa.table({"image": files, "coarse": LABELS // 2, name: LABELS}), path)
    else:
        rows = "".join(f"{picture(tmp_path, index).name};{label // 2};{label}\n" for index, label in enumerate(LABELS))
        path.write_text(f"path;coarse;{name}\n{rows}")
    found = load_dataset(path)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.unused == ("coarse",)


def picture(folder: Path, index: int) -> Path:
    file = folder / f"{index}.png"
    Image.fromarray(IMAGES[index]).save(file)
    return file


def test_data_and_logits_share_the_names_of_labels(tmp_path: Path) -> None:
    for name in LABEL_NAMES:
        np.savez(tmp_path / "a.npz", images=IMAGES, **{name: LABELS})
        assert load_dataset(tmp_path / "a.npz").labels.tolist() == LABELS.tolist()


def test_what_is_left_over_is_told(capsys, tmp_path: Path) -> None:
    digits = load_dataset("mnist-5k").take(np.arange(40))
    assert isinstance(digits.images, np.ndarray)
    np.savez(tmp_path / "a.npz", images=digits.images, labels=digits.labels, pen=np.arange(40), writer=np.arange(40))
    arguments = ["--teacher", "mnist5k-cnn", "--data", tmp_path / "a.npz"]
    for command in (["infer", *arguments, "--out", tmp_path / "o.safetensors"], ["analyze", *arguments, "--tau", "2"]):
        code, out, err = run(capsys, *command)
        assert code == 0, err
        assert "Not used: pen, writer of the data.\n" in out


# Classes by name or map, in every command


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Digits of three classes, in folders with their names in another order than the teacher's."""
    digits = load_dataset("mnist-5k")
    assert isinstance(digits.images, np.ndarray)
    for digit in (7, 3, 5):
        folder = tmp_path / "zoo" / f"the {digit}"
        folder.mkdir(parents=True)
        for place in np.flatnonzero(digits.labels == digit)[:12]:
            Image.fromarray(digits.images[place, :, :, 0]).save(folder / f"{place}.png")
    return tmp_path / "zoo"


MAP = ["the 3=3", "the 5=5", "the 7=7"]


@pytest.mark.parametrize("command", ["infer", "analyze", "rho"])
def test_a_part_of_the_teachers_classes_goes_through_a_map(capsys, tmp_path: Path, zoo: Path, command: str) -> None:
    out_file = ["--out", tmp_path / "o.safetensors"] if command == "infer" else []
    arguments = [command, "--teacher", "mnist5k-cnn", "--data", zoo, *out_file]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "tells 10 classes apart ('0', '1', '2', ...), but the data set 'zoo' has 3" in err
    assert "map each with --class-map" in err
    code, out, err = run(capsys, *arguments, "--class-map", *MAP)
    assert code == 0, err
    assert "36 samples, 10 classes, accuracy 100 %" in out
    assert "Classes through the class map: 'the 3' is the teacher's class 3, 'the 5' is 5, 'the 7' is 7." in out
    (tmp_path / "map.txt").write_text("the 3 = 3\nthe 5 =\nthe 7 = 7\n")
    code, out, err = run(capsys, *arguments, "--class-map", tmp_path / "map.txt")
    assert code == 0, err
    assert "24 samples, 10 classes, accuracy 100 %" in out
    assert "; 12 images without a class in it are left out." in out


def test_folders_with_names_of_the_teacher_need_no_map(capsys, tmp_path: Path, zoo: Path) -> None:
    for folder in zoo.iterdir():
        folder.rename(zoo / folder.name.removeprefix("the "))
    code, out, err = run(
        capsys, "infer", "--teacher", "mnist5k-cnn", "--data", zoo, "--out", tmp_path / "o.safetensors"
    )
    assert code == 0, err
    assert "36 samples, 10 classes, accuracy 100 %" in out


def test_a_student_is_distilled_through_a_map(capsys, tmp_path: Path, zoo: Path) -> None:
    fields = [
        f"data.name={zoo}", "data.train_samples=null", "data.validation_samples=null", "data.validation_share=0.2",
        "epochs=1", "batch_size=4", "student.architecture=mlp_14x14", "machine.device=cpu",
    ]  # fmt: skip
    arguments = ["distill", "--preset", "demo", *(word for field in fields for word in ("--set", field))]
    code, _, err = run(capsys, *arguments, "--run-dir", tmp_path / "refused")
    assert code == 2
    assert "map each with --class-map" in err
    code, out, err = run(capsys, *arguments, "--class-map", *MAP, "--print")
    assert code == 0, err
    assert '"the 3": "3"' in out
    code, out, err = run(capsys, *arguments, "--class-map", *MAP, "--run-dir", tmp_path / "run")
    assert code == 0, err
    assert (
        "Classes through the class map: 'the 3' is the teacher's class 3" in (tmp_path / "run" / "log.txt").read_text()
    )


def test_the_labels_of_mapped_images_are_kept_with_the_logits(tmp_path: Path, zoo: Path) -> None:
    from cist_core.data.class_maps import fit_classes
    from cist_core.inference.sources import find_teacher

    teacher = find_teacher("mnist5k-cnn")
    dataset: ImageDataset = fit_classes(load_dataset(zoo), 10, {0: 3, 1: 5, 2: 7})
    found = infer(teacher, dataset, device="cpu", cache_dir=tmp_path / "cache").logit_set
    assert sorted({*found.labels.tolist()}) == [3, 5, 7]
    assert found.provenance["class_map"] == "[3, 5, 7]"
