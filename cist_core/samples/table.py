"""What is known of every sample: the measures that charts draw, tables list and selections speak of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cist_core.entropy.theory import equal_others_entropy
from cist_core.errors import CistError
from cist_core.language.pieces import TOKEN_TYPES
from cist_core.logits.alignment import check_same_order
from cist_core.logits.calibration import cross_entropies
from cist_core.logits.logit_set import LogitSet
from cist_core.temperature.readings import RuleReading

if TYPE_CHECKING:
    import pandas as pd

    from cist_core.entropy.curves import EntropyCurves

Column = NDArray[Any]

NUMBER, CLASS, FLAG = "number", "class", "flag"


@dataclass(frozen=True)
class Measure:
    """One thing that is known of each sample.

    Attributes:
        name: as selections, links and exported tables write it.
        title: as a person reads it, with its symbol.
        unit: of its values; empty for counts, classes and flags.
        kind: `NUMBER`, `CLASS` (the position of a class, or of the sample) or `FLAG` (0 or 1).
        help: one sentence.
        needs: what it cannot be had without: ``"labels"``, ``"a student"``, ``"a text"``, several, or nothing.
        read: from the table to ``(N,)``.
        names: of the values of a `CLASS` that has its own, by their numbers; None: those of the classes.
    """

    name: str
    title: str
    unit: str
    kind: str
    help: str
    needs: tuple[str, ...]
    read: Callable[[SampleTable], Column]
    names: tuple[str, ...] | None = None


class Student(Protocol):
    """What is known of a student on the same samples.

    Attributes:
        curves: its entropy curves.
        loss: its cross-entropy with the labels at temperature 1, ``(N,)`` nats; of tokens with those that came.
    """

    @property
    def curves(self) -> EntropyCurves: ...

    @property
    def loss(self) -> Column: ...


class TokenFacts(Protocol):
    """What is known of samples that are tokens of a text, each ``(N,)``; `MEASURES` says what they are."""

    @property
    def kinds(self) -> Column: ...

    @property
    def positions(self) -> Column: ...

    @property
    def frequencies(self) -> Column: ...

    @property
    def surprisals(self) -> Column: ...

    @property
    def ranks(self) -> Column: ...


class SampleTable:
    """The measures of N samples under one fixed temperature and one rho, each computed when it is first asked for.

    Example:
        >>> from cist_core import Cist, EntropyCurves, Fixed, LogitSet
        >>> from cist_core.temperature.readings import read_rule
        >>> logit_set = LogitSet.create([[4.0, 0.0, 0.0], [1.0, 0.0, 2.0]], [0, 1])
        >>> curves = EntropyCurves.from_logits(logit_set)
        >>> table = SampleTable(curves, read_rule(Fixed(1.0), curves), read_rule(Cist(2.0), curves))
        >>> table.column("margin").tolist(), table.column("correct").tolist()
        ([4.0, 1.0], [True, False])
    """

    def __init__(
        self,
        curves: EntropyCurves,
        fixed: RuleReading,
        cist: RuleReading,
        *,
        student: Student | None = None,
        text: TokenFacts | None = None,
    ) -> None:
        self.curves, self.fixed, self.cist, self.student, self.text = curves, fixed, cist, student, text
        self._columns: dict[str, Column] = {}

    @property
    def num_samples(self) -> int:
        return self.curves.num_samples

    def measures(self) -> list[Measure]:
        """Those that these samples have, in the order of `MEASURES`."""
        return [measure for measure in MEASURES.values() if not self._lacks(measure)]

    def column(self, name: str) -> Column:
        """The values of a measure, ``(N,)``.

        Raises:
            CistError: if there is no such measure, or these samples lack what it needs.
        """
        if name not in self._columns:
            measure = find_measure(name)
            if lacking := self._lacks(measure):
                raise CistError(f"The measure '{name}' needs {' and '.join(lacking)}; there is none here.")
            self._columns[name] = measure.read(self)
        return self._columns[name]

    def frame(self, rows: NDArray[np.integer[Any]] | None = None) -> pd.DataFrame:
        """Every measure as a table, of all samples or of some rows."""
        import pandas as pd

        chosen = slice(None) if rows is None else rows
        return pd.DataFrame({measure.name: self.column(measure.name)[chosen] for measure in self.measures()})

    def _lacks(self, measure: Measure) -> list[str]:
        have = {
            "labels": self.curves.labels is not None,
            "a student": self.student is not None,
            "a text": self.text is not None,
        }
        return [need for need in measure.needs if not have[need]]


class StudentLogits:
    """A student's logits on the same samples as the teacher's.

    Attributes:
        name: of the model.
        logit_set: its logits, with the teacher's labels.
        curves: of these logits.
        loss: its cross-entropy with the labels at temperature 1, ``(N,)`` nats; computed once.

    Raises:
        CistError: if samples, classes or labels are not the teacher's.
    """

    def __init__(self, name: str, logit_set: LogitSet, curves: EntropyCurves, *, teacher: LogitSet) -> None:
        check_same_order(teacher, logit_set, name=f"the student {name}")
        self.name, self.logit_set, self.curves = name, logit_set, curves
        self._labels = teacher.labels
        self._loss: Column | None = None

    @property
    def loss(self) -> Column:
        if self._loss is None:
            assert self._labels is not None
            self._loss = cross_entropies(self.logit_set.logits, self._labels)
        return self._loss


def find_measure(name: str) -> Measure:
    """A measure by its name.

    Raises:
        CistError: if there is none, with the known names.
    """
    if name not in MEASURES:
        raise CistError(f"There is no measure '{name}'; known are {', '.join(MEASURES)}.")
    return MEASURES[name]


def _student_temperature(table: SampleTable) -> Column:
    assert table.student is not None
    return table.cist.rule.temperatures(table.student.curves)


def _loss(table: SampleTable) -> Column:
    assert table.student is not None
    return table.student.loss


def _of_text(name: str) -> Callable[[SampleTable], Column]:
    return lambda table: np.asarray(getattr(table.text, name))


def _residual(table: SampleTable) -> Column:
    curve = equal_others_entropy(table.cist.ratios, table.curves.num_classes)
    return np.asarray(table.cist.entropy - curve)


_ROWS: tuple[Measure, ...] = (
    Measure("index", "sample", "", CLASS, "Position in the split", (), lambda t: np.arange(t.num_samples)),
    Measure("class", "class", "", CLASS, "The label", ("labels",), lambda t: np.asarray(t.curves.labels)),
    Measure("prediction", "prediction", "", CLASS, "The teacher's top-1 class", (), lambda t: t.curves.statistics.top1),
    Measure(
        "correct",
        "correct",
        "",
        FLAG,
        "Whether the teacher's top-1 class is the label",
        ("labels",),
        lambda t: np.asarray(t.curves.correct),
    ),
    Measure(
        "entropy",
        "entropy H at τ",
        "nats",
        NUMBER,
        "Entropy of the soft label at the fixed temperature",
        (),
        lambda t: t.fixed.entropy,
    ),
    Measure(
        "entropy_cist",
        "entropy H under CIST",
        "nats",
        NUMBER,
        "Entropy of the soft label at the sample's own temperature",
        (),
        lambda t: t.cist.entropy,
    ),
    Measure(
        "ratio",
        "ratio m / τ",
        "",
        NUMBER,
        "Maximum centred logit over the fixed temperature",
        (),
        lambda t: t.fixed.ratios,
    ),
    Measure(
        "temperature",
        "temperature τᵢ under CIST",
        "logit units",
        NUMBER,
        "The teacher's temperature for this sample",
        (),
        lambda t: t.cist.temperatures,
    ),
    Measure(
        "at_floor",
        "at the floor",
        "",
        FLAG,
        "Whether the floor of CIST decides the teacher's temperature for this sample",
        (),
        lambda t: t.cist.at_floor,
    ),
    Measure(
        "margin",
        "teacher margin",
        "logit units",
        NUMBER,
        "Largest logit minus the second",
        (),
        lambda t: t.curves.statistics.gap,
    ),
    Measure(
        "maximum",
        "centred maximum m",
        "logit units",
        NUMBER,
        "Largest logit minus the mean of all",
        (),
        lambda t: t.curves.statistics.maximum,
    ),
    Measure(
        "residual",
        "H under CIST minus the equal-others curve",
        "nats",
        NUMBER,
        "How far the shape of the logits moves the entropy at the same ratio",
        (),
        _residual,
    ),
    Measure(
        "student_temperature",
        "student temperature τₛ",
        "logit units",
        NUMBER,
        "The student's own temperature under CIST",
        ("a student",),
        _student_temperature,
    ),
    Measure(
        "weight",
        "weight τₜ τₛ",
        "logit units²",
        NUMBER,
        "Teacher's times student's temperature: how loud CIST lets the sample speak",
        ("a student",),
        lambda t: t.column("temperature") * t.column("student_temperature"),
    ),
    Measure(
        "student_loss",
        "student loss",
        "nats",
        NUMBER,
        "Cross-entropy of the student with the label",
        ("labels", "a student"),
        _loss,
    ),
    Measure(
        "token_type",
        "token type",
        "",
        CLASS,
        f"What the token is: {', '.join(TOKEN_TYPES)}",
        ("a text",),
        _of_text("kinds"),
        TOKEN_TYPES,
    ),
    Measure(
        "position", "position", "", NUMBER, "Place in its text, counted from 0", ("a text",), _of_text("positions")
    ),
    Measure(
        "frequency",
        "frequency",
        "",
        NUMBER,
        "How often the token is among those that count",
        ("a text",),
        _of_text("frequencies"),
    ),
    Measure(
        "surprisal",
        "surprisal at τ = 1",
        "nats",
        NUMBER,
        "-ln p of the actual token, as the model is",
        ("a text",),
        _of_text("surprisals"),
    ),
    Measure(
        "rank", "rank", "", NUMBER, "Of the actual token, 1 for the most likely one", ("a text",), _of_text("ranks")
    ),
    Measure(
        "student_surprisal",
        "student's surprisal at τ = 1",
        "nats",
        NUMBER,
        "-ln p of the actual token, as the student is",
        ("a text", "a student"),
        _loss,
    ),
)

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ROWS}
"""Every measure by its name."""
