"""The torch formula of every rule against its NumPy formula, and what a new rule needs to be trained with."""

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import hard_rows

from cist_core import CistError, EntropyCurves, LogitSet
from cist_core.objectives import (
    cist_loss,
    create_objective,
    entropy_matched_loss,
    kd_loss,
    normkd_loss,
    objective_names,
    objective_specification,
    rule_loss,
)
from cist_core.objectives.batch import taking_part
from cist_core.temperature import (
    Cist,
    Fixed,
    Matched,
    NormKd,
    TemperatureRule,
    parse_rule,
    rule_class,
    rule_names,
    rules,
)
from cist_core.temperature import rule as rule_module
from cist_core.temperature.logit_rows import LogitRows

TEXTS = [
    "tau=4",
    "cist:rho=3",
    "cist:rho=3,floor=0",
    "cist:rho=3,floor=2.5",
    "dtkd:tau=4",
    "lskd:tau=2",
    "normkd:k=2",
    "matched:H=0.6",
    "matched:H=1.8",
]

MINE = '''
"""Twice the gap between the best two classes, and never below 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.curves import EntropyCurves
from cist_core.temperature.rule import TemperatureRule, register_rule

if TYPE_CHECKING:
    from torch import Tensor

    from cist_core.temperature.logit_rows import LogitRows


@register_rule("mine")
@dataclass(frozen=True)
class Mine(TemperatureRule):
    """``tau_i = 1 + k (m_i - c_i2)``: the gap between the best two classes."""

    label: ClassVar[str] = "Mine"
    k: float = 2.0

    def temperatures(self, curves: EntropyCurves) -> NDArray[np.floating]:
        return np.asarray(1 + self.k * curves.statistics.gap)

    def torch_temperatures(self, rows: LogitRows) -> Tensor:
        best = rows.centred.topk(2).values
        return 1 + self.k * (best[:, 0] - best[:, 1])
'''


def rows_of(logits, part=None):
    tensor = torch.from_numpy(logits)
    return LogitRows(tensor, torch.ones_like(tensor, dtype=torch.bool) if part is None else part)


def some_pair(classes, scale=4.0):
    """A teacher and a student: rows of many scales, negative ones, and constant ones on either side and on both."""
    rng = np.random.default_rng(classes)
    spread = rng.uniform(0.05, 3, (200, 1))
    teacher = (scale * spread * rng.standard_normal((200, classes))).astype(np.float32)
    student = (teacher / 3 + rng.standard_normal((200, classes))).astype(np.float32)
    teacher[:10] -= 60
    student[5:15] -= 60
    teacher[15:20], student[18:23] = 3.0, -2.0
    return teacher, student


def both(rule, teacher, student, dtype=torch.float32):
    """The temperatures of teacher and student: those of the analysis, and those of training."""
    curves = [EntropyCurves.from_logits(LogitSet.create(logits)) for logits in (teacher, student)]
    analysed = [np.asarray(rule.temperatures(mine.beside(other))) for mine, other in (curves, curves[::-1])]
    tensors = [torch.from_numpy(logits).to(dtype) for logits in (student, teacher)]
    part = taking_part(*tensors, None)
    trained = rule.torch_pair(LogitRows(tensors[1], part), LogitRows(tensors[0], part))
    return curves, analysed, [tau.numpy() for tau in trained]


def test_every_built_in_rule_is_among_the_examples():
    built_in = {name for name in rule_names() if rule_class(name).__module__.startswith(rules.__name__)}
    assert {parse_rule(text).name for text in TEXTS} == built_in


@pytest.mark.parametrize("masked", [0, 3])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("text", TEXTS)
def test_both_formulas_give_the_same_temperatures(text, classes, masked):
    teacher, student = some_pair(classes)
    if masked:
        teacher[:, :masked] = student[:, :masked] = -np.inf
    rule = parse_rule(text)
    curves, analysed, trained = both(rule, teacher, student)
    for of, numpy_tau, torch_tau in zip(curves, analysed, trained, strict=True):
        if isinstance(rule, Matched):  # roots in float32: compare what the temperatures are for
            np.testing.assert_allclose(of.at_temperature(torch_tau), of.at_temperature(numpy_tau), rtol=1e-5, atol=2e-5)
        else:
            np.testing.assert_allclose(torch_tau, numpy_tau, rtol=1e-5)


