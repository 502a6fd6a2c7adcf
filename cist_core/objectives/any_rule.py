"""KD under the temperatures of any rule: what makes a new rule an objective of its name, without a line here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from torch import Tensor

from cist_core.errors import CistError
from cist_core.objectives.batch import Batch, Logits, NumItems
from cist_core.objectives.divergences import forward_kl
from cist_core.objectives.options import LambdaCe, LambdaKl
from cist_core.objectives.softening import GradientMode, Normalise, Weighting, by_rule, weighing
from cist_core.objectives.specification import Specification, guarded, specify
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature import TemperatureRule, rule_class, rule_names

TRAINED_AS = {"fixed": "kd", "matched": "entropy-matched"}
"""Rules whose objective has another name. Those of the other published methods (CIST, LSKD, ...) share theirs."""


def _rule_loss(
    *,
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    num_items: NumItems = None,
    rule: TemperatureRule,
    weighting: Weighting = "teacher",
    normalise: Normalise = False,
    gradient: GradientMode = "scale-free",
    lambda_ce: LambdaCe = 0.1,
    lambda_kl: LambdaKl = 0.9,
) -> Terms:
    """KD under the temperatures of any rule.

    ``L = lambda_ce CE + lambda_kl mean_i( w_i KL(softmax(z_t,i / tau_t,i) || softmax(z_s,i / tau_s,i)) )`` with the
    temperatures that the rule gives teacher and student (`TemperatureRule.torch_pair`). Shapes, terms and errors as in
    `kd_loss`; weights and gradient modes as in `cist_loss`.

    The defaults are those of NormKD: ``w_i = tau_t,i^2``, and the gradient flows through ``tau_s`` in the softmax. They
    are safe for a rule without a floor. If such a temperature is proportional to the scale of the logits, nothing holds
    the student's scale under ``constant`` and ``full``, which let it collapse, and under ``scale-free`` with a weight
    that contains ``tau_s``, which lets it run away.

    Args:
        student_logits: ``(B, C)`` or ``(B, L, C)``.
        teacher_logits: likewise.
        labels: ``(B,)`` or ``(B, L)`` integers.
        mask: ``(B, L)`` boolean.
        num_items: what sums over the samples are divided by; None: by their number.
        rule: one that has its formula in torch.
        weighting: as in `cist_loss`.
        normalise: divide the weights by their batch mean.
        gradient: as in `cist_loss`.
        lambda_ce: weight of the cross-entropy.
        lambda_kl: weight of the divergence.

    Raises:
        CistError: also if the rule has no formula in torch.

    Example:
        >>> import torch
        >>> from cist_core.temperature import Cist
        >>> teacher, student = torch.tensor([[14.0, 2.0, -4.0]]), torch.tensor([[7.0, 1.0, -2.0]])
        >>> terms = rule_loss(student_logits=student, teacher_logits=teacher, labels=torch.tensor([0]), rule=Cist(2.0))
        >>> terms["tau_teacher"].item(), terms["tau_student"].item()
        (5.0, 2.5)
    """
    batch = Batch.create(
        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask, num_items=num_items
    )
    softening = by_rule(batch, rule, weighing(batch, weighting, normalise=normalise), gradient=gradient)
    divergence = softening.compare(batch, forward_kl)
    return collect(batch, softening, divergence, lambda_ce=lambda_ce, lambda_kl=lambda_kl)


_SHARED = specify("rule", _rule_loss, bound=("rule",))
rule_loss = guarded(_rule_loss, _SHARED)


def rule_objectives() -> list[str]:
    """The rules that are objectives by their own name, unless one by hand has it."""
    return [name for name in rule_names() if name not in TRAINED_AS and rule_class(name).can_train()]


def rule_specification(name: str) -> Specification:
    """`rule_loss` under a rule, whose parameters stand among those of the objective.

    Raises:
        CistError: if there is no such rule, it has no formula in torch, or a parameter of it is one of `rule_loss`.
    """
    return _specification(rule_class(name), name)


@cache
def _specification(rule: type[TemperatureRule], name: str) -> Specification:
    own = rule.signature().parameters
    names = {parameter.name for parameter in own}
    if taken := names & {"rule", *_SHARED.inputs, *(parameter.name for parameter in _SHARED.parameters)}:
        raise CistError(f"The rule '{name}' has a parameter '{min(taken)}', as every objective has; name it otherwise.")

    def loss(**given: Any) -> Terms:
        return rule_loss(rule=rule(**{key: given.pop(key) for key in names}), **given)

    summary = f"KD under the temperatures of the rule {rule.label or name}."
    return replace(_SHARED, name=name, function=loss, parameters=own + _SHARED.parameters, summary=summary)
