from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cist_core.data.dataset import ImageDataset
from cist_core.errors import CistError
from cist_core.inference.run import infer
from cist_core.inference.sources import find_teacher, load_logits, split_ensemble
from cist_core.zoo.architectures import create_model
from cist_core.zoo.ensembles import average_teachers
from cist_core.zoo.folding import fold_batch_norm
from cist_core.zoo.preprocessing import PerMemberPreprocessing, Preprocessing
from cist_core.zoo.teacher import Teacher


def _teacher(architecture: str, preprocessing: Preprocessing, seed: int, classes: int = 10) -> Teacher:
    torch.manual_seed(seed)
    model = create_model(architecture, num_classes=classes).eval()
    return Teacher(architecture, model, architecture, classes, None, preprocessing, f"{seed}" * 64)


SMALL = _teacher("resnet8", Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 32), 1)
OTHER = _teacher("vgg8", Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 24, resize=True, crop=0.75), 2)
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)


def _alone(teacher: Teacher) -> torch.Tensor:
    with torch.inference_mode():
        return teacher.model(teacher.preprocessing(torch.from_numpy(PIXELS)))


def test_each_member_is_fed_as_if_alone(tmp_path: Path) -> None:
    pair = average_teachers([SMALL, OTHER])
    expected = ((_alone(SMALL).double() + _alone(OTHER).double()) / 2).numpy()
    dataset = ImageDataset("noise", "all", PIXELS, np.arange(7), None, "noise")
    logits = infer(pair, dataset, device="cpu", cache_dir=tmp_path).logit_set.logits
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    folded = fold_batch_norm(pair.model)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.inference_mode():  # as a distillation feeds a teacher
        np.testing.assert_allclose(folded(pair.preprocessing(torch.from_numpy(PIXELS))), expected, atol=1e-4)


def test_members_of_other_sizes_resize_what_the_largest_reads() -> None:
    pair = average_teachers([SMALL, replace(OTHER, preprocessing=replace(OTHER.preprocessing, resize=False))])
    assert pair.preprocessing.image_size == 32
    assert "24x24" in str(pair.preprocessing)
    pair.preprocessing.check((32, 32, 3))
    with pytest.raises(CistError, match="32x32 pixels, but these have 24x24"):
        pair.preprocessing.check((24, 24, 3))


def test_preprocessing_survives_a_round_trip() -> None:
    import json

    original = PerMemberPreprocessing.of([SMALL.preprocessing, OTHER.preprocessing])
    assert Preprocessing.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_prepared_images_are_refused() -> None:
    pair = average_teachers([SMALL, OTHER])
    with pytest.raises(CistError, match="prepare the images for themselves"):
        pair.model(torch.zeros(1, 3, 32, 32))


def test_members_that_do_not_fit_are_refused() -> None:
    seven = _teacher("resnet8", SMALL.preprocessing, 3, classes=7)
    with pytest.raises(CistError, match="'resnet8' has 10 and 'resnet8' 7"):
        average_teachers([SMALL, seven])
    grey = _teacher("cnn_16_32", Preprocessing((0.1,), (0.3,), 28), 4)
    with pytest.raises(CistError, match="equally many channels, but they read 1 and 3"):
        average_teachers([SMALL, grey])
    names = tuple("abcdefghij")
    with pytest.raises(CistError, match="class 8 is 'i' for 'resnet8' and 'j' for 'vgg8'"):
        average_teachers([replace(SMALL, class_names=names), replace(OTHER, class_names=tuple("abcdefghji"))])
    with pytest.raises(CistError, match="at least 2 teachers, but got 1"):
        average_teachers([SMALL])


def test_a_reference_names_several(tmp_path: Path) -> None:
    pair = find_teacher("mnist5k-mlp + mnist5k-cnn")
    assert pair.name == "mnist5k-mlp + mnist5k-cnn"
    single = [
        load_logits(name, "mnist-5k", limit=50, cache_dir=tmp_path).logit_set for name in ("mnist5k-mlp", "mnist5k-cnn")
    ]
    seen: list[tuple[int, int]] = []
    both = load_logits(
        "mnist5k-mlp + mnist5k-cnn",
        "mnist-5k",
        limit=50,
        cache_dir=tmp_path,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert both.cached
    assert seen == [(50, 100), (100, 100)]
    np.testing.assert_allclose(both.logit_set.logits, np.mean([part.logits for part in single], axis=0), atol=1e-5)
    np.testing.assert_array_equal(both.logit_set.labels, single[0].labels)


def test_an_architecture_is_that_of_the_checkpoints(tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.save(create_model("mlp_14x14", num_classes=10).state_dict(), tmp_path / f"{name}.pth")
    one, two = tmp_path / "one.pth", tmp_path / "two.pth"
    reference = f"{one} + mnist5k-mlp + {two}"
    teacher = find_teacher(reference, "mlp_14x14")
    assert teacher.architecture.split(" + ")[::2] == ["mlp_14x14", "mlp_14x14"]
    logits = load_logits(reference, "mnist-5k", architecture="mlp_14x14", limit=5, cache_dir=tmp_path).logit_set
    assert logits.num_samples == 5
    for wrong in (f"mnist5k-mlp + {two}", f"{two} + mnist5k-mlp"):
        with pytest.raises(CistError, match="not those of vgg8"):
            find_teacher(wrong, "vgg8")
        with pytest.raises(CistError, match="not those of vgg8"):
            load_logits(wrong, "mnist-5k", architecture="vgg8", limit=5, cache_dir=tmp_path)


def test_an_architecture_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    message = "only together with a checkpoint, but got 'vgg8' for 'mnist5k-mlp'"
    with pytest.raises(CistError, match=message):
        find_teacher("mnist5k-mlp + timm:resnet18", "vgg8")
    with pytest.raises(CistError, match=message):
        load_logits("mnist5k-mlp + mnist5k-cnn", "mnist-5k", architecture="vgg8", cache_dir=tmp_path)


def test_a_path_may_hold_a_plus(tmp_path: Path) -> None:
    (tmp_path / "a + b.pth").touch()
    assert split_ensemble(str(tmp_path / "a + b.pth")) == [str(tmp_path / "a + b.pth")]
    with pytest.raises(CistError, match="a teacher on both sides"):
        split_ensemble("a +  + b")
