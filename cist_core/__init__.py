"""See your soft labels before you distill: fixed temperatures against one temperature per sample (CIST).

Logits in, one entropy curve per sample, a temperature rule, the numbers out:

    >>> from cist_core import Cist, EntropyCurves, EntropyProfile, Fixed, LogitSet, matched_pair
    >>> curves = EntropyCurves.from_logits(LogitSet.create([[27.0, 3.0, 0.0], [6.0, 1.5, 0.0]]))
    >>> pair = matched_pair(curves, tau=6)
    >>> for rule in (Fixed(pair.tau), Cist(pair.rho)):
    ...     profile = EntropyProfile.of(rule, curves)
    ...     print(f"{rule.name}: {profile.mean:.2f} nats on average, spread {profile.std:.2f}")
    fixed: 0.58 nats on average, spread 0.43
    cist: 0.58 nats on average, spread 0.00

`read_logits` opens files of logits. Entropies are in nats, temperatures in the unit of the logits.
"""

from cist_core.compare.anchors import Anchor, default_pair, find_anchors
from cist_core.compare.matching import MatchedPair, match_rho, match_tau, matched_pair
from cist_core.compare.recommendation import RhoOutcome, RhoRecommendation, recommend_rho, rho_outcome
from cist_core.compare.rho_curves import GainCurve, RhoSweep, gain_curve, rho_sweep
from cist_core.entropy.curves import EntropyCurves
from cist_core.entropy.envelope import Envelope, entropy_envelope
from cist_core.entropy.theory import equal_others_entropy, equal_others_top1
from cist_core.errors import Cancelled, CistError
from cist_core.logits.ensemble import average_logits
from cist_core.logits.files import read_logits
from cist_core.logits.logit_set import LogitSet, centre_for_storage
from cist_core.logits.recording import record
from cist_core.logits.top_k import TopK, read_top_k
from cist_core.temperature import (
    Cist,
    Dtkd,
    Fixed,
    Lskd,
    Matched,
    NormKd,
    TemperatureRule,
    parse_rule,
    register_rule,
    rule_names,
)
from cist_core.temperature.profile import Association, EntropyProfile, class_means, entropy_histogram

__version__ = "0.1.0"

__all__ = [
    "Anchor",
    "Association",
    "Cancelled",
    "Cist",
    "CistError",
    "Dtkd",
    "EntropyCurves",
    "EntropyProfile",
    "Envelope",
    "Fixed",
    "GainCurve",
    "LogitSet",
    "Lskd",
    "Matched",
    "MatchedPair",
    "NormKd",
    "RhoOutcome",
    "RhoRecommendation",
    "RhoSweep",
    "TemperatureRule",
    "TopK",
    "__version__",
    "average_logits",
    "centre_for_storage",
    "class_means",
    "default_pair",
    "entropy_envelope",
    "entropy_histogram",
    "equal_others_entropy",
    "equal_others_top1",
    "find_anchors",
    "gain_curve",
    "match_rho",
    "match_tau",
    "matched_pair",
    "parse_rule",
    "read_logits",
    "read_top_k",
    "recommend_rho",
    "record",
    "register_rule",
    "rho_outcome",
    "rho_sweep",
    "rule_names",
]
