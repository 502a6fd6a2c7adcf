"""What went wrong with losses over tokens elsewhere, each by name."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from cist_core import CistError
from cist_core.objectives import ChunkedLogits, create_objective
from cist_core.objectives.divergences import forward_kl, top_k_kl

DIVERGENCES = [
    "kd:tau=1",
    "reverse-kl:tau=1",
    "jsd:tau=1",
    "cist:rho=4",
    "cist+reverse-kl:rho=4",
    "cist+jsd:rho=4",
    "lskd",
]


def logits_with_loss(*losses):
    """Two classes, of which the first is right and costs so much."""
    return torch.tensor([[-np.log(np.expm1(loss)), 0.0] for loss in losses])


def test_micro_batches_of_one_and_of_three_tokens_give_two_and_a_half_and_not_two():
    objective = create_objective("ce")
    total = 0.0
    for losses in ([1.0], [3.0, 3.0, 3.0]):
        logits = logits_with_loss(*losses)
        labels = torch.zeros(len(losses), dtype=torch.long)
        total += objective(student_logits=logits, teacher_logits=logits, labels=labels, num_items=4)["total"].item()
    assert total == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize("text", DIVERGENCES)
def test_identical_models_in_half_precision_with_a_quarter_of_a_million_classes_do_not_differ(text):
    logits = (4 * torch.randn(3, 248_320, generator=torch.Generator().manual_seed(0))).bfloat16()
    terms = create_objective(text, lambda_ce=0)(student_logits=logits, teacher_logits=logits)
    assert terms["kl"].abs().max() < 1e-6


@pytest.mark.parametrize("text", ["reverse-kl:tau=0.05", "kd:tau=0.05", "jsd:tau=0.05"])
def test_gradients_at_a_very_small_temperature_are_finite(text):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (30 * torch.randn(5, 200, generator=generator) for _ in range(2))
    student.requires_grad_()
    terms = create_objective(text, lambda_ce=0)(student_logits=student, teacher_logits=teacher)
    terms["total"].backward()
    assert torch.isfinite(terms["total"])
    assert torch.isfinite(student.grad).all()


def test_jensen_shannon_is_finite_where_both_probabilities_underflow_and_has_no_endpoints():
    student = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    teacher = torch.tensor([[400.0, 0.0, -800.0]])
    terms = create_objective("jsd:tau=1,lambda_ce=0")(student_logits=student, teacher_logits=teacher)
    terms["total"].backward()
    assert terms["kl"].item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(student.grad).all()
    for beta in (0, 1):
        with pytest.raises(CistError, match="beta"):
            create_objective(f"jsd:beta={beta}")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("text", DIVERGENCES)
def test_minus_infinity_at_padding_gives_no_nan(text, chunked):
    """In classes that are padding and in whole rows that the mask leaves out."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 6, 20, generator=generator) for _ in range(2))
    for logits in (student, teacher):
        logits[..., 17:] = -torch.inf
        logits[1, 4:] = -torch.inf
    student.requires_grad_()
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    labels = torch.randint(17, (2, 6), generator=generator).masked_fill(~mask, -100)
    given = ChunkedLogits(student, lambda rows: rows, 20) if chunked else student
    terms = create_objective(text)(student_logits=given, teacher_logits=teacher, labels=labels, mask=mask)
    terms["total"].backward()
    assert torch.isfinite(terms["total"])
    assert torch.isfinite(student.grad).all()
    assert (student.grad[..., 17:] == 0).all()


@pytest.mark.parametrize("text", DIVERGENCES)
def test_other_logits_at_the_prompt_change_nothing(text):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 8, 12, generator=generator) for _ in range(2))
    mask = (torch.arange(8) >= 3).expand(2, 8)
    labels = torch.randint(12, (2, 8), generator=generator)
    objective, totals = create_objective(text), []
    for factor in (1.0, 50.0):
        changed = [torch.where(mask[..., None], logits, logits * factor) for logits in (student, teacher)]
        totals.append(
            objective(student_logits=changed[0], teacher_logits=changed[1], labels=labels, mask=mask)["total"]
        )
    assert torch.equal(*totals)


def test_a_truncated_kl_is_never_negative_nor_above_the_whole():
    generator = np.random.default_rng(0)
    logits = 4 * generator.standard_normal((300, 40))
    log_p, log_q = log_softmax(logits, axis=1), log_softmax(1.2 * logits + generator.standard_normal((300, 40)), axis=1)
    whole = rel_entr(np.exp(log_p), np.exp(log_q)).sum(1)
    order = np.argsort(-log_p, axis=1)[:, :3]
    top_p, top_q = (np.take_along_axis(log, order, axis=1) for log in (log_p, log_q))
    cut_off = rel_entr(np.exp(top_p), np.exp(top_q)).sum(1)
    assert (np.sum(np.exp(top_p) * (top_p - top_q), axis=1) < 0).any()  # without the rest
    found = top_k_kl(torch.from_numpy(top_p), torch.from_numpy(top_q)).numpy()
    rest_p, rest_q = (1 - np.exp(top).sum(1) for top in (top_p, top_q))
    np.testing.assert_allclose(found, cut_off + rel_entr(rest_p, rest_q), atol=1e-9)
    assert (found >= 0).all()
    assert (found <= whole + 1e-9).all()


def test_a_truncated_kl_that_leaves_nothing_out_is_the_whole():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    other = logits.flip(0).requires_grad_()
    found = top_k_kl(logits, other)
    torch.testing.assert_close(found, forward_kl(logits, other), rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert torch.isfinite(other.grad).all()
