"""Objectives on a GPU give the numbers of the CPU."""

import pytest
import torch

from cist_core.objectives import create_objective, objective_names, objective_specification

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

REQUIRED = {"rho": 3.0, "H": 1.0}


def objective(name: str) -> torch.nn.Module:
    parameters = objective_specification(name).parameters
    return create_objective(name, **{field.name: REQUIRED[field.name] for field in parameters if field.required})


def inputs(device: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (scale * torch.randn(64, 10, generator=generator) for scale in (2.0, 6.0))
    labels = torch.randint(10, (64,), generator=generator)
    return {
        "student_logits": student.to(device).requires_grad_(),
        "teacher_logits": teacher.to(device),
        "labels": labels.to(device),
    }


@pytest.mark.parametrize("name", objective_names())
def test_terms_and_gradients_are_those_of_the_cpu(name: str) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        given = inputs(device)
        terms = objective(name).to(device)(**given, epoch=1)
        (gradient,) = torch.autograd.grad(terms["total"], given["student_logits"])
        found[device] = {"gradient": gradient, **{key: term.detach() for key, term in terms.items()}}
    for key, expected in found["cpu"].items():
        torch.testing.assert_close(
            found["cuda"][key].cpu(), expected, rtol=2e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
        )