@pytest.mark.parametrize("text", ["cist:rho=3", "lskd:tau=2", "normkd:k=2", "matched:H=0.6"])
def test_they_agree_on_rows_that_break_careless_code(text, logits):
    rows, rule = np.concatenate([logits, hard_rows(10)]), parse_rule(text)
    curves = EntropyCurves.from_logits(LogitSet.create(rows))
    tau = rule.torch_temperatures(rows_of(rows)).numpy()
    if isinstance(rule, Matched):
        np.testing.assert_allclose(curves.at_temperature(tau), rule.entropy(curves), rtol=0, atol=2e-4)
    else:
        np.testing.assert_allclose(tau, rule.temperatures(curves), rtol=3e-5, atol=1e-12)


def batch():
    teacher, student = some_pair(10)
    return {
        "teacher_logits": torch.from_numpy(teacher).double(),
        "student_logits": torch.from_numpy(student).double().requires_grad_(),
        "labels": torch.arange(200) % 10,
    }


@pytest.mark.parametrize(
    ("rule", "published", "options"),
    [
        (Cist(3), lambda **data: cist_loss(**data, rho=3.0), {"weighting": "product", "gradient": "constant"}),
        (Fixed(4), kd_loss, {}),
        (NormKd(2), normkd_loss, {}),
        (Matched(0.6), lambda **data: entropy_matched_loss(**data, H=0.6), {"weighting": "product"}),
    ],
    ids=["cist", "kd", "normkd", "entropy-matched"],
)
def test_the_published_objectives_are_kd_under_their_rule(rule, published, options):
    given, expected = batch(), batch()
    terms, reference = rule_loss(**given, rule=rule, **options), published(**expected)
    torch.testing.assert_close(terms, reference)
    terms["total"].backward()
    reference["total"].backward()
    torch.testing.assert_close(given["student_logits"].grad, expected["student_logits"].grad)


@pytest.mark.usefixtures("own_rules")
def test_one_new_file_is_a_rule_of_the_analysis_and_an_objective_of_training(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path)])
    exec(Path(rules.__file__).read_text(), {"__name__": rules.__name__, "__path__": [str(tmp_path)]})
    teacher, student = some_pair(10)
    _, analysed, trained = both(parse_rule("mine:k=2"), teacher, student)
    np.testing.assert_allclose(trained, analysed, rtol=1e-5)

    objective = create_objective("mine:k=3,lambda_kl=2")
    assert str(objective) == "mine:k=3,lambda_kl=2"
    assert "mine" in objective_names()
    assert [parameter.name for parameter in objective.fields()] == [
        *("k", "weighting", "normalise", "gradient", "lambda_ce", "lambda_kl")
    ]
    assert all(parameter.help for parameter in objective.fields())
    assert objective_specification("mine").summary == "KD under the temperatures of the rule Mine."
    data = batch()
    terms = objective(**data)
    best = data["student_logits"].detach().topk(2).values
    torch.testing.assert_close(terms["tau_student"], 1 + 3 * (best[:, 0] - best[:, 1]))
    (gradient,) = torch.autograd.grad(terms["total"], data["student_logits"])
    with torch.no_grad():
        stepped = objective(**data | {"student_logits": data["student_logits"] - 0.5 * gradient})
    assert stepped["total"] < terms["total"]
    with pytest.raises(CistError, match="Expected k of the objective 'mine' to be a positive number, but got '0'"):
        create_objective("mine:k=0")
    sys.modules.pop(f"{rules.__name__}.mine", None)


@pytest.mark.usefixtures("own_rules")
def test_a_rule_without_a_torch_formula_is_no_objective():
    from dataclasses import dataclass

    @rule_module.register_rule("analysis-only")
    @dataclass(frozen=True)
    class AnalysisOnly(TemperatureRule):
        def temperatures(self, curves):
            return np.ones(curves.num_samples)

    assert "analysis-only" not in objective_names()
    with pytest.raises(CistError, match="'analysis-only' is for analysis alone"):
        create_objective("analysis-only")
    with pytest.raises(CistError, match=r"'analysis-only' is for analysis alone; .* `torch_temperatures`"):
        rule_loss(**batch(), rule=AnalysisOnly())


def test_the_analysis_of_every_rule_does_not_import_torch():
    script = (
        "import sys\n"
        "from cist_core import EntropyCurves, LogitSet\n"
        "from cist_core.temperature import parse_rule\n"
        "logits = LogitSet.create([[3.0, 1.0, 0.0], [5.0, 0.0, 1.0]])\n"
        "curves = EntropyCurves.from_logits(logits)\n"
        f"for text in {TEXTS[:-1]!r}:\n"
        "    parse_rule(text).temperatures(curves.beside(curves))\n"
        "print('torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "False", result.stderr


def test_a_rule_is_read_while_another_thread_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))  # as it is until its import has ended
    assert str(parse_rule("tau=4")) == "tau=4"
