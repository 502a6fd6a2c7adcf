"""Whether an accuracy is more than chance, and where it is not, what would explain it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cist_core.logits.class_order import numbers_in
from cist_core.logits.logit_set import LogitSet
from cist_core.wording import percent, three_digits

SIGNIFICANCE = 0.01
"""An accuracy is near chance if guessing the most frequent class reaches it with at least this probability."""

_SURE = 1e-4  # of an explanation, whose samples are compared with those that are right as they are
_LEAST_SKILL, _LEAST_GAIN = 0.2, 0.1
_GOOD_ENOUGH = 0.8
_MOST_CLASSES_MAPPED = 2_000
_MOST_PROCESSES = 8
_ONE_ANSWER = 0.9
_SAME_COUNTS = 0.05

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Explanation:
    """Another reading of labels or logits, under which many more answers are right.

    Attributes:
        kind: ``"offset"``, ``"background"``, ``"order"``, ``"reversed"``, ``"samples"``, ``"class map"``,
            ``"transposed"``, ``"negated"``, ``"one answer"`` or ``"shuffled"``.
        accuracy: under that reading; None where it cannot be said.
        sentence: what it is and what to do about it, for people; where it has an accuracy, to be read after "but".
        class_map: the class of each label, by number, where that is all there is to it; what `map_labels` takes.
    """

    kind: str
    accuracy: float | None
    sentence: str
    class_map: Mapping[int, int] | None = None


@dataclass(frozen=True)
class AccuracyJudgement:
    """An accuracy beside what guessing reaches.

    Attributes:
        accuracy: share of right answers.
        samples: their number, N.
        majority: share of the most frequent label, which always answering it reaches.
        p_value: probability that at least so many of N answers are right if each is with probability ``majority``:
            ``P(X >= accuracy N)``, X binomial.
        interval: exact 95 % interval of the accuracy (Clopper and Pearson 1934).
        explanation: what would explain it, if anything was found.
    """

    accuracy: float
    samples: int
    majority: float
    p_value: float
    interval: tuple[float, float]
    explanation: Explanation | None

    @property
    def near_chance(self) -> bool:
        """Whether guessing the most frequent class could do as well; never with labels of one class only."""
        return self.majority < 1 and self.p_value > SIGNIFICANCE

    @property
    def good(self) -> bool:
        """Whether it is high, and well above the share of the most frequent label: nothing is to be explained."""
        return self.accuracy >= _GOOD_ENOUGH and self.accuracy - self.majority >= _LEAST_SKILL * (1 - self.majority)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is to be said about it; nothing where the accuracy is fine."""
        found = []
        if self.majority == 1 and self.samples > 1 and self.accuracy < _GOOD_ENOUGH:
            found.append(
                f"All {self.samples:,} samples have one label, as sets without labels are often filled, and "
                f"{percent(self.accuracy)} of the answers are that class; leave the labels out if they are none."
            )
        if self.near_chance and self.good:
            found.append(
                f"{self.samples:,} samples are too few to tell the accuracy, {percent(self.accuracy)}, from always "
                f"answering the most frequent class, {percent(self.majority)} (binomial test, "
                f"p = {three_digits(self.p_value)})."
            )
        elif self.near_chance:
            found.append(
                f"The accuracy, {percent(self.accuracy)} of {self.samples:,} samples, is not above that of always "
                f"answering the most frequent class, {percent(self.majority)} (binomial test, "
                f"p = {three_digits(self.p_value)})."
            )
        if (explained := self.explanation) is not None:
            start = "But " if self.near_chance else f"The accuracy is {percent(self.accuracy)}, but "
            found.append(explained.sentence if explained.accuracy is None else f"{start}{explained.sentence}")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        explained = self.explanation
        return {
            "majority": self.majority,
            "p_value": self.p_value,
            "interval": list(self.interval),
            "near_chance": self.near_chance,
            "explanation": None
            if explained is None
            else {
                "kind": explained.kind,
                "accuracy": explained.accuracy,
                "sentence": explained.sentence,
                "class_map": None
                if explained.class_map is None
                else {str(label): found for label, found in explained.class_map.items()},
            },
        }


