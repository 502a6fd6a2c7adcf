"""Temperature rules: anything that gives each sample a temperature.

A new rule is a frozen dataclass with a `temperatures` method, a name, and the label that stands on screen, in a file of
its own; a file in `cist_core.temperature.rules` is found by itself::

    @register_rule("linear")
    @dataclass(frozen=True)
    class Linear(TemperatureRule):
        label: ClassVar[str] = "linear"
        slope: float = 1.0

        def temperatures(self, curves):
            return self.slope * curves.statistics.gap

        def torch_temperatures(self, rows):
            best = rows.centred.topk(2).values
            return self.slope * (best[:, 0] - best[:, 1])

The formula in torch makes it an objective of the same text (``cist distill --objective linear:slope=2``); without it
the rule is for analysis alone. No file of this room but `logit_rows` imports torch, and only training imports that one.
"""

from cist_core.temperature import rules as _rules  # noqa: F401 - registers every rule
from cist_core.temperature.guards import CIST_FLOOR, LSKD_EPSILON, TAU_MIN
from cist_core.temperature.rule import FIXED, TemperatureRule, parse_rule, register_rule, rule_class, rule_names
from cist_core.temperature.rules.cist import Cist
from cist_core.temperature.rules.dtkd import Dtkd
from cist_core.temperature.rules.fixed import Fixed
from cist_core.temperature.rules.lskd import Lskd
from cist_core.temperature.rules.matched import Matched
from cist_core.temperature.rules.normkd import NormKd

__all__ = [
    "CIST_FLOOR",
    "FIXED",
    "LSKD_EPSILON",
    "TAU_MIN",
    "Cist",
    "Dtkd",
    "Fixed",
    "Lskd",
    "Matched",
    "NormKd",
    "TemperatureRule",
    "parse_rule",
    "register_rule",
    "rule_class",
    "rule_names",
]
