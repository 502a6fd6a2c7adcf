"""The last step of a language model: from the final hidden states to logits over the vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cist_core.errors import CistError, first_line

_CHECKED_TOKENS = 8
_CHECKED_LOGIT = 50.0
"""The largest logit that the check brings about: far enough for a softcap of 30 to show."""
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-5, torch.float16: 2**-8, torch.bfloat16: 2**-5}


@dataclass(frozen=True, eq=False)
class Head:
    """``logits = softcap * tanh(scale * (W h + b) / softcap)``; without a softcap ``scale * (W h + b)``.

    The tensors are those of the network, so a gradient reaches them and training moves them.

    Attributes:
        weight: ``(V, D)``.
        bias: ``(V,)``, or None; Phi and GPT-J have one.
        softcap: Gemma's bound on the absolute value of a logit, or None.
        scale: of the logits; other than 1 in Cohere's, Granite's and Falcon-H1's models.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    @property
    def num_classes(self) -> int:
        """V, with the classes that are padding."""
        return int(self.weight.shape[0])

    def of(self, classes: Tensor) -> Head:
        """The head of some classes alone, such as those that are a token (`Vocabulary.classes`).

        Args:
            classes: ``(K,)`` int64, ascending. Where they are the first K, the rows are not copied.
        """
        count = len(classes)
        kept: Any = slice(count)
        if count and int(classes[-1]) != count - 1:
            kept = classes.to(self.weight.device)
        return dataclasses.replace(self, weight=self.weight[kept], bias=None if self.bias is None else self.bias[kept])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in float32, whatever the precision of the network.

        Args:
            hidden: ``(..., D)``, final hidden states of any precision.

        Returns:
            ``(..., V)`` float32.
        """
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(hidden.device.type, enabled=False):
            logits = F.linear(hidden.float(), self.weight.float(), bias)
            if self.scale != 1.0:
                logits = logits * self.scale
            return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def head_of(network: Any) -> Head:
    """The head of a causal language model of transformers, as its configuration describes it; see `check_head`.

    Raises:
        CistError: if its last layer is no linear one.
    """
    layer = network.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise CistError(
            f"{type(network).__name__} does not end in a linear layer over the vocabulary, so its logits cannot be "
            "made from hidden states; use another architecture."
        )
    config = network.config
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    return Head(layer.weight, layer.bias, None if softcap is None else float(softcap), float(scale) / float(divisor))


def final_hidden_states(network: Any, ids: Tensor, **inputs: Any) -> Tensor:
    """What the head reads.

    Args:
        network: a causal language model of transformers.
        ids: ``(B, L)`` int64.
        inputs: further ones, such as ``attention_mask`` and ``position_ids``.

    Returns:
        ``(B, L, D)``.
    """
    states: Tensor = network.base_model(input_ids=ids, use_cache=False, **inputs).last_hidden_state
    return states


def check_head(network: Any, head: Head) -> None:
    """Compare the logits from hidden states with the network's own, on a few tokens; also that it only looks back.

    The tokens' hidden states are made larger on their way into the head, for the network and for us, so that a softcap
    shows also where the logits are small. The weights need not be trained.

    Raises:
        CistError: if they differ: the architecture does something to its logits that we do not know of.
    """
    name = type(network).__name__
    device = head.weight.device
    ids = torch.arange(_CHECKED_TOKENS, device=device)[None] * max(1, head.num_classes // _CHECKED_TOKENS)
    ids %= head.num_classes
    try:
        with torch.inference_mode():
            hidden = final_hidden_states(network, ids)
            plain = dataclasses.replace(head, softcap=None).logits(hidden)
            factor = max(1.0, _CHECKED_LOGIT / max(float(plain.abs().max()), 1e-6))
            expected = head.logits(hidden * factor)
            with _enlarged(network.get_output_embeddings(), factor):
                found = network(input_ids=ids, use_cache=False).logits.float()
            other = ids.clone()
            other[:, -1] = (ids[:, -1] + 1) % head.num_classes
            moved = final_hidden_states(network, other)[:, :-1] - hidden[:, :-1]
    except Exception as error:  # a network of any kind may be called like this for the first time
        raise CistError(f"{name} cannot be read as a causal language model ({first_line(error)}).") from error
    tolerance = _TOLERANCE[head.weight.dtype]
    if found.shape != expected.shape or not bool(torch.isfinite(expected).all()):
        raise CistError(
            f"{name} gives no finite logits over its {head.num_classes:,} classes; are the weights damaged?"
        )
    worst = float((found - expected).abs().max())
    if worst > tolerance * float(expected.abs().max()) + 1e-4:
        raise CistError(
            f"The logits of {name} are not what its last layer makes of its hidden states (they differ by "
            f"{worst:.3g}): it does something to them that is not known here. Use another architecture, or analyse "
            "logits that you record yourself."
        )
    if float(moved.abs().max()) > tolerance * float(hidden.abs().max()):
        raise CistError(
            f"{name} looks at tokens that come later, so it is no causal language model; use one that predicts the "
            "next token."
        )


@contextmanager
def _enlarged(layer: nn.Module, factor: float) -> Iterator[None]:
    """The layer reads its input times ``factor``."""
    hook = layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * factor, *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
