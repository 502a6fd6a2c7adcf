"""Train the two students that the lesson plays, and write down what they say of the test images after every epoch.

    python -m sample_models.record_students

Both are runs of the preset ``demo``, which differ in their objective alone. Written is
``app/lesson/two-students.json``: for each epoch, 0 before the first step, the accuracy and the mean entropy at
temperature 1 over all test images, and the predictions of ten of them. The same seed, software and machine give the
same file.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.entropy.soft_labels import entropy_of, soft_labels
from cist_core.inference.sources import load_logits
from cist_core.training import preset, train
from cist_core.training.config import RunConfig, parse_config
from cist_core.zoo.students import Student, create_student

FILE = Path(__file__).resolve().parents[1] / "app" / "lesson" / "two-students.json"
STUDENTS = {"KD, τ = 4": "kd:tau=4", "CIST, ρ = 4": "cist:rho=4"}
QUANTILE = 0.9
"""Of the teacher's entropy over the images of one class that it gets right: the image that stands there is shown."""

FloatArray = NDArray[np.float64]


def main() -> None:
    test = load_dataset("mnist-5k", "test")
    teacher = np.asarray(load_logits("mnist5k-cnn", "mnist-5k", "test").logit_set.logits, dtype=np.float64)
    shown = choose_samples(teacher, test.labels)
    record = {
        "data": "mnist-5k, test",
        "images": [picture(test, index) for index in shown],
        "labels": test.labels[shown].tolist(),
        "teacher": {
            "accuracy": round(float((teacher.argmax(1) == test.labels).mean()), 4),
            "entropy": round(float(entropy_of(soft_labels(teacher, 1.0)).mean()), 4),
            "soft": np.round(soft_labels(teacher[shown], 1.0), 3).tolist(),
        },
        "students": [
            {"name": name, "objective": objective, **follow(objective, test, shown)}
            for name, objective in STUDENTS.items()
        ],
    }
    FILE.write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    for student in record["students"]:
        print(student["name"], student["accuracy"][-1], student["entropy"][-1])


def choose_samples(teacher: FloatArray, labels: NDArray[np.int64]) -> list[int]:
    """One image of each class, in their order: rather hard ones, of those that the teacher gets right."""
    entropy = entropy_of(soft_labels(teacher, 1.0))
    chosen = []
    for label in range(teacher.shape[1]):
        right = np.flatnonzero((labels == label) & (teacher.argmax(1) == label))
        chosen.append(int(right[np.argsort(entropy[right])][int(QUANTILE * (len(right) - 1))]))
    return chosen


def follow(objective: str, test: ImageDataset, shown: list[int]) -> dict[str, Any]:
    """What a student says after every epoch."""
    config = parse_config({**preset("demo").model_dump(), "objective": objective}, source="the recording")
    rows: dict[str, list[Any]] = {"accuracy": [], "entropy": [], "soft": []}
    for network, student in epochs_of(config):
        student.network.load_state_dict(network)
        student.network.eval()
        with torch.inference_mode():
            logits = student.network(student.preprocessing(torch.from_numpy(np.asarray(test.images[:]))))
        soft = soft_labels(logits.double().numpy(), 1.0)
        rows["accuracy"].append(round(float((soft.argmax(1) == test.labels).mean()), 4))
        rows["entropy"].append(round(float(entropy_of(soft).mean()), 4))
        rows["soft"].append(np.round(soft[shown], 3).tolist())
    return rows


def epochs_of(config: RunConfig) -> Iterator[tuple[dict[str, torch.Tensor], Student]]:
    """The weights before the first step and after every epoch, in order."""
    student = create_student(config.student.architecture, num_classes=10, seed=config.seed)
    found: dict[int, dict[str, torch.Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"

        def look() -> bool:
            # Before every step the engine asks whether to stop; by then the epoch before has left its checkpoint.
            for path in checkpoints.glob("step-*.pt"):
                step = int(path.stem.partition("-")[2])
                if step not in found:
                    found[step] = torch.load(path, map_location="cpu", weights_only=True)["student"]
            return False

        train(config, folder, should_stop=look)
        look()
    assert len(found) == config.epochs, f"expected a checkpoint of each of {config.epochs} epochs, but got {len(found)}"
    yield {name: tensor.clone() for name, tensor in student.network.state_dict().items()}, student
    for step in sorted(found):
        yield found[step], student


def picture(data: ImageDataset, index: int) -> str:
    """An image as the address of a PNG."""
    content = io.BytesIO()
    Image.fromarray(np.asarray(data.images[index : index + 1])[0].squeeze()).save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    main()
