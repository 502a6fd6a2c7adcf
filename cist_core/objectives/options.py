"""Hyper-parameters that several objectives share."""

from typing import Annotated

from cist_core.temperature.parameters import Number

Tau = Annotated[float, Number("temperature, in the unit of the logits", above=0)]
LambdaCe = Annotated[float, Number("weight of the cross-entropy", minimum=0)]
LambdaKl = Annotated[float, Number("weight of the divergence", minimum=0)]
Warmup = Annotated[float, Number("epochs over which the distillation part grows to its full weight", minimum=0)]
