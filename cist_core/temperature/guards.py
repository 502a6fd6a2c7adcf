"""What keeps a temperature finite and positive where a row has nothing to divide by."""

TAU_MIN = 1e-6
"""Smallest temperature CIST gives, in logit units: a row whose centred maximum is below ``rho * TAU_MIN`` is constant
in float32 for any logits of ordinary size. The text states no guard; this one is our choice."""

LSKD_EPSILON = 1e-7
"""Added to the deviation by LSKD's published code."""
