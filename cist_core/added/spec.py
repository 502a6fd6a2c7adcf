"""`AddSpec`: what somebody wants to add, as the answers of three steps."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cist_core.errors import CistError
from cist_core.logits.files.given import GivenAs
from cist_core.plain_text import written_out
from cist_core.zoo.kinds.code import refuse_code

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class LogitFiles(_Part):
    """Logits that somebody has computed."""

    teacher: Text
    """Path of the teacher's; see `cist_core.read_logits`."""
    labels: Text | None = None
    """Path of the labels, where the file above has none."""
    student: Text | None = None
    """Path of a student's logits on the same samples."""
    given_as: GivenAs = "auto"
    """What the numbers are; both files."""
    class_map: dict[str, str] | None = None
    """From what the labels say to the class of the logits, by name or number; None: they say it themselves."""


class ModelOnData(_Part):
    """A network, and the images it is to answer."""

    teacher: Text
    """See `cist_core.inference.sources.find_teacher`."""
    architecture: Text | None = None
    """Of a checkpoint; None: recognised from the weights."""
    weights: Text | None = None
    """Which of the weights in a checkpoint, by their name in it; None: those that are usually meant."""
    preprocessing: dict[str, Any] | None = None
    """Fields of `cist_core.zoo.preprocessing.Preprocessing`; those that are left out are the teacher's own."""
    data: Text
    """See `cist_core.data.loading.load_dataset`."""
    split: Text = "test"
    """Of the data; data without splits are taken whole."""
    limit: Count | None = None
    """Use only this many samples; None: all."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Draws them, each class in proportion to its size; None: evenly spaced."""
    class_map: dict[str, str] | None = None
    """From the data's classes to the teacher's, by name or number; None: they are the same."""
    download: bool = False
    """Whether weights or data that are not here may be downloaded."""

    @model_validator(mode="after")
    def _no_code(self) -> Self:
        refuse_code(self.teacher, self.architecture)
        return self


class LanguageModelOnTexts(_Part):
    """A language model, and the texts that it is to predict."""

    model: Text
    """See `cist_core.language.models.open_language_model`."""
    texts: Text
    """Path of a file, see `cist_core.language.texts.read_texts`; or ``hf:OWNER/NAME``."""
    length: Annotated[int, Field(ge=2)] | None = None
    """Tokens of a text that are read at once; None: as many as `cist_core.language.sources.LENGTH`."""
    download: bool = False
    """Whether a model or texts that are not here may be downloaded."""


class AddSpec(_Part):
    """One thing to add: logits, a model on data, or a language model on texts."""

    title: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(written_out)]
    """For people."""
    logits: LogitFiles | None = None
    model: ModelOnData | None = None
    language: LanguageModelOnTexts | None = None

    @model_validator(mode="after")
    def _one_of_all(self) -> Self:
        if sum(part is not None for part in (self.logits, self.model, self.language)) != 1:
            raise ValueError("give either logits or a model or a language model")
        return self

    @classmethod
    def of(cls, **answers: Any) -> AddSpec:
        """The spec of these answers.

        Raises:
            CistError: with one clause for every answer that is wrong.
        """
        try:
            return cls.model_validate(answers)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise CistError(f"What is to be added is not complete: {'; '.join(faults)}.") from None
