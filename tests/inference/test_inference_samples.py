"""Inference on a part of the data, under other class numbers, and on pictures that are cut as a teacher wants them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cist_core.cli import main
from cist_core.data.class_maps import map_labels
from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.data.sampling import stratified_sample
from cist_core.errors import CistError
from cist_core.inference.run import infer
from cist_core.zoo.kinds.code import NO_CODE
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

CLASSES = ("dark", "grey", "light")


class Brightness(nn.Module):
    """Logits that are the mean, the centre and the negative mean of an image."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x.mean(1)
        mean, centre = grey.mean((1, 2)), grey[:, grey.shape[1] // 2, grey.shape[2] // 2]
        return torch.stack([mean, centre, -mean], 1)


@pytest.fixture
def teacher() -> Teacher:
    preprocessing = Preprocessing((0.0,), (1.0,), 8)
    return Teacher("toy", Brightness().eval(), "toy", 3, CLASSES, preprocessing, "0" * 64)


@pytest.fixture
def dataset() -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    labels = np.repeat([0, 1, 2], [20, 8, 2])
    return ImageDataset("noise", "all", images, labels, CLASSES, "noise")


def test_a_seed_draws_a_stratified_sample(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    def run(seed: int | None) -> tuple[np.ndarray, str]:
        logit_set = infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=15, seed=seed).logit_set
        return np.asarray(logit_set.logits), logit_set.provenance["samples"]

    drawn, text = run(3)
    chosen = stratified_sample(dataset.labels, 15, 3)
    np.testing.assert_allclose(drawn[:, 0], dataset.images[chosen].mean((1, 2, 3)) / 255, rtol=1e-5)
    assert text == "15 of 30, stratified, seed 3"
    assert not np.array_equal(run(4)[0], drawn)  # and none is taken for another in the cache
    assert run(None)[1] == "15 of 30"
    np.testing.assert_array_equal(run(3)[0], drawn)
    with pytest.raises(CistError, match=r"only together with `limit`"):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path, seed=1)


def test_classes_in_another_order_are_found_by_name_or_map(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path
) -> None:
    turned = replace(dataset, class_names=("Light", "Dark", "Grey"))
    found = infer(teacher, turned, device="cpu", cache_dir=tmp_path).logit_set
    assert found.labels.tolist() == [[2, 0, 1][label] for label in dataset.labels]
    assert found.class_names == CLASSES
    assert found.provenance["class_order"].startswith("Classes by their names: 'Light' is the teacher's class 2")
    mapped = map_labels(turned, {"Light": "light", "Dark": "dark", "Grey": None}, CLASSES)
    logit_set = infer(teacher, mapped, device="cpu", cache_dir=tmp_path).logit_set
    assert logit_set.labels.tolist() == [2] * 20 + [0] * 8
    assert json.loads(logit_set.provenance["class_map"]) == [2, 0, None]


def test_pictures_are_cut_as_the_teacher_wants_them(teacher: Teacher, tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[5:15, 15:25] = 255
    for name in CLASSES:
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "set" / name / "1.png")
    dataset = load_dataset(tmp_path / "set")
    cut = replace(teacher, preprocessing=replace(teacher.preprocessing, crop=0.5))
    whole = infer(teacher, dataset, device="cpu", cache_dir=tmp_path / "cache").logit_set
    middle = infer(cut, dataset, device="cpu", cache_dir=tmp_path / "cache").logit_set
    np.testing.assert_allclose(whole.logits[:, 0], 0.25, atol=0.01)
    np.testing.assert_allclose(middle.logits[:, 0], 0.96, atol=0.01)  # the margin shows at the edge


def test_the_command_line_draws_with_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIST_CACHE", str(tmp_path))
    arguments = ["analyze", "--teacher", "mnist5k-mlp", "--data", "mnist-5k", "--tau", "4", "--json"]
    assert main([*arguments, "--limit", "20", "--seed", "1"]) in (0, None)
    assert json.loads(capsys.readouterr().out)["samples"] == 20
    assert main([*arguments, "--seed", "1"]) == 2
    assert "only together with `limit`" in capsys.readouterr().err


GREEDY = """
import torch
from torch import nn

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, pixels):
        if len(pixels) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return self.linear(pixels.flatten(1))

def build():
    return Greedy()
"""


def test_the_command_line_says_that_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIST_CACHE", str(tmp_path))
    monkeypatch.delenv(NO_CODE, raising=False)  # the app, in a test before, may have set it
    (tmp_path / "greedy_network.py").write_text(GREEDY)
    monkeypatch.syspath_prepend(tmp_path)
    out = str(tmp_path / "logits.safetensors")
    arguments = ["infer", "--teacher", "greedy_network:build", "--data", "mnist-5k", "--limit", "40", "--out", out]
    arguments += ["--resize", "--grey-to-colour", "--batch-size", "30", "--device", "cpu"]
    assert main(arguments) in (0, None)
    said = capsys.readouterr()
    assert "so 7 samples were taken at a time; --batch-size 7 begins with as many" in " ".join(
        (said.out + said.err).split()
    )
