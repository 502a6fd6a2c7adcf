"""A language model before and after its distillation, beside its teacher; and a text as all three read it.

    python -m cist_core.training.before_after TEXT FOLDER RUN

Started by the app, as `cist_core.language.reading` is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cist_core.errors import CistError
from cist_core.language.reading import read_within_limits
from cist_core.training.language_config import LanguageConfig, fresh_sizes
from cist_core.training.randomness import Stream, derived_seed
from cist_core.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from cist_core.language.models import LanguageModel


class Distilled(NamedTuple):
    """The models of one run, over one vocabulary.

    Attributes:
        teacher: that it was distilled from.
        student: after the last epoch.
        before: the student with the weights that it started from.
    """

    teacher: LanguageModel
    student: LanguageModel
    before: LanguageModel


def open_distilled(run: str | os.PathLike[str]) -> Distilled:
    """Open the models of a finished run of the task ``language``.

    A fresh student is drawn again under the seed of the run, which gives the same weights; of any other the model that
    it went on from is opened again. Nothing is downloaded.

    Args:
        run: its directory.

    Raises:
        CistError: if it is no such run, has not come to its end, or one of its models is not on this machine.

    Example:
        ``open_distilled("runs/kd").before``
    """
    from cist_core.language.models import open_language_model

    directory = RunDirectory(run)
    config = directory.config()
    if not isinstance(config, LanguageConfig):
        raise CistError(f"The run in {directory.path} has the task '{config.task}'; give one of the task 'language'.")
    if not directory.language_student.is_dir():
        raise CistError(f"The run in {directory.path} has left no student; resume it, and wait until it has finished.")
    teacher = open_language_model(config.teacher.name)
    student = open_language_model(str(directory.language_student))
    fresh = fresh_student(config, teacher)
    before = open_language_model(config.student.architecture) if fresh is None else _opened(fresh, teacher)
    return Distilled(teacher, student, replace(before, name="student before"))


def fresh_student(config: LanguageConfig, teacher: LanguageModel) -> Any:
    """The network that a run starts from, drawn under its seed; None where the student is a model that is there.

    Args:
        config: of the run.
        teacher: whose vocabulary it has.

    Returns:
        A ``GPT2LMHeadModel`` without dropout, or None.
    """
    from torch import manual_seed
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = fresh_sizes(config.student.architecture)
    if sizes is None:
        return None
    length, end = config.data.length, teacher.tokenizer.eos_token_id
    manual_seed(derived_seed(config.seed, Stream.WEIGHTS))
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=teacher.head.num_classes,
            n_positions=max(length, teacher.longest if teacher.longest <= 1 << 14 else length),
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


def _opened(network: Any, teacher: LanguageModel) -> LanguageModel:
    """A network as it opens from its folder: with the checks and digests of any other."""
    from cist_core.language.models import open_language_model

    tokenizer: Any = teacher.tokenizer
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return open_language_model(folder)


def main() -> None:
    text, folder, run = sys.argv[1:]
    read_within_limits(Path(text), Path(folder), f"The models of the run in {run}", lambda: open_distilled(run))


if __name__ == "__main__":
    main()
