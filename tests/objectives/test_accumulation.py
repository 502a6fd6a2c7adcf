"""The parts of a batch, each with the number of samples of the whole, add up to the whole."""

import pytest
import torch

from cist_core import CistError
from cist_core.objectives import create_objective, objective_names, objective_specification

REQUIRED_VALUES = {"rho": 4.0, "H": 0.5}
OF_THE_BATCH = {"kd-entout-ce", "kd-entout-ht", "mlkd", "cist+mlkd"}
"""Those that compare the samples of a batch with one another; a part has other outliers and other pairs."""
NOT_SUMS = {"ramp", "strength"}
TEXTS = [
    *objective_names(),
    "cist:rho=4,weighting=teacher,gradient=full",
    "entropy-matched:H=0.5,weighting=student",
    "kd:lambda_ce=0",
]
COUNTS = torch.tensor([1, 1, 2, 2, 14, 15, 16, 16])


def complete(text):
    name = text.partition(":")[0]
    required = [parameter.name for parameter in objective_specification(name).parameters if parameter.required]
    return create_objective(text, **{key: REQUIRED_VALUES[key] for key in required if f"{key}=" not in text})


class Step:
    """An optimiser step over 8 sequences of 1 to 16 tokens, in float64."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(8, 16, 70, generator=generator, dtype=torch.float64)
        self.inputs, self.teacher = draw[..., :20], draw[..., 20:] * 3
        self.labels = torch.randint(0, 50, (8, 16), generator=generator)
        self.mask = torch.arange(16) < COUNTS[:, None]
        self.head = torch.nn.Linear(20, 50, dtype=torch.float64)

    def terms(self, objective, part, **options):
        return objective(
            student_logits=self.head(self.inputs[part]),
            teacher_logits=self.teacher[part],
            labels=self.labels[part].masked_fill(~self.mask[part], -100),
            mask=self.mask[part],
            epoch=7,
            **options,
        )

    def gradient(self):
        gradient, self.head.weight.grad = self.head.weight.grad, None
        return gradient


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_micro_batches_of_unequal_token_counts_add_up_to_the_whole_batch(text, as_tensor):
    objective, step = complete(text), Step()
    whole = step.terms(objective, slice(0, 8))
    whole["total"].backward()
    expected = step.gradient()
    num_items = step.mask.sum() if as_tensor else int(COUNTS.sum())
    sums = dict.fromkeys((name for name, value in whole.items() if value.dim() == 0), 0.0)
    for start in range(0, 8, 2):
        terms = step.terms(objective, slice(start, start + 2), num_items=num_items)
        terms["total"].backward()
        sums = {name: value + terms[name].item() for name, value in sums.items()}
    gradient = step.gradient()
    if objective.name in OF_THE_BATCH:
        assert sums["ce"] == pytest.approx(whole["ce"].item(), rel=1e-12)
        return
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-12)
    for name in set(sums) - NOT_SUMS:
        assert sums[name] == pytest.approx(whole[name].item(), rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("text", TEXTS)
def test_num_items_of_the_batch_itself_is_the_mean(text):
    objective, step = complete(text), Step()
    plain, counted = (step.terms(objective, slice(0, 8), **o) for o in ({}, {"num_items": int(COUNTS.sum())}))
    for name, value in plain.items():
        torch.testing.assert_close(counted[name], value)


@pytest.mark.parametrize("text", TEXTS)
def test_a_part_in_which_nothing_counts_adds_nothing(text):
    objective, step = complete(text), Step()
    step.mask[:] = False
    with pytest.raises(CistError, match="the mask keeps no token"):
        step.terms(objective, slice(0, 2))
    terms = step.terms(objective, slice(0, 2), num_items=67)
    terms["total"].backward()
    assert terms["total"] == 0
    assert (step.gradient() == 0).all()


def test_the_mean_of_means_is_wrong_by_more_than_the_whole_gradient():
    objective, step = create_objective("kd:tau=2"), Step()
    step.terms(objective, slice(0, 8))["total"].backward()
    expected = step.gradient()
    for start in range(0, 8, 2):
        (step.terms(objective, slice(start, start + 2))["total"] / 4).backward()
    assert (step.gradient() - expected).norm() > expected.norm()


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_average_their_gradients_multiply_by_their_number(processes):
    objective, step = create_objective("cist:rho=4"), Step()
    step.terms(objective, slice(0, 8))["total"].backward()
    expected, share = step.gradient(), 8 // processes
    gradients = []
    for rank in range(processes):
        part = slice(rank * share, (rank + 1) * share)
        (step.terms(objective, part, num_items=67)["total"] * processes).backward()
        gradients.append(step.gradient())
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected, rtol=1e-7, atol=1e-12)


def test_an_objective_that_does_not_know_num_items_refuses_it(own_objectives):
    from cist_core.objectives import register_objective

    @register_objective("plain")
    def plain(*, student_logits, teacher_logits, labels, mask=None):
        return {"total": student_logits.sum()}

    with pytest.raises(CistError, match="'plain' does not take num_items; leave it out"):
        create_objective("plain")(student_logits=torch.ones(1, 2), teacher_logits=torch.ones(1, 2), num_items=3)
