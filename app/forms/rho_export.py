"""A chosen rho to take away: a config, a snippet for one's own loop, and the command lines."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from cist_core.temperature import Cist
from cist_core.training.fields import flat
from cist_core.training.presets import PRESETS
from cist_core.training.suggestion import suggest_config, suggested_changes, suggested_preset

if TYPE_CHECKING:
    from cist_core.training import RunConfig

KINDS = ("Python", "RunConfig JSON", "RunConfig YAML", "Command line")
CONFIGS = ("RunConfig JSON", "RunConfig YAML")
"""The kinds that need torch: a config is checked by the objective and the architecture it names."""


class Chosen(NamedTuple):
    """What is exported: a rho and its floor, and what they were chosen for; the student is an architecture.

    The teacher is None where it is not one that ships: its runs are made on Distill, which knows its files; `of_text`
    where it is a language model.
    """

    rho: float
    floor: float
    teacher: str | None
    data: str
    student: str | None = None
    of_text: bool = False

    @property
    def kinds(self) -> list[str]:
        """Those of `KINDS` that can be had."""
        # What a language model is distilled on and into is chosen on Distill.
        return [kind for kind in KINDS if (self.teacher is not None and not self.of_text) or kind not in CONFIGS]


class Export(NamedTuple):
    """A text and how it is shown and saved."""

    text: str
    language: str
    file_name: str
    mime: str


def export(kind: str, chosen: Chosen, recommending: str) -> Export:
    """One of `KINDS`; ``recommending`` is the command line that prints the recommendation."""
    if kind == "Python":
        rule = Cist(chosen.rho, chosen.floor)
        return Export(snippet(rule, of_text=chosen.of_text), "python", "cist_step.py", "text/x-python")
    if kind == "Command line":
        training = "" if chosen.teacher is None or chosen.of_text else f"{training_command(chosen)}\n"
        return Export(f"{recommending}\n{training}", "bash", "cist.sh", "text/x-shellscript")
    config = run_config(chosen)
    if kind == "RunConfig JSON":
        return Export(config.model_dump_json(indent=2) + "\n", "json", "config.json", "application/json")
    return Export(as_yaml(config), "yaml", "config.yaml", "application/yaml")


def snippet(rule: Cist, *, of_text: bool = False) -> str:
    """One training step of somebody's own loop; `of_text` for language models of transformers."""
    return (
        "import torch\n"
        "\n"
        "from cist_core.objectives import create_objective\n"
        "\n"
        f'objective = create_objective("{rule}")\n'
        "\n"
        "\n"
        f"{_token_step(rule) if of_text else _image_step(rule)}"
        "    optimiser.zero_grad()\n"
        '    terms["total"].backward()\n'
        "    optimiser.step()\n"
        "    return terms\n"
    )


def _image_step(rule: Cist) -> str:
    return (
        "def training_step(student, teacher, images, labels, optimiser):\n"
        f'    """Distill one batch, each sample at its own temperature {temperature(rule)};\n'
        "    returns the loss and its terms, among them the temperatures of both models.\n"
        '    """\n'
        "    with torch.no_grad():\n"
        "        teacher_logits = teacher(images)\n"
        "    terms = objective(student_logits=student(images), teacher_logits=teacher_logits, labels=labels)\n"
    )


def _token_step(rule: Cist) -> str:
    return (
        "def training_step(student, teacher, batch, optimiser):\n"
        f'    """Distill one batch of texts, each token at its own temperature {temperature(rule)};\n'
        "    the batch has input_ids, attention_mask and labels, -100 where a token does not count.\n"
        '    """\n'
        '    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}\n'
        '    labels = batch["labels"][:, 1:]  # each is predicted at the token before it\n'
        "    with torch.no_grad():\n"
        "        teacher_logits = teacher(**inputs).logits[:, :-1]\n"
        "    student_logits = student(**inputs).logits[:, :-1]\n"
        "    terms = objective(\n"
        "        student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, mask=labels != -100\n"
        "    )\n"
    )


def temperature(rule: Cist) -> str:
    """The formula of CIST's temperatures, for a docstring."""
    ratio = f"m / {rule.rho:g}"
    return f"max({ratio}, {rule.floor:g})" if rule.floor else ratio


def run_config(chosen: Chosen) -> RunConfig:
    """The recipe made for such images, with this teacher, rho and floor."""
    assert chosen.teacher is not None
    return suggest_config(
        chosen.rho, teacher=chosen.teacher, data=chosen.data, student=chosen.student, floor=chosen.floor
    )


def as_yaml(config: RunConfig) -> str:
    """The config as YAML, which `cist distill` reads as well."""
    import yaml

    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def training_command(chosen: Chosen) -> str:
    """The command line that trains the config, from its preset."""
    assert chosen.teacher is not None
    name = suggested_preset(chosen.data)
    changes = suggested_changes(
        chosen.rho, teacher=chosen.teacher, data=chosen.data, student=chosen.student, floor=chosen.floor
    )
    usual = flat(PRESETS[name][1])
    words = ["cist", "distill", "--preset", name, "--objective", changes.pop("objective")]
    for field, value in flat(changes).items():
        if value != usual.get(field):
            words += ["--set", f"{field}={_json(value)}"]
    return shlex.join(words)


def _json(value: Any) -> str:
    return "null" if value is None else str(value)
