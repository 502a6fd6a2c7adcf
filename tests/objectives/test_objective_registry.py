"""Objectives as text, as fields of a form, and as somebody else's function."""

import math
import subprocess
import sys
from typing import Annotated

import pytest
import torch
from torch import Tensor

from cist_core import CistError
from cist_core.objectives import (
    Batch,
    Choice,
    Number,
    Softening,
    Terms,
    collect,
    create_objective,
    objective_names,
    objective_presets,
    objective_specification,
    register_objective,
)
from cist_core.objectives.divergences import forward_kl


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("kd", "kd"),
        (" kd : tau = 4 ", "kd"),
        ("kd:tau=4.50", "kd:tau=4.5"),
        ("cist:rho=4.0", "cist:rho=4"),
        ("cist+dkd:rho=4,beta=8", "cist+dkd:rho=4"),
        ("cist:gradient=full,rho=2,normalise=true", "cist:rho=2,normalise=yes,gradient=full"),
        ("mlkd:temperatures=1/2.5", "mlkd:temperatures=1/2.5"),
        ("ctkd:theta=-0.5", "ctkd:theta=-0.5"),
        ("entropy-matched:H=0.6", "entropy-matched:H=0.6"),
        ("cist+jsd:rho=1e-05", "cist+jsd:rho=1e-05"),
        ("cist:rho=3,floor=1", "cist:rho=3"),
        ("cist:floor=0,rho=3", "cist:rho=3,floor=0"),
        ("kd-entout-ht:sides=both,tau=4", "kd-entout-ht:sides=both"),
    ],
)
def test_an_objective_gives_back_its_text(text, written):
    objective = create_objective(text)
    assert str(objective) == written
    assert create_objective(str(objective)).config() == objective.config()


def test_parameters_may_stand_beside_the_text():
    assert create_objective("dkd", alpha=1, beta=8).config() == create_objective("dkd:alpha=1,beta=8").config()
    objective = create_objective("cist:rho=4", weighting="none", normalise=True)
    assert str(objective) == "cist:rho=4,weighting=none,normalise=yes"
    assert create_objective("mlkd", temperatures=[1, 2]).config()["temperatures"] == (1.0, 2.0)


def test_the_published_defaults():
    def config(text):
        return create_objective(text).config()

    assert config("kd") == {"tau": 4, "lambda_ce": 0.1, "lambda_kl": 0.9}
    assert config("dkd") == {"alpha": 1, "beta": 8, "tau": 4, "warmup": 20, "lambda_ce": 1}
    assert config("ctkd") == {"theta": 1, "ramp": 10, "lambda_ce": 0.1, "lambda_kl": 0.9}
    assert config("mlkd") == {"temperatures": (4, 3, 5, 2, 6), "keep": 0.5, "lambda_ce": 0.1, "lambda_kl": 0.9}
    assert config("lskd") == {"tau": 2, "lambda_ce": 0.1, "lambda_kl": 9}
    assert config("normkd") == {"k": 2, "lambda_ce": 0.1, "lambda_kl": 0.9}
    assert config("dtkd") == {"alpha": 3, "beta": 1, "tau": 4, "warmup": 20, "lambda_ce": 1}
    assert config("ttm") == {"gamma": 0.1, "beta": 45, "lambda_ce": 1}
    assert config("wttm") == {"gamma": 0.1, "beta": 2.25, "lambda_ce": 1}
    cist = {"rho": 3, "floor": 1, "weighting": "product", "normalise": False, "gradient": "constant"}
    assert config("cist:rho=3") == {**cist, "lambda_ce": 0.1, "lambda_kl": 0.9}
    assert config("cist+dkd:rho=3") == {
        **cist,
        **{"alpha": 1, "beta": 8, "warmup": 20, "lambda_ce": 1, "lambda_kl": 1},
    }
    assert config("cist+mlkd:rho=3")["lambda_ce"] == config("mlkd")["lambda_ce"]
    outliers = {"sides": "low", "share": 0.05, "lambda_ce": 0.1, "lambda_kl": 0.9}
    assert config("kd-entout-ce") == {"tau": 4, **outliers}
    assert config("kd-entout-ht") == {"tau": 4, "step": 1, **outliers}


