"""The floor of CIST, and what keeps a temperature positive where a row has nothing to divide by."""

CIST_FLOOR = 1.0
"""Smallest temperature of CIST unless another is asked for, in logit units: that of the authors' development repository
(lhchau/element-wise-kd, commit e1b1a68). A floor of 0 is the pure ratio rule."""

TAU_MIN = 1e-6
"""Smallest temperature that a rule gives, in logit units, whatever the floor of CIST: a row that asks for less is
constant in float32 for any logits of ordinary size. The text states no guard; this one is our choice. A fixed
temperature is taken as it is given, and LSKD has `LSKD_EPSILON` instead."""

LSKD_EPSILON = 1e-7
"""Added to the deviation by LSKD's published code."""