def judge_accuracy(logit_set: LogitSet) -> AccuracyJudgement | None:
    """Compare an accuracy with guessing, and where it is low, look for what would explain it.

    Chance is the share of the most frequent label, not ``1/C``. Tried are: labels off by one (with or without a
    background class), an alphabetical order of numbers or names, labels or samples in reverse, samples shifted or
    gathered from several processes, any other class map (found on one half of the samples and judged on the other),
    logits transposed or negated. An explanation is given if at least 10 more of 100 answers are right under it, and if
    chance would favour it so much with probability below 1e-4 (sign test over the samples on which the two differ).

    Returns:
        None without labels.

    Example:
        >>> logits = np.eye(4)[[0, 1, 2, 3] * 10][:, [3, 0, 1, 2]]
        >>> judged = judge_accuracy(LogitSet.create(logits, [0, 1, 2, 3] * 10))
        >>> judged.near_chance, judged.explanation.kind
        (True, 'offset')
    """
    if logit_set.labels is None:
        return None
    labels, answers = logit_set.labels, logit_set.answers
    right = int(np.count_nonzero(answers == labels))
    majority = float(np.bincount(labels).max() / len(labels))
    count = len(labels)
    judged = AccuracyJudgement(
        right / count, count, majority, _at_least(right, count, majority), _interval(right, count), None
    )
    if judged.good or (judged.accuracy >= _GOOD_ENOUGH and not judged.near_chance):
        return judged
    explanation = _Search(logit_set, judged).explanation()
    return replace(judged, explanation=explanation)


def _at_least(successes: int, trials: int, share: float) -> float:
    """``P(X >= successes)`` of a binomial, as a regularised incomplete beta function."""
    # Importing scipy.stats for it takes longer than the rest of the analysis.
    from scipy.special import betainc

    return 1.0 if successes == 0 else float(betainc(successes, trials - successes + 1, share))


