"""What a config of the task `language` says beside what every config says."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from cist_core.training.config import DataConfig, RunConfig, Share, StudentConfig, TeacherConfig

FRESH = "gpt2:"
_SIZES = ("width", "layers", "heads")


class Sizes(NamedTuple):
    """Of a fresh network of GPT-2's architecture."""

    width: int
    layers: int
    heads: int


def fresh_sizes(architecture: str) -> Sizes | None:
    """The sizes that ``gpt2:width=...,layers=...,heads=...`` says; None for another text.

    Raises:
        ValueError: if a size is missing, unknown or not positive, or the heads do not divide the width.

    Example:
        >>> fresh_sizes("gpt2:width=96,layers=4,heads=4")
        Sizes(width=96, layers=4, heads=4)
    """
    if not architecture.startswith(FRESH):
        return None
    written = dict(part.partition("=")[::2] for part in architecture.removeprefix(FRESH).split(","))
    if set(written) != set(_SIZES) or not all(value.isdecimal() and int(value) > 0 for value in written.values()):
        raise ValueError(
            f"expected '{FRESH}width=96,layers=4,heads=4' with sizes of your own, but got '{architecture}'"
        )
    sizes = Sizes(**{name: int(value) for name, value in written.items()})
    if sizes.width % sizes.heads:
        raise ValueError(
            f"the width {sizes.width} is no multiple of the {sizes.heads} heads; choose another of the two"
        )
    return sizes


def _checked_architecture(architecture: str) -> str:
    fresh_sizes(architecture)
    return architecture


class LanguageDataConfig(DataConfig):
    """The texts. A sample is a row: one text, or a piece of a long one."""

    name: Annotated[str, Field(min_length=1)]
    """A file of training texts: JSON lines (``text``; ``prompt`` and ``response``; ``messages``), or one plain text; a
    data set of the hub, ``hf:REPO``; or texts that come along, by name: ``scripture``."""
    validation: str | None = None
    """Likewise; None: those that come along with ``name``, else a share of its rows."""
    test: str | None = None
    """Likewise."""
    validation_share: Share = 0.1
    """Part of the rows set apart where there are no validation texts (and again for test)."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Decides which rows are set apart, whatever ``seed`` is."""
    length: Annotated[int, Field(ge=2)] = 256
    """Most tokens of a row. A text without a prompt goes on in the next row; of others the rest is left out, which is
    said."""


class LanguageTeacherConfig(TeacherConfig):
    """The model that is distilled."""

    name: Annotated[str, Field(min_length=1)]
    """A language model that `cist models` lists, a folder of transformers, a ``.gguf`` file, or ``hf:OWNER/NAME``."""
    cache: str | None = None
    """A folder for its final hidden states in float16, of the training texts and, in folders of their own in it, of the
    validation and test texts; made in the first run and read by later ones. None: the teacher runs in every step."""


class LanguageStudentConfig(StudentConfig):
    """The model that learns, with the teacher's vocabulary."""

    architecture: Annotated[str, AfterValidator(_checked_architecture)]
    """``gpt2:width=96,layers=4,heads=4``: a fresh one of GPT-2's architecture, drawn under ``seed``. Else a model to go
    on from, named as the teacher's are."""
    download: bool = False
    """Whether weights that are known by a name and are not here may be downloaded."""

    @model_validator(mode="after")
    def _no_weights_apart(self) -> Self:
        if self.weights is not None:
            raise ValueError("weights belong to images; give the folder of a model as student.architecture")
        return self


class LanguageConfig(RunConfig):
    """One distillation run of a causal language model."""

    task: Literal["language"] = "language"
    data: LanguageDataConfig
    teacher: LanguageTeacherConfig
    student: LanguageStudentConfig
    reduction: Literal["token", "sequence"] = "token"
    """What the loss is a mean over. ``token``: ``sum_i L_i / T`` over the T counted tokens of the optimiser step.
    ``sequence``: ``1 / S sum_s (1 / T_s sum_(i in s) L_i)`` over its S rows that have counted tokens."""

    @model_validator(mode="after")
    def _token_by_token(self) -> Self:
        self.objective.create().check_by_chunks()
        return self
