"""What objectives are called by people: readable without torch, for the list of runs and for forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class ObjectiveName(NamedTuple):
    """How a form lists an objective."""

    title: str
    group: str


BASELINE, LOGITS, RELATIONS = "Baseline", "Soft labels, sample by sample", "Relations between samples and classes"
CIST_BASED, ABLATIONS, OTHER = "On top of CIST", "Ablations and bounds", "Others"

OBJECTIVE_NAMES: Mapping[str, ObjectiveName] = {
    "cist": ObjectiveName("CIST", LOGITS),
    "kd": ObjectiveName("KD", LOGITS),
    "dkd": ObjectiveName("DKD", LOGITS),
    "lskd": ObjectiveName("LSKD", LOGITS),
    "normkd": ObjectiveName("NormKD", LOGITS),
    "dtkd": ObjectiveName("DTKD", LOGITS),
    "ctkd": ObjectiveName("CTKD", LOGITS),
    "ttm": ObjectiveName("TTM", LOGITS),
    "wttm": ObjectiveName("WTTM", LOGITS),
    "reverse-kl": ObjectiveName("Reverse KL", LOGITS),
    "jsd": ObjectiveName("Jensen-Shannon", LOGITS),
    "mlkd": ObjectiveName("MLKD", RELATIONS),
    "cist+dkd": ObjectiveName("CIST + DKD", CIST_BASED),
    "cist+ctkd": ObjectiveName("CIST + CTKD", CIST_BASED),
    "cist+mlkd": ObjectiveName("CIST + MLKD", CIST_BASED),
    "cist+jsd": ObjectiveName("CIST + Jensen-Shannon", CIST_BASED),
    "cist+reverse-kl": ObjectiveName("CIST + reverse KL", CIST_BASED),
    "ce": ObjectiveName("Cross-entropy, no teacher", BASELINE),
    "entropy-matched": ObjectiveName("Entropy-matched (oracle)", ABLATIONS),
    "kd-entout-ce": ObjectiveName("KD, entropy outliers (cross-entropy)", ABLATIONS),
    "kd-entout-ht": ObjectiveName("KD, entropy outliers (higher τ)", ABLATIONS),
    "kd-entropy-threshold-ce": ObjectiveName("KD, entropy thresholds (cross-entropy)", ABLATIONS),
    "kd-entropy-threshold-ht": ObjectiveName("KD, entropy threshold (higher τ)", ABLATIONS),
}
"""In the order of a form."""

SYMBOLS: Mapping[str, str] = {
    "rho": "ρ",
    "tau": "τ",
    "higher_tau": "higher τ",
    "theta": "θ",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "lambda_ce": "λ CE",
    "lambda_kl": "λ KL",
}
"""Hyper-parameters that have a letter in formulas."""

_DECISIVE = ("rho", "tau", "k", "gamma", "H")
"""The first of these that an objective has stands behind its name."""
_USUAL_FLOOR = 1.0


def objective_name(name: str) -> ObjectiveName:
    """An objective's title and group; one of somebody's own goes by its registered name."""
    return OBJECTIVE_NAMES.get(name, ObjectiveName(name, OTHER))


def objective_label(objective: Mapping[str, Any]) -> str:
    """An objective of a config as people read it, with the parameter that decides its soft labels.

    Example:
        >>> objective_label({"name": "cist", "parameters": {"rho": 4.355, "floor": 1.0, "lambda_kl": 0.9}})
        'CIST ρ = 4.36'
        >>> objective_label({"name": "kd", "parameters": {"tau": 4.0}})
        'KD τ = 4'
    """
    name, parameters = str(objective.get("name", "?")), objective.get("parameters", {})
    title = objective_name(name).title
    decisive = next((key for key in _DECISIVE if isinstance(parameters.get(key), int | float)), None)
    written = [] if decisive is None else [parameter_label(decisive, parameters[decisive])]
    if parameters.get("floor", _USUAL_FLOOR) != _USUAL_FLOOR:
        written.append(parameter_label("floor", parameters["floor"]))
    return " ".join([title, ", ".join(written)]).rstrip()


def parameter_label(name: str, value: object) -> str:
    """``ρ = 4.36``, ``λ KL = 8``, ``weighting = product``."""
    readable = SYMBOLS.get(name, name.replace("_", " "))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{readable} = {value:.3g}" if number else f"{readable} = {value}"
