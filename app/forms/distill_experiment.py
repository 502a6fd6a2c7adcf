"""The comparison that the Distill page offers as one press: CIST against the fixed temperature of its mean entropy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.forms.distill import make_configs, recipe
from cist_core.compare.recommendation import rho_outcome
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError
from cist_core.training import RunConfig
from cist_core.training.objective_names import parameter_label

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Experiment:
    """CIST at one ρ and KD at the temperature with the same mean entropy, under one recipe and the same seeds."""

    rho: float
    floor: float
    tau: float

    @property
    def runs(self) -> int:
        return 2 * len(SEEDS)

    @property
    def title(self) -> str:
        floor = "" if self.floor == 1 else f", floor = {self.floor:g}"
        return (
            f"CIST {parameter_label('rho', self.rho)}{floor} against KD {parameter_label('tau', self.tau)}, three seeds"
        )

    def sentence(self, config: RunConfig) -> str:
        """What will run, as the form stands, and what the comparison leaves open."""
        images = config.data.train_samples
        on = "all images" if images is None else f"{images:,} images"
        weight = config.objective.parameters["lambda_kl"]
        return (
            f"{self.runs} runs of {config.student.architecture} on {on}, {config.epochs or 0:,} epochs, seeds 0, 1 "
            f"and 2. Both soft labels have the same mean entropy, and both losses λ KL = {weight:g}; a full comparison "
            "tunes λ KL for each."
        )

    def configs(
        self,
        content: Mapping[str, Any],
        answers: Mapping[str, Any],
        *,
        check_origin: Callable[[RunConfig], None],
    ) -> list[RunConfig]:
        """Its runs, with student, data and recipe of the form; none if the form is wrong, as the form itself says."""
        if content["student"] is None:
            return []
        objective = {"name": "cist", "parameters": {"rho": self.rho, "floor": self.floor}}
        try:
            # Neither of the two takes a second view, whatever the form's own objective does.
            filled = {**content, **recipe({**answers, "strong": False}), "objective": objective}
            configs = make_configs(filled, SEEDS, [f"kd:tau={self.tau!r}"])
            check_origin(configs[0])
        except CistError:
            return []
        return configs

    def group_name(self) -> str:
        return f"{self.title}, {time.strftime('%Y-%m-%d %H:%M:%S')}"


def matched_experiment(curves: EntropyCurves, *, rho: float, floor: float) -> Experiment | None:
    """The experiment at a ρ; None where no fixed temperature has its mean entropy."""
    try:
        tau = rho_outcome(curves, rho, floor=floor).matched_tau
    except CistError:
        return None
    return None if tau is None else Experiment(rho, floor, float(f"{tau:.3g}"))
