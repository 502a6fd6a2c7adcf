"""Class maps: one way to write them, on the command line, in Python and in files."""

import json

import numpy as np
import pytest
from command_line import run

from cist_core import CistError, read_logits
from cist_core.logits.class_maps import parse_class_map, read_class_map

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(0, 2, (24, 6)).astype(np.float32)
CLASSES = ["ant", "bee", "cow", "doe", "elk", "fox"]
OWN = RNG.integers(0, 3, 24)  # labels of a smaller data set
RIGHT = np.array([5, 0, 3])[OWN]


@pytest.mark.parametrize(
    "text",
    ["0=5\n1 = 0\n\n2=3\n", "0 = fox\n1 = ant\n2 = doe", json.dumps({"0": 5, "1": "ant", "2": "3"})],
)
def test_a_map_is_written_in_several_ways(tmp_path, text):
    (tmp_path / "map.txt").write_text(text)
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=OWN, classes=CLASSES)
    read = read_logits(tmp_path / "a.npz", class_map=read_class_map([str(tmp_path / "map.txt")]))
    np.testing.assert_array_equal(read.labels, RIGHT)
    assert read.provenance["labels"] == "through the class map"


@pytest.mark.parametrize(
    ("labels", "mapping"),
    [
        (OWN, {0: 5, 1: 0, 2: 3}),
        (OWN.astype(np.float32), {"0": "fox", "1": "ant", "2": "doe"}),
        (np.array(["Fuchs", "Ameise", "Reh"])[OWN], {"Fuchs": "fox", "Ameise": "ant", "Reh": 3, "Kuh": "cow"}),
        (np.array(["fox", "Ameise", "doe"])[OWN], {"Ameise": "ant"}),
        (np.eye(6)[OWN], {0: "fox", 1: "ant", 2: "doe"}),
    ],
)
def test_labels_of_a_subset_become_classes_of_the_logits(tmp_path, labels, mapping):
    np.savez(tmp_path / "a.npz", logits=LOGITS, classes=CLASSES)
    np.save(tmp_path / "l.npy", labels)
    read = read_logits(tmp_path / "a.npz", labels=tmp_path / "l.npy", class_map=mapping)
    np.testing.assert_array_equal(read.labels, RIGHT)
    assert read.num_classes == 6


def test_what_leads_to_nothing_is_left_out_and_counted(tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=OWN, classes=CLASSES)
    read = read_logits(tmp_path / "a.npz", class_map={0: "fox", 1: None, 2: ""})
    np.testing.assert_array_equal(read.logits, LOGITS[OWN == 0])
    left = np.count_nonzero(OWN)
    assert read.provenance["left out"] == f"{left} of 24 samples: label -100, or no class in the map"


@pytest.mark.parametrize("command", ["analyze", "rho", "convert"])
def test_every_command_that_reads_logits_takes_one(capsys, tmp_path, command):
    sure = LOGITS.copy()
    sure[np.arange(24), RIGHT] += 20
    np.savez(tmp_path / "a.npz", logits=sure, labels=OWN, classes=CLASSES)
    source = (
        [tmp_path / "a.npz", tmp_path / "o.safetensors"] if command == "convert" else ["--logits", tmp_path / "a.npz"]
    )
    _, out, err = run(capsys, command, *source, "--class-map", "0=fox", "1=ant", "2=doe")
    assert "accuracy 100 %" in out, err
    assert "Labels: through the class map." in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["0=fox", "1=ant"], "a.npz: the class map names no class for the label '2'; name one for each, or map it to"),
        (["0=fox", "1=ant", "2=gnu"], "a.npz: The file has no class 'gnu'; it has 6: 'ant', 'bee'"),
        (["0=fox", "0=ant"], "The class map has two lines for '0'; keep one"),
        (["fox"], "Expected a class map as items such as 'automobile=car', or one file of them, but got 'fox'"),
        (["=fox"], "Expected a line such as 'automobile = car' in the class map, but got '=fox'"),
    ],
)
def test_maps_that_cannot_be_are_one_sentence(capsys, tmp_path, given, message):
    np.savez(tmp_path / "a.npz", logits=LOGITS, labels=OWN, classes=CLASSES)
    code, _, err = run(capsys, "analyze", "--logits", tmp_path / "a.npz", "--class-map", *given)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_map_without_labels_and_damaged_files_of_maps(tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOGITS)
    with pytest.raises(CistError, match=r"a.npz: a class map was given, but there are no labels that it could map"):
        read_logits(tmp_path / "a.npz", class_map={0: 1})
    for content, message in (
        (b"\n \n", "is empty; write lines such as"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'{"a": ', "begins like JSON, but cannot be read"),
        (b'{"a": [1]}', "Expected a class map such as"),
    ):
        (tmp_path / "map").write_bytes(content)
        with pytest.raises(CistError, match=message):
            read_class_map([str(tmp_path / "map")])
    assert parse_class_map('{"a": null, "b": ""}') == {"a": None, "b": None}


def test_a_students_samples_are_left_out_like_the_teachers(capsys, tmp_path):
    """By the labels of the file of labels, or by its own."""
    labels = np.where(np.arange(24) % 6 == 0, -100, OWN)
    np.savez(tmp_path / "teacher.npz", logits=LOGITS, classes=CLASSES)
    np.savez(tmp_path / "bare.npz", logits=2 * LOGITS)
    np.savez(tmp_path / "labelled.npz", logits=2 * LOGITS, labels=labels)
    np.save(tmp_path / "labels.npy", labels)
    source = [
        "--logits",
        tmp_path / "teacher.npz",
        "--labels",
        tmp_path / "labels.npy",
        "--class-map",
        "0=5",
        "1=0",
        "2=",
    ]
    for student in ("bare.npz", "labelled.npz"):
        code, out, err = run(
            capsys, "analyze", *source, "--student", tmp_path / student, "--rule", "dtkd:tau=2", "--json"
        )
        assert code == 0, err
        assert json.loads(out)["samples"] == np.count_nonzero((labels == 0) | (labels == 1))
