"""The columns of every table of entropy profiles: in the app, the report, the terminal and exported files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cist_core.temperature import Cist, TemperatureRule
from cist_core.temperature.profile import EntropyProfile
from cist_core.wording import percent, three_digits


class Format(NamedTuple):
    """How a number is written.

    Attributes:
        text: as text, from the number as it was computed.
        printf: for a table that formats numbers itself, as in C.
        factor: what such a table multiplies the number by: 100 for a share in percent.
    """

    text: Callable[[float], str]
    printf: str
    factor: float = 1.0


NATS = Format(three_digits, "%.3f")
SHARE = Format(percent, "%.1f %%", 100.0)
TEMPERATURE = Format(three_digits, "%.3g")


@dataclass(frozen=True)
class Column:
    """One number of an `EntropyProfile`, as tables show it.

    Attributes:
        name: its heading, in lower case.
        attribute: of the profile; also its key in JSON.
        format: how it is written.
        help: what it is, with the thresholds ``{low}`` and ``{high}`` to be filled in.
        cist_only: whether CIST alone has it.
    """

    name: str
    attribute: str
    format: Format
    help: str
    cist_only: bool = False

    @property
    def title(self) -> str:
        """The name with a capital letter."""
        return self.name[:1].upper() + self.name[1:]

    def number(self, rule: TemperatureRule, profile: EntropyProfile) -> float | None:
        """The number as it was computed, a share between 0 and 1; None for a rule that has none."""
        if self.cist_only and not isinstance(rule, Cist):
            return None
        return float(getattr(profile, self.attribute))

    def scaled(self, rule: TemperatureRule, profile: EntropyProfile) -> float | None:
        """The number that `Format.printf` is for, a share in percent; None for a rule that has none."""
        number = self.number(rule, profile)
        return None if number is None else number * self.format.factor

    def text(self, rule: TemperatureRule, profile: EntropyProfile, *, without: str = "–") -> str:
        """The number as text; ``without`` for a rule that has none.

        Example:
            >>> from cist_core import EntropyCurves, EntropyProfile, LogitSet, parse_rule
            >>> curves = EntropyCurves.from_logits(LogitSet.create([[12.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
            >>> for rule in (parse_rule("tau=3"), parse_rule("cist:rho=4")):
            ...     profile = EntropyProfile.of(rule, curves)
            ...     print([column.text(rule, profile) for column in profile_columns("mean", "at_floor")])
            ['0.576', '–']
            ['0.201', '50.0 %']
        """
        number = self.number(rule, profile)
        return without if number is None else self.format.text(number)

    def help_for(self, profile: EntropyProfile) -> str:
        """What the number is, with the thresholds of a profile."""
        low, high = (f"{share * 100:g} %" for share in (profile.over_sharp_below, profile.over_smoothed_above))
        return self.help.format(low=low, high=high)


_QUANTILE = "{} of the samples have a smaller entropy, in nats"

COLUMNS = {
    column.attribute: column
    for column in (
        Column("mean", "mean", NATS, "Mean of the entropy over the samples, in nats"),
        Column("spread", "std", NATS, "Standard deviation of the entropy over the samples, in nats"),
        Column("5 %", "q05", NATS, _QUANTILE.format("5 %")),
        Column("25 %", "q25", NATS, _QUANTILE.format("25 %")),
        Column("median", "median", NATS, "Median of the entropy over the samples, in nats"),
        Column("75 %", "q75", NATS, _QUANTILE.format("75 %")),
        Column("95 %", "q95", NATS, _QUANTILE.format("95 %")),
        Column("H / ln C", "normalised_mean", NATS, "Mean normalised entropy, 0 to 1"),
        Column("over-sharp", "over_sharp", SHARE, "Share of the samples with an entropy below {low} of ln C"),
        Column("over-smoothed", "over_smoothed", SHARE, "Share of the samples with an entropy above {high} of ln C"),
        Column(
            "at the floor",
            "at_floor",
            SHARE,
            "Share of the samples whose temperature is the floor of CIST",
            cist_only=True,
        ),
        Column("mean τ", "tau_mean", TEMPERATURE, "Mean of the temperature over the samples, in logit units"),
        Column("min τ", "tau_min", TEMPERATURE, "Smallest temperature of a sample, in logit units"),
        Column("max τ", "tau_max", TEMPERATURE, "Largest temperature of a sample, in logit units"),
    )
}
"""Every column that a table may have, by the attribute of the profile, in their usual order."""


def profile_columns(*attributes: str) -> Sequence[Column]:
    """The columns of some attributes of a profile, in the order given.

    Example:
        >>> [column.name for column in profile_columns("std", "normalised_mean")]
        ['spread', 'H / ln C']
    """
    return [COLUMNS[attribute] for attribute in attributes]


COMPACT = profile_columns("mean", "std", "q05", "q95", "normalised_mean", "over_sharp", "over_smoothed", "at_floor")
"""The columns of two rules side by side on one model, on the page Choose ρ and in ``cist rho``."""