# --- presets ---


@pytest.mark.parametrize("preset", objective_presets().values(), ids=lambda preset: preset.name)
def test_a_preset_is_its_objective_with_its_values(preset):
    objective, plain = create_objective(preset.name), create_objective(preset.objective)
    assert objective.config() == plain.config()
    assert (objective.preset, plain.preset) == (preset.name, None)
    assert create_objective(str(objective)).config() == objective.config()
    assert objective_specification(preset.name) is plain.specification
    assert preset.name == preset.name.strip()
    assert not set(preset.name) & set(":,= ")
    assert preset.source
    assert preset.summary


def test_the_presets_have_the_values_of_their_sources():
    def config(name, *keys):
        values = create_objective(name).config()
        return tuple(values[key] for key in keys)

    assert config("cist-authors", "rho", "lambda_kl", "lambda_ce", "floor", "gradient", "weighting") == (
        *(3, 8, 0.1, 1),
        *("constant", "product"),
    )
    assert config("kd-hinton", "tau", "lambda_ce", "lambda_kl") == (4, 0.1, 0.9)
    assert config("kd-imagenet", "tau", "lambda_ce", "lambda_kl") == (1, 0.5, 0.5)
    assert config("kd-lskd", "tau", "lambda_ce", "lambda_kl") == config("lskd", "tau", "lambda_ce", "lambda_kl")
    betas = {name: config(name, "beta")[0] for name in objective_presets() if name.startswith("dkd-")}
    assert (betas["dkd-resnet56-resnet20"], betas["dkd-vgg13-vgg8"], betas["dkd-wrn_40_2-ShuffleV1"]) == (2, 6, 8)
    assert config("dkd-imagenet-resnet34-resnet18", "beta", "tau", "warmup") == (0.5, 1, 1)
    # What the README of the authors runs, and the row beside it in the paper.
    assert config("ttm-vgg13-vgg8", "gamma", "beta", "lambda_ce") == (0.1, 45, 1)
    assert config("wttm-vgg13-vgg8", "gamma", "beta", "lambda_ce") == (0.1, 2.25, 1)
    assert create_objective("ttm-vgg13-vgg8").config() == create_objective("ttm").config()
    assert create_objective("wttm-vgg13-vgg8").config() == create_objective("wttm").config()


def test_wttm_has_a_lower_beta_than_ttm_for_every_pair():
    for name in objective_presets():
        if name.startswith("ttm-"):
            weighted, plain = create_objective(f"w{name}").config(), create_objective(name).config()
            assert weighted["gamma"] == plain["gamma"]
            assert weighted["beta"] < plain["beta"] / 2


def test_a_value_beside_a_preset_takes_the_place_of_its_own():
    for objective in (create_objective("cist-authors:rho=4"), create_objective("cist-authors", rho=4)):
        assert str(objective) == "cist:rho=4,lambda_kl=8"
        assert objective.preset is None
    with pytest.raises(CistError, match="'rho' of the objective 'cist' stands twice"):
        create_objective("cist-authors:rho=4", rho=4)
    with pytest.raises(CistError, match="no parameter 'tau'"):
        create_objective("cist-authors:tau=4")


def test_a_preset_keeps_its_name_to_itself(own_objectives):
    assert not set(objective_presets()) & set(objective_names())
    with pytest.raises(ValueError, match="'kd-hinton' belongs to a preset already"):

        @register_objective("kd-hinton")
        def other(*, student_logits, teacher_logits, labels, mask=None):
            raise NotImplementedError


