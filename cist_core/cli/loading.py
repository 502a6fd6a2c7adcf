"""Which logits a command works on: a file of them, or a teacher on a data set. The same in every command that reads."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from cist_core import CistError, LogitSet, read_logits
from cist_core.cli.interrupt import ends_on_interrupt
from cist_core.cli.output import (
    INFERENCE_OPTIONS,
    ProgressBar,
    add_inference_options,
    refuse_options,
    refuse_split_of_one_set,
    remark,
)
from cist_core.data.formats import names_in_words, paths_in_words
from cist_core.logits.alignment import align
from cist_core.logits.choices import chosen, chosen_for_student
from cist_core.logits.class_maps import ClassMap, read_class_map
from cist_core.logits.files import GIVEN_AS, read_beside
from cist_core.logits.files.formats import label_endings, logit_endings
from cist_core.registry import listed
from cist_core.temperature.profile import OVER_SHARP, OVER_SMOOTHED
from cist_core.zoo.kinds import weight_endings

if TYPE_CHECKING:
    from cist_core.zoo.weight_groups import Role


def add_source_options(parser: Any, purpose: str) -> None:
    """``--logits FILE``, or ``--teacher NAME --data NAME`` and how the teacher is run."""
    source = parser.add_argument_group(f"{purpose}: a file of logits, or a teacher on a data set")
    source.add_argument("--logits", metavar="FILE", help=listed(logit_endings()))
    add_file_options(source)
    source.add_argument("--teacher", metavar="NAME", help="a sample model ('cist models') or a checkpoint file")
    source.add_argument("--data", metavar="NAME", help=data_help())
    add_inference_options(parser)


def data_help() -> str:
    """What ``--data`` takes."""
    return f"a data set ('cist data'), {names_in_words()}, or a path: {paths_in_words()}"


def add_file_options(group: Any) -> None:
    """What a file of logits does not say itself."""
    group.add_argument(
        "--given-as",
        metavar="KIND",
        choices=GIVEN_AS,
        help="what the numbers of the file are, and of that of --student: logits, log-probabilities or probabilities "
        "(default: recognised)",
    )
    group.add_argument("--labels", metavar="FILE", help=f"labels of their own file: {listed(label_endings())}")
    add_class_map_option(group)


def add_class_map_option(group: Any) -> None:
    """``--class-map``, the same in every command that has labels of one and classes of the other."""
    group.add_argument(
        "--class-map",
        nargs="+",
        metavar="A=B|FILE",
        help="the teacher's class B for class A of the data or the labels, by name or number; or a file of such lines; "
        "A= leaves its samples out (default: by number, or by name where both have the same names)",
    )


def given_class_map(options: argparse.Namespace) -> ClassMap | None:
    """The map that `add_class_map_option` took; None where none was given.

    Raises:
        CistError: if it cannot be read.
    """
    return None if options.class_map is None else read_class_map(options.class_map)


def add_student_option(parser: Any, purpose: str) -> None:
    """``--student NAME`` beside ``--data``, or a file of its logits."""
    parser.add_argument(
        "--student",
        metavar="NAME|FILE",
        help=f"a student {purpose}: a sample model or a checkpoint, or a file of its logits",
    )


def add_threshold_options(group: Any) -> None:
    """Where a sample counts as over-sharp or over-smoothed."""
    group.add_argument(
        "--over-sharp", type=float, default=OVER_SHARP, metavar="S", help="share of ln C (default: 0.05)"
    )
    group.add_argument(
        "--over-smoothed", type=float, default=OVER_SMOOTHED, metavar="S", help="likewise (default: 0.95)"
    )


def given_thresholds(options: argparse.Namespace) -> dict[str, float]:
    """The thresholds by the names that the library has for them.

    Raises:
        CistError: if they are no shares, or not in order.
    """
    if not 0 <= options.over_sharp < options.over_smoothed <= 1:
        raise CistError(
            f"Expected 0 <= --over-sharp < --over-smoothed <= 1, but got {options.over_sharp:g} and "
            f"{options.over_smoothed:g}; both are shares of ln C."
        )
    return {"over_sharp_below": options.over_sharp, "over_smoothed_above": options.over_smoothed}


def load_source(options: argparse.Namespace) -> LogitSet:
    """The logits that `add_source_options` names, with remarks on what is unusual about them.

    Raises:
        CistError: if the options name neither or both, do not fit together, or what they name cannot be read.
    """
    if (options.logits is None) == (options.teacher is None):
        raise CistError("Expected either --logits FILE, or --teacher NAME with --data NAME.")
    if options.logits is not None:
        reason = "a file of logits has its data behind it"
        refuse_options(options, ("data", *INFERENCE_OPTIONS), needs="--teacher", reason=reason)
        return read_file(options.logits, options)
    refuse_options(options, ("labels",), needs="--logits", reason="a teacher on a data set has its own")
    if getattr(options, "student", None) is None or not _holds_logits(options.student):
        reason = "models return logits"
        refuse_options(options, ("given_as",), needs="--logits, or --student with a file", reason=reason)
    logit_set = load_model(options.teacher, options, architecture=options.arch, weights=options.weights)
    _remark(logit_set, options)
    return logit_set


def read_file(path: str, options: argparse.Namespace) -> LogitSet:
    """A file of logits as `add_file_options` say, with remarks on what is unusual about it.

    Raises:
        CistError: if the file, or that of the labels, cannot be read.
    """
    logit_set = read_logits(
        path, labels=options.labels, given_as=options.given_as or "auto", class_map=given_class_map(options)
    )
    _remark(logit_set, options)
    return logit_set


def load_model(
    name: str,
    options: argparse.Namespace,
    *,
    architecture: str | None = None,
    weights: str | None = None,
    role: Role = "teacher",
) -> LogitSet:
    """The logits of one model on the data of the options.

    Args:
        name: a sample model or a checkpoint file.
        options: with ``data`` and those of `add_inference_options`.
        architecture: of a checkpoint; by default it is recognised from the weights.
        weights: which of those in a checkpoint; by default those that are usually meant.
        role: which of the two is meant where a checkpoint holds a teacher and a student.

    Raises:
        CistError: if the data are not named, or model or data cannot be loaded.
    """
    if options.data is None:
        raise CistError(f"Expected --data NAME for the teacher '{name}'; 'cist data' lists the data sets.")
    refuse_split_of_one_set(options)
    from cist_core.inference.sources import load_logits

    with (
        ends_on_interrupt(),
        ProgressBar("Downloading", "bytes") as downloading,
        ProgressBar("Running the teacher", "samples") as running,
    ):
        result = load_logits(
            name,
            options.data,
            options.split or "test",
            architecture=architecture,
            weights=weights,
            role=role,
            class_map=given_class_map(options),
            download=options.download,
            device=options.device or "auto",
            precision=options.precision or "float32",
            limit=options.limit,
            seed=options.seed,
            progress=running,
            download_progress=downloading,
        )
    return result.logit_set


def load_student(options: argparse.Namespace, teacher: LogitSet) -> LogitSet:
    """The student's logits on the teacher's samples: a model beside --data, or a file of logits.

    Raises:
        CistError: if it cannot be loaded or has other samples or classes.
    """
    if options.data is not None and not _holds_logits(options.student):
        student = load_model(options.student, options, role="student")
    else:
        student = read_beside(
            options.student,
            labels=options.labels,
            given_as=options.given_as or "auto",
            class_map=given_class_map(options) if options.logits is not None else None,
        )
    student = align(teacher, student, name=f"the student {options.student}")
    for sentence in chosen_for_student(student.provenance):
        remark(sentence)
    return student


def _holds_logits(name: str) -> bool:
    """Whether this is a file of logits; a checkpoint can have the same ending, but holds no logits."""
    if not os.path.isfile(name):
        return False
    suffix = os.path.splitext(name)[1].lower()
    if suffix in logit_endings() and suffix not in weight_endings():
        return True  # whoever reads it says what is wrong with it
    try:
        read_logits(name, given_as="logits")
    except CistError:
        return False
    return True


def _remark(logit_set: LogitSet, options: argparse.Namespace) -> None:
    if options.json:  # else they stand below the first line of the result
        for sentence in chosen(logit_set.provenance):
            remark(sentence)
    if logit_set.constant_rows:
        remark(f"Samples whose logits are all equal: {logit_set.constant_rows:,}; their entropy is ln C at any rule.")
