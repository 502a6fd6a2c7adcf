"""Teacher and student that read other sizes, channels and normalisations get the same images, each in its own way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cist_core.data.loading import load_dataset
from cist_core.inference.run import infer
from cist_core.inference.sources import find_teacher
from cist_core.training import preset
from cist_core.training.images import ImageBatches
from cist_core.training.tasks.image_classification import ImageClassification
from cist_core.training.trainer import create_accelerator
from cist_core.zoo.architectures import create_model

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
READS = {"mean": MEAN, "std": STD, "image_size": 32, "resize": True, "grey_to_colour": True}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ImageClassification:
    path = tmp_path_factory.mktemp("teacher") / "mine.pth"
    torch.manual_seed(0)
    torch.save(create_model("resnet8", num_classes=10).state_dict(), path)
    config = preset("demo").changed(
        data={"train_samples": 40, "validation_samples": 20},
        teacher={"name": str(path), "preprocessing": READS},
        student={"architecture": "mlp_14x14"},
        augmentation={"crop_padding": 2},
        batch_size=20,
        machine={"device": "cpu"},
    )
    task = ImageClassification(config, accelerator=create_accelerator(config))
    task.create_student()
    return task


def _alone(task: ImageClassification, pixels: np.ndarray) -> torch.Tensor:
    """The teacher by itself, in double precision, on images that are prepared step by step."""
    images = torch.from_numpy(pixels).double().permute(0, 3, 1, 2).expand(-1, 3, -1, -1) / 255
    images = F.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    images = (images - torch.tensor(MEAN).double()[:, None, None]) / torch.tensor(STD).double()[:, None, None]
    model = create_model("resnet8", num_classes=10).double().eval()
    model.load_state_dict(find_teacher(task.config.teacher.name).model.state_dict())
    with torch.inference_mode():
        return model(images).float()


def test_a_step_feeds_both_correctly(task: ImageClassification) -> None:
    chosen = torch.arange(7)
    pixels = ImageBatches(task.splits.train, task.student_preprocessing, task.device).pixels(chosen)
    assert pixels.shape == (7, 28, 28, 1)
    torch.testing.assert_close(task.ask_teacher(pixels), _alone(task, pixels.numpy()), atol=1e-4, rtol=1e-4)
    usual = task.student_preprocessing
    expected = (pixels.double() / 255 - usual.mean[0]) / usual.std[0]
    torch.testing.assert_close(
        ImageBatches(task.splits.train, task.student_preprocessing, task.device)[chosen].double(),
        expected.permute(0, 3, 1, 2),
        atol=1e-5,
        rtol=1e-5,
    )


def test_inference_feeds_it_as_a_step_does(task: ImageClassification, tmp_path: Path) -> None:
    digits = load_dataset("mnist-5k").take(np.arange(9))
    logits = infer(task.teacher, digits, device="cpu", cache_dir=tmp_path).logit_set.logits
    np.testing.assert_allclose(logits, _alone(task, np.asarray(digits.images)), atol=1e-4)