def test_parameters_that_do_not_go_together_are_refused_before_a_batch(own_objectives):
    with pytest.raises(CistError, match="not positive; choose a larger tau"):
        create_objective("kd-entout-ht:tau=1,sides=both")
    assert create_objective("kd-entout-ht:tau=1").config()["sides"] == "low"

    def check(values):
        if values["low"] > values["high"]:
            raise CistError("low lies above high.")

    @register_objective("range", check=check)
    def between(
        *,
        student_logits,
        teacher_logits,
        labels,
        mask=None,
        low: Annotated[float, Number("a bound")] = 0.0,
        high: Annotated[float, Number("a bound")] = 1.0,
    ):
        raise NotImplementedError

    create_objective("range:low=0.5")
    with pytest.raises(CistError, match="low lies above high"):
        create_objective("range", low=2)


def test_fields_are_those_of_the_objective_alone():
    fields = {field.name: field for field in create_objective("cist+jsd:rho=3").fields()}
    assert list(fields) == ["rho", "floor", "weighting", "normalise", "gradient", "beta", "lambda_ce", "lambda_kl"]
    assert fields["rho"].required
    assert fields["rho"].help
    assert fields["gradient"].kind.options == ("scale-free", "constant", "full")
    assert (fields["beta"].kind.above, fields["beta"].kind.below, fields["beta"].default) == (0, 1, 0.5)


def test_every_parameter_has_a_line_of_help_and_every_objective_a_summary():
    for name in objective_names():
        specification = objective_specification(name)
        assert specification.summary.endswith(".")
        assert all(parameter.help for parameter in specification.parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kdd", "no objective 'kdd'; known are ce, cist, cist"),
        ("cist-author", "no objective 'cist-author'; .* Did you mean 'cist-authors'?"),
        ("kd:lamda_kl=2", "has no parameter 'lamda_kl'; it knows tau, lambda_ce, lambda_kl. Did you mean 'lambda_kl'?"),
        ("fixed:tau=4", "no objective 'fixed'; .* The rule 'fixed' is trained with as 'kd'"),
        ("matched:H=1", "no objective 'matched'; .* The rule 'matched' is trained with as 'entropy-matched'"),
        ("", "no objective ''"),
        ("dkd+cist:rho=3", "no objective 'dkd"),
        ("kd:rho=3", "'kd' has no parameter 'rho'; it knows tau, lambda_ce, lambda_kl"),
        ("ce:tau=3", "'ce' has no parameter 'tau'; it knows none"),
        ("cist+dkd:rho=3,tau=4", "has no parameter 'tau'"),
        ("cist", "'cist' needs rho; write for example 'cist:rho=...'"),
        ("entropy-matched", "needs H"),
        ("kd:tau=0", "tau of the objective 'kd' to be a positive number, but got '0'"),
        ("kd:tau=inf", "a positive number, but got 'inf'"),
        ("kd:tau=nan", "a positive number, but got 'nan'"),
        ("kd:tau", "a positive number, but got ''"),
        ("kd:tau=4,tau=5", "'tau' of the objective 'kd' stands twice"),
        ("kd:lambda_ce=-1", "0 or a positive number, but got '-1'"),
        ("jsd:beta=1", "a number above 0 below 1, but got '1'"),
        ("mlkd:keep=1.5", "a number above 0 up to 1"),
        ("mlkd:temperatures=4/0", "positive numbers such as 4/3/5, but got '4/0'"),
        ("cist:rho=3,weighting=sum", "one of product, teacher, student, uniform, uniform-teacher, none, but got 'sum'"),
        ("cist:rho=3,floor=-1", "floor of the objective 'cist' to be 0 or a positive number, but got '-1'"),
        ("kd-entout-ce:sides=high", "one of low, both, but got 'high'"),
        ("kd-entout-ce:share=0", "a number above 0 up to 1, but got '0'"),
        ("cist:rho=3,normalise=perhaps", "yes or no, but got 'perhaps'"),
    ],
)
def test_what_is_not_an_objective_is_refused(text, message):
    with pytest.raises(CistError, match=message):
        create_objective(text)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tau": "4"}, "positive number"),
        ({"tau": True}, "positive number"),
        ({"tau": math.nan}, "positive number"),
        ({"rho": 4}, "no parameter 'rho'"),
    ],
)
def test_parameters_of_the_wrong_type_are_refused(parameters, message):
    with pytest.raises(CistError, match=message):
        create_objective("kd", **parameters)


