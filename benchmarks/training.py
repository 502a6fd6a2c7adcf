"""What CIST costs in a training step, beside KD and beside the step itself.

    python benchmarks/training.py

One thread, batches of 64, ResNet-8 and ResNet-20 as students of 100 classes, ResNet-20 as the teacher. A loss is timed
forward and backward down to the student's logits; a step is one update of the weights, the teacher's logits at hand.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from cist_core.objectives import create_objective
from cist_core.zoo.architectures import create_model
from cist_core.zoo.folding import fold_batch_norm

BATCH, CLASSES, SECONDS = 64, 100, 3.0


def measure(work: Callable[[], object]) -> float:
    """Median seconds of a call, after a few that do not count."""
    for _ in range(3):
        work()
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS or len(times) < 5:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def loss_seconds(text: str, classes: int = CLASSES) -> float:
    objective = create_objective(text)
    student = (3 * torch.randn(BATCH, classes)).requires_grad_()
    batch = {"teacher_logits": 5 * torch.randn(BATCH, classes), "labels": torch.randint(classes, (BATCH,))}

    def work() -> None:
        student.grad = None
        objective(student_logits=student, **batch)["total"].backward()

    return measure(work)


def step_seconds(architecture: str, *, online: bool) -> float:
    objective = create_objective("cist:rho=4")
    student = create_model(architecture, num_classes=CLASSES).to(memory_format=torch.channels_last)
    teacher = fold_batch_norm(create_model("resnet20", num_classes=CLASSES)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels, kept = torch.randint(CLASSES, (BATCH,)), torch.randn(BATCH, CLASSES)

    def work() -> None:
        logits = kept
        if online:
            with torch.inference_mode():
                logits = teacher(images)
            logits = logits.clone()
        loss = objective(student_logits=student(images), teacher_logits=logits, labels=labels)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return measure(work)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for classes in (10, 100, 1000):
        kd, cist = loss_seconds("kd", classes), loss_seconds("cist:rho=4", classes)
        print(f"{classes:5} classes: KD {kd * 1e3:.2f} ms, CIST {cist * 1e3:.2f} ms, {cist / kd:.2f} times KD")
    extra = loss_seconds("cist:rho=4") - loss_seconds("kd")
    for architecture in ("resnet8", "resnet20"):
        step, online = step_seconds(architecture, online=False), step_seconds(architecture, online=True)
        print(
            f"{architecture}: a step {step * 1e3:.1f} ms, with the teacher in it {online * 1e3:.1f} ms "
            f"({online / step:.2f} times); CIST adds {extra / step:.2%} of a step to KD"
        )


if __name__ == "__main__":
    main()
