"""The form of the Distill page for language models: what it offers, and the part of a config that its answers make.

Offered where the models that ship are here, and what they need is installed; `app.forms.distill` has what a form for
texts shares with one for images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cist_core.added import under_roots
from cist_core.data.hub_repository import PREFIX
from cist_core.errors import CistError
from cist_core.language.known import KnownLanguageModel, known_language_models, lacking, language_model_names
from cist_core.registry import listed
from cist_core.training import preset
from cist_core.training.language_config import FRESH, LanguageConfig
from cist_core.training.language_texts import texts_that_come_along
from cist_core.training.presets import DEMO_LANGUAGE, LANGUAGE_PRESETS, preset_names
from cist_core.wording import three_digits

STARTS = {"tau": 1.0, "rho": 12.0, "floor": 1.0, "mean_entropy": 2.9}
"""What an objective's fields start at: language is distilled at temperature 1; under the teacher that ships,
scripture-gpt, ρ and H have about its mean entropy."""

PLACES = ("lm_teacher", "lm_student", "lm_texts", "lm_validation", "lm_test")
"""Answers that name a model or texts."""


def recipes() -> dict[str, str]:
    """The recipes for language models with what they say of themselves; empty where the models that ship are not here.

    Raises:
        CistError: if the card of such a model cannot be read.
    """
    if lacking() is not None or DEMO_LANGUAGE not in preset_names():
        return {}
    return {name: words for name, (words, _) in LANGUAGE_PRESETS.items()}


def recipe_config(name: str) -> LanguageConfig:
    config = preset(name)
    assert isinstance(config, LanguageConfig)
    return config


def answers_of(name: str) -> dict[str, Any]:
    """What the fields for models, texts and objective show after a recipe is chosen, by their keys."""
    config = recipe_config(name)
    objective = config.objective
    return {
        "lm_teacher": config.teacher.name,
        "lm_student": config.student.architecture,
        "lm_texts": config.data.name,
        "lm_validation": config.data.validation or "",
        "lm_test": config.data.test or "",
        "lm_length": config.data.length,
        "lm_rows": config.data.train_samples,
        "lm_method": objective.name,
        **{parameter_key(objective.name, field): value for field, value in objective.parameters.items()},
    }


def parameter_key(method: str, parameter: str) -> str:
    """The key of an objective's field; images have fields of their own, which follow the sliders."""
    return f"lm.{method}.{parameter}"


def models() -> dict[str, KnownLanguageModel]:
    """The language models on this machine, by name."""
    return {model.name: model for model in known_language_models() if model.path is not None}


def students(teacher: str, usual: str) -> list[str]:
    """What can be a student: fresh ones of two sizes, then models that are here, but for the teacher."""
    sizes = (usual, f"{FRESH}width=64,layers=2,heads=4", *models())
    return [name for name in dict.fromkeys(sizes) if name != teacher]


def texts() -> list[str]:
    """The texts that come along, by name."""
    folder = texts_that_come_along()
    found = folder.glob("*-train.jsonl") if folder is not None else ()
    return sorted(path.name.removesuffix("-train.jsonl") for path in found)


def words_on(name: str) -> str:
    """What is known of a model, in one line."""
    model = models().get(name)
    if model is not None:
        return f"{model.title}. {model.parameters:,} parameters, a vocabulary of {model.vocabulary:,}."
    if name.startswith(FRESH):
        return "Fresh weights of GPT-2's architecture, with the teacher's vocabulary."
    return "Read when the run starts." if name.startswith(PREFIX) else "A folder of transformers, or a GGUF file."


def headline(teacher: str, student: str) -> str:
    """What is about to happen, in one line: into which network, and how much smaller it is, where both are known."""
    known = models()
    sizes = [known[name].parameters for name in (teacher, student) if name in known]
    told = f"Distill {teacher} into {student}"
    if len(sizes) == 2 and sizes[0] > sizes[1]:
        return f"{told}, {three_digits(sizes[0] / sizes[1])} times smaller"
    return f"{told}, with fresh weights" if student.startswith(FRESH) else told


def starts_caption(parameters: Collection[str]) -> str:
    """Which teacher the starting ρ or H of an objective belongs to; empty for one that has neither."""
    symbols = {"rho": "ρ", "mean_entropy": "H"}
    starts = [f"{symbol} = {STARTS[name]:g}" for name, symbol in symbols.items() if name in parameters]
    return f"{listed(starts, 'and')} is a start for scripture-gpt; other teachers need their own." if starts else ""


def floor_caption(rho: float, floor: float) -> str:
    """What the floor does to the soft labels."""
    return (
        f"Under a floor of {floor:g}, CIST has the soft labels of KD at τ = {floor:g} on every token with "
        f"m ≤ {three_digits(floor * rho)}; for a text that you add, Choose ρ says how many these are."
    )


def may_fetch(answers: Mapping[str, Any]) -> bool:
    """Whether something of the hub is named, which may not be on this machine."""
    return any(str(answers[place] or "").startswith(PREFIX) for place in PLACES)


def check_places(answers: Mapping[str, Any], *, may_read_paths: bool, own_machine: bool) -> dict[str, Any]:
    """The answers, with a path below `roots` in place of a name that stands for files of this machine.

    Args:
        answers: of the form.
        may_read_paths: whether the visitor may name files on the server.
        own_machine: whether they sit at it, and may name any.

    Raises:
        CistError: for files that the visitor may not name, and what can be given.
    """
    checked = dict(answers)
    known = {*language_model_names(), *texts(), ""}
    for place in PLACES:
        name = str(answers[place] or "")
        fresh = place == "lm_student" and name.startswith(FRESH)
        if own_machine or fresh or name in known or name.startswith(PREFIX):
            continue
        if not may_read_paths:
            raise CistError(
                f"'{name}' names files on the server, which only those may do who are signed in; choose one of the "
                f"list, or {listed([f'{PREFIX}OWNER/NAME', f'{FRESH}width=96,layers=4,heads=4 as a student'])}."
            )
        checked[place] = str(under_roots(name))
    return checked


def content(answers: Mapping[str, Any], *, download: bool) -> dict[str, Any]:
    """The parts of a config that say what is distilled, on what, into what."""
    return {
        "task": "language",
        "data": {
            "name": answers["lm_texts"],
            "validation": answers["lm_validation"] or None,
            "test": answers["lm_test"] or None,
            "length": answers["lm_length"],
            "train_samples": answers["lm_rows"],
            "download": download,
        },
        "teacher": {"name": answers["lm_teacher"], "download": download},
        "student": {"architecture": answers["lm_student"], "download": download},
    }