def test_a_parameter_in_the_text_and_beside_it_is_refused():
    with pytest.raises(CistError, match="stands twice"):
        create_objective("kd:tau=4", tau=4)


def test_a_new_objective_is_a_function(own_objectives):
    @register_objective("gap")
    def gap_loss(
        *,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        slope: Annotated[float, Number("temperature in gaps between the best two classes", above=0)] = 1.0,
        which: Annotated[str, Choice(("first", "second"), "nothing")] = "first",
    ) -> Terms:
        """Temperature from the gap."""
        batch = Batch.create(student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=mask)
        best = teacher_logits.topk(2).values
        tau = slope * (best[:, 0] - best[:, 1])
        softening = Softening(tau, tau, tau.square())
        return collect(batch, softening, forward_kl(*softening.log_probabilities(batch)), lambda_ce=0, lambda_kl=1)

    assert "gap" in objective_names()
    objective = create_objective("gap:slope=2,which=second")
    assert str(objective) == "gap:slope=2,which=second"
    teacher, student = torch.tensor([[5.0, 3.0, 0.0]]), torch.zeros(1, 3)
    terms = objective(student_logits=student, teacher_logits=teacher, labels=torch.tensor([0]))
    p = (teacher / 4).softmax(-1)
    assert terms["total"].item() == pytest.approx(16 * (math.log(3) + (p * p.log()).sum().item()), rel=1e-5)


def test_a_name_belongs_to_one_function(own_objectives):
    with pytest.raises(ValueError, match=r"'kd' belongs to cist_core\.objectives\.methods\.kd\.kd_loss already"):

        @register_objective("kd")
        def other(*, student_logits, teacher_logits, labels, mask=None):
            raise NotImplementedError


def test_a_signature_that_no_call_fits_is_refused(own_objectives):
    with pytest.raises(TypeError, match="does not take mask"):

        @register_objective("no mask")
        def one(*, student_logits, teacher_logits, labels):
            raise NotImplementedError

    with pytest.raises(TypeError, match="Annotate the parameter scale"):

        @register_objective("no kind")
        def two(*, student_logits, teacher_logits, labels, mask=None, scale=1.0):
            raise NotImplementedError

    with pytest.raises(TypeError, match="keyword-only: student_logits"):

        @register_objective("positional")
        def three(student_logits, *, teacher_logits, labels, mask=None):
            raise NotImplementedError


def test_a_file_among_the_methods_is_found(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from cist_core.objectives.registry import register_objective\n"
        "@register_objective('mine')\n"
        "def mine(*, student_logits, teacher_logits, labels, mask=None):\n"
        "    '''Nothing.'''\n"
        "    return {'total': student_logits.sum()}\n"
    )
    # The folder is put on the package's path before the package loads what lies there.
    script = (
        "import importlib.machinery, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'cist_core.objectives.methods':\n"
        "            found = importlib.machinery.PathFinder.find_spec(name, path)\n"
        f"            found.submodule_search_locations.append({str(tmp_path)!r})\n"
        "            return found\n"
        "sys.meta_path.insert(0, Finder)\n"
        "from cist_core.objectives import create_objective\n"
        "print(create_objective('mine'))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "mine", result.stderr


def test_state_of_a_learnable_temperature_is_saved():
    objective = create_objective("cist+ctkd:rho=4,theta=0.5")
    assert [name for name, _ in objective.named_parameters()] == ["theta"]
    fresh = create_objective("cist+ctkd:rho=4")
    fresh.load_state_dict(objective.state_dict())
    assert fresh.theta.item() == 0.5
    assert not list(create_objective("cist:rho=4").parameters())
