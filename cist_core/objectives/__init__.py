"""Distillation objectives: temperature rule, weight and divergence under one interface.

    >>> import torch
    >>> objective = create_objective("cist:rho=4")
    >>> student, teacher = torch.tensor([[2.0, 0.5, 0.0]]), torch.tensor([[9.0, 1.0, 0.0]])
    >>> terms = objective(student_logits=student, teacher_logits=teacher, labels=torch.tensor([0]))
    >>> {name: round(value.item(), 3) for name, value in terms.items()}
    {'total': 0.386, 'ce': 0.306, 'kd': 0.395, 'tau_teacher': 1.417, 'tau_student': 1.0, 'weight': 1.417, 'kl': 0.279}

Every objective is a pure function as well (`cist_loss`, `dkd_loss`, ...). A new one is a function in a file of its own,
under `register_objective`; a file in `cist_core.objectives.methods` is found by itself. A temperature rule that has its
formula in torch is an objective of its own name already (`rule_loss`).
"""

from cist_core.objectives import methods as _methods  # noqa: F401 - registers every objective
from cist_core.objectives.any_rule import rule_loss
from cist_core.objectives.batch import Batch, Logits, NumItems, StepMean
from cist_core.objectives.chunks import ChunkedLogits
from cist_core.objectives.methods.ce import ce_loss
from cist_core.objectives.methods.cist import cist_loss
from cist_core.objectives.methods.ctkd import cist_ctkd_loss, ctkd_loss
from cist_core.objectives.methods.dkd import cist_dkd_loss, dkd_loss
from cist_core.objectives.methods.dtkd import dtkd_loss
from cist_core.objectives.methods.entropy_matched import entropy_matched_loss
from cist_core.objectives.methods.entropy_outliers import kd_entropy_outliers_ce_loss, kd_entropy_outliers_ht_loss
from cist_core.objectives.methods.entropy_thresholds import kd_entropy_threshold_ce_loss, kd_entropy_threshold_ht_loss
from cist_core.objectives.methods.jsd import cist_jsd_loss, jsd_loss
from cist_core.objectives.methods.kd import kd_loss
from cist_core.objectives.methods.mlkd import cist_mlkd_loss, mlkd_loss
from cist_core.objectives.methods.reverse_kl import cist_reverse_kl_loss, reverse_kl_loss
from cist_core.objectives.methods.scale import lskd_loss, normkd_loss
from cist_core.objectives.methods.ttm import ttm_loss, wttm_loss
from cist_core.objectives.presets import ObjectivePreset, objective_presets
from cist_core.objectives.registry import (
    Objective,
    create_objective,
    objective_names,
    objective_specification,
    register_objective,
)
from cist_core.objectives.softening import Softening
from cist_core.objectives.specification import Specification
from cist_core.objectives.terms import Terms, collect
from cist_core.temperature.parameters import Choice, Kind, Learnable, Number, Numbers, Parameter, Switch

__all__ = [
    "Batch",
    "Choice",
    "ChunkedLogits",
    "Kind",
    "Learnable",
    "Logits",
    "NumItems",
    "Number",
    "Numbers",
    "Objective",
    "ObjectivePreset",
    "Parameter",
    "Softening",
    "Specification",
    "StepMean",
    "Switch",
    "Terms",
    "ce_loss",
    "cist_ctkd_loss",
    "cist_dkd_loss",
    "cist_jsd_loss",
    "cist_loss",
    "cist_mlkd_loss",
    "cist_reverse_kl_loss",
    "collect",
    "create_objective",
    "ctkd_loss",
    "dkd_loss",
    "dtkd_loss",
    "entropy_matched_loss",
    "jsd_loss",
    "kd_entropy_outliers_ce_loss",
    "kd_entropy_outliers_ht_loss",
    "kd_entropy_threshold_ce_loss",
    "kd_entropy_threshold_ht_loss",
    "kd_loss",
    "lskd_loss",
    "mlkd_loss",
    "normkd_loss",
    "objective_names",
    "objective_presets",
    "objective_specification",
    "register_objective",
    "reverse_kl_loss",
    "rule_loss",
    "ttm_loss",
    "wttm_loss",
]