def _interval(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a share."""
    from scipy.special import betaincinv

    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, 0.025))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 0.975))
    return low, high


class _Search:
    """What would explain the accuracy of one set."""

    def __init__(self, logit_set: LogitSet, judged: AccuracyJudgement) -> None:
        assert logit_set.labels is not None
        self.set, self.judged = logit_set, judged
        self.labels, self.answers = logit_set.labels, logit_set.answers
        self.classes = logit_set.num_classes
        self.right = self.answers == self.labels

    def explanation(self) -> Explanation | None:
        """The best of the plain ones; else any class map; else what can be said without a figure."""
        for readings in (self._other_numbers, self._other_orders, self._other_samples, self._other_logits):
            found = [(right, make) for right, make in readings() if self._convinces(right)]
            if found:
                right, make = max(found, key=lambda pair: np.mean(pair[0]))
                return make(float(np.mean(right)))
        if (mapped := self._class_map()) is not None:
            return mapped
        return (self._one_answer() or self._shuffled()) if self.judged.near_chance else None

    def _convinces(self, right: NDArray[np.bool_], before: NDArray[np.bool_] | None = None) -> bool:
        before = self.right if before is None else before
        share, majority = float(np.mean(right)), self.judged.majority
        gained, lost = int(np.count_nonzero(right & ~before)), int(np.count_nonzero(before & ~right))
        skilled = share - majority >= _LEAST_SKILL * (1 - majority) and share - float(np.mean(before)) >= _LEAST_GAIN
        return skilled and _at_least(gained, gained + lost, 0.5) < _SURE

    # Each reading: which answers are right under it, and the explanation for a share of right ones.

    def _other_numbers(self) -> Iterator[tuple[NDArray[np.bool_], Callable[[float], Explanation]]]:
        for shift in (1, -1) if self.classes > 2 else ():
            moved = self.labels + shift
            wrapped = moved % self.classes
            right = self.answers == wrapped
            yield right, self._offset(shift, wraps=bool((moved != wrapped).any()))
        mirrored = self.classes - 1 - self.labels
        yield (
            self.answers == mirrored,
            lambda share: Explanation(
                "reversed",
                share,
                "the two classes exchanged would give "
                f"{percent(share)}: the labels number them the other way round than the logits."
                if self.classes == 2
                else f"labels counted from the last class ({self.classes - 1:,} - label) would give {percent(share)}: "
                "the classes of the logits are in reverse.",
                self._map(lambda label: self.classes - 1 - label),
            ),
        )

    def _offset(self, shift: int, *, wraps: bool) -> Callable[[float], Explanation]:
        named = f"labels {'+' if shift > 0 else '-'} 1"
        highest = int(self.labels.max())
        background = shift == 1 and not wraps and (self.classes == 1001 or highest == self.classes - 2)

        def make(share: float) -> Explanation:
            if background:
                because = (
                    f"the logits have {self.classes:,} classes, the first of which seems to be a background that no "
                    "sample has; add 1 to the labels, or leave the first column out"
                )
            elif wraps:
                last, first = (self.classes - 1, 0) if shift > 0 else (0, self.classes - 1)
                because = f"the labels go round by one (label {last} is class {first} of the logits)"
            elif shift > 0:
                because = "the logits begin one class earlier than the labels; add 1 to the labels"
            else:
                because = "the labels begin at 1 and the logits at 0; subtract 1 from the labels"
            sentence = f"{named} would give {percent(share)}: {because}."
            mapping = self._map(lambda label: (label + shift) % self.classes)
            return Explanation("background" if background else "offset", share, sentence, mapping)

        return make

    def _other_orders(self) -> Iterator[tuple[NDArray[np.bool_], Callable[[float], Explanation]]]:
        for order, words in self._orders():
            places = np.argsort(order)  # of each class in that order
            for table, sorted_ones, others in ((places, "logits", "labels"), (order, "labels", "logits")):
                table = np.asarray(table, np.int64)

                def make(
                    share: float,
                    table: Labels = table,
                    words: str = words,
                    sorted_ones: str = sorted_ones,
                    others: str = others,
                ) -> Explanation:
                    sentence = (
                        f"classes in {words} in the {sorted_ones}, not in the {others}, would give {percent(share)}: "
                        "bring both into one order."
                    )
                    return Explanation("order", share, sentence, self._map(lambda label: int(table[label])))

                yield self.answers == table[self.labels], make

    def _orders(self) -> Iterator[tuple[Labels, str]]:
        """Permutations of the classes that differ from the order of their numbers, and what they are called."""
        numbers = range(self.classes)
        for first in (0, 1):
            text = sorted(numbers, key=lambda number: str(number + first))
            if text != list(numbers):
                shown = ", ".join(str(number + first) for number in text[:4])
                yield (
                    np.array(text, np.int64),
                    f"the order of their numbers as text ({shown}, ..., as torchvision sorts)",
                )
        names = self.set.class_names
        if names is not None and numbers_in(names) is None and len(set(names)) == len(names):
            by_name = sorted(numbers, key=lambda number: names[number])
            by_folded = sorted(numbers, key=lambda number: names[number].casefold())
            for order in [by_name] + ([by_folded] if by_folded != by_name else []):
                if order != list(numbers):
                    yield np.array(order, np.int64), "the alphabetical order of their names"

    def _other_samples(self) -> Iterator[tuple[NDArray[np.bool_], Callable[[float], Explanation]]]:
        for labels, words in self._sample_orders():

            def make(share: float, words: str = words) -> Explanation:
                return Explanation(
                    "samples",
                    share,
                    f"labels {words} would give {percent(share)}: logits and labels are of the same samples in another "
                    "order; store both in one pass over the data, or in two tables with a column that names the "
                    "samples.",
                )

            yield self.answers == labels, make

    def _sample_orders(self) -> Iterator[tuple[Labels, str]]:
        yield self.labels[::-1], "in reverse"
        for shift in (1, -1, 2, -2):
            rows = f"{abs(shift)} sample{'s' * (abs(shift) > 1)}"
            yield np.roll(self.labels, shift), f"moved by {rows} {'down' if shift > 0 else 'up'}"
        if (np.diff(self.labels) < 0).any():
            yield np.sort(self.labels), "sorted by class"
        count = len(self.labels)
        for processes in range(2, min(_MOST_PROCESSES, count) + 1):
            dealt = np.concatenate([np.arange(rank, count, processes) for rank in range(processes)])
            yield self.labels[dealt], f"as {processes} processes deal the samples out"
            back = np.empty_like(self.labels)
            back[dealt] = self.labels
            yield back, f"as gathered from {processes} processes and put in turn"

    def _other_logits(self) -> Iterator[tuple[NDArray[np.bool_], Callable[[float], Explanation]]]:
        yield (
            self.set.lowest == self.labels,
            lambda share: Explanation(
                "negated",
                share,
                f"the smallest value in place of the largest would give {percent(share)}: these are distances, losses "
                "or logits with the other sign; store them times -1.",
            ),
        )
        if self.set.num_samples == self.classes:
            yield (
                np.asarray(self.set.logits).argmax(axis=0) == self.labels,
                lambda share: Explanation(
                    "transposed",
                    share,
                    f"rows taken as classes and columns as samples would give {percent(share)}: the logits are "
                    "transposed; store logits.T.",
                ),
            )

    def _class_map(self) -> Explanation | None:
        """The best one-to-one map from labels to classes, found on one half of the samples, judged on the other."""
        from scipy.optimize import linear_sum_assignment

        if self.classes > _MOST_CLASSES_MAPPED:
            return None
        order = np.random.default_rng(0).permutation(len(self.labels))
        halves = order[::2], order[1::2]
        right = np.zeros(len(self.labels), np.bool_)
        for fitted, judged in (halves, halves[::-1]):
            table = self._counts(fitted)
            rows, columns = linear_sum_assignment(table, maximize=True)
            best = np.full(self.classes, -1)
            best[rows] = columns
            best[table.sum(axis=1) == 0] = -1
            right[judged] = best[self.labels[judged]] == self.answers[judged]
        if not self._convinces(right):
            return None
        rows, columns = linear_sum_assignment(self._counts(order), maximize=True)
        there = set(np.unique(self.labels).tolist())
        mapping = {int(row): int(column) for row, column in zip(rows, columns, strict=True) if int(row) in there}
        moved = [(label, found) for label, found in mapping.items() if label != found]
        shown = ", ".join(f"{self._called(label)} is {self._called(found)}" for label, found in moved[:4])
        share = float(np.mean(right))
        return Explanation(
            "class map",
            share,
            f"another class map would give {percent(share)} ({shown}{', ...' * (len(moved) > 4)}; found on one half of "
            "the samples, judged on the other): logits and labels number the classes differently.",
            mapping,
        )

    def _counts(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        together = self.labels[chosen] * self.classes + self.answers[chosen]
        return np.bincount(together, minlength=self.classes**2).reshape(self.classes, self.classes)

    def _one_answer(self) -> Explanation | None:
        counts = np.bincount(self.answers, minlength=self.classes)
        most = int(counts.argmax())
        share = float(counts[most] / len(self.answers))
        if share < max(_ONE_ANSWER, min(1.0, self.judged.majority + 0.1)):
            return None
        called = self._called(most)
        return Explanation(
            "one answer",
            None,
            f"{percent(share)} of the answers are one class, {called}: a wrong "
            "preprocessing does this, or a last layer that was not trained.",
        )

    def _shuffled(self) -> Explanation | None:
        """Whether each class is answered as often as it is labelled, as when only the order of the samples differs."""
        answered = np.bincount(self.answers, minlength=self.classes)
        labelled = np.bincount(self.labels, minlength=self.classes)
        difference = float(np.abs(answered - labelled).sum() / (2 * len(self.labels)))
        shares = labelled / len(self.labels)
        # Of counts of independent draws, each about normal: E|a - b| = sqrt(2 n p (1 - p)) sqrt(2 / pi).
        by_chance = float(np.sqrt(4 * shares * (1 - shares) / (np.pi * len(self.labels))).sum() / 2)
        if difference > max(_SAME_COUNTS, by_chance / 2):
            return None
        return Explanation(
            "shuffled",
            None,
            "Each class is answered about as often as it is labelled, so the samples may be in another order than the "
            "labels, as from a loader that shuffles; store both in one pass over the data.",
        )

    def _map(self, of: Callable[[int], int]) -> dict[int, int]:
        return {label: of(label) for label in range(self.classes)}

    def _called(self, number: int) -> str:
        return f"{number}" if self.set.class_names is None else f"{number} ({self.set.class_names[number]})"
