"""Gradients of a batch that is too large for the memory, exactly, for any loss.

A loss may look at its whole batch (a mean weight, a quantile, a correlation between classes), so the losses of parts
do not add up to it. But it depends on the student through the logits alone, whose gradient is small. So the student
is run twice, part by part: without a graph, for the logits of the whole batch; then, after the loss has given the
gradient by these logits, with a graph, through which each part passes its rows of that gradient on:

    dL / dw = sum over parts k of (dz_k / dw)^T (dL / dz_k)

This is the gradient caching of Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup" (2021), with the logits as the representations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from cist_core.objectives import Terms

Tensors = Mapping[str, Tensor]


def backward_by_micro_batches(
    network: nn.Module,
    forward: Callable[[Tensors], Tensors],
    inputs: Tensors,
    loss: Callable[[Tensors], Terms],
    *,
    sizes: Sequence[int],
    backward: Callable[[Tensor], None] = Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[Tensors, Terms]:
    """Add the gradients of a loss to the parameters of a network, and of the loss itself if it has some.

    They are those of the whole batch, whatever the sizes, up to the order of the sums, where a row of the outputs
    depends on its own sample alone. Under batch norm it does not: in training mode the network normalises each
    micro-batch by itself, and moves its running statistics once a micro-batch, in the second of the two passes only. A
    micro-batch draws the same random numbers (dropout) in both passes, but others than in a whole batch.

    Args:
        network: whose buffers the first pass must leave as they are.
        forward: from inputs to outputs, by name, through the network; rows of the outputs are in the order of the
            inputs, and need not be as many (a sequence may give a row a token).
        inputs: by name, each with the samples along its first axis.
        loss: from the outputs of the whole batch to its terms; ``total`` is minimised.
        sizes: of the micro-batches, in order; together the number of samples.
        backward: of a scalar, for losses that are scaled first (float16).
        no_sync: entered for all micro-batches but the last, where processes share their gradients in backward.

    Returns:
        The outputs, without a graph if there are several micro-batches, and the terms.
    """
    if len(sizes) == 1:
        outputs = forward(inputs)
        terms = loss(outputs)
        backward(terms["total"])
        return outputs, terms
    parts = _split(inputs, sizes)
    seeds = torch.randint(2**62, (len(parts),)).tolist()
    first: list[Tensors] = []
    buffers = [buffer.clone() for buffer in network.buffers()]
    with torch.no_grad():
        for part, seed in zip(parts, seeds, strict=True):
            torch.manual_seed(seed)
            first.append(forward(part))
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
    outputs = {name: torch.cat([rows[name] for rows in first]).requires_grad_() for name in first[0]}
    terms = loss(outputs)
    backward(terms["total"])
    used = {name: logits.grad for name, logits in outputs.items() if logits.grad is not None}
    shares = {name: torch.split(gradient, [len(rows[name]) for rows in first]) for name, gradient in used.items()}
    for number, (part, seed) in enumerate(zip(parts, seeds, strict=True)):
        with no_sync() if number < len(parts) - 1 else nullcontext():
            torch.manual_seed(seed)
            again = forward(part)
            torch.autograd.backward([again[name] for name in shares], [shares[name][number] for name in shares])
    return {name: logits.detach() for name, logits in outputs.items()}, terms


def _split(inputs: Tensors, sizes: Sequence[int]) -> list[Tensors]:
    split = {name: torch.split(tensor, list(sizes)) for name, tensor in inputs.items()}
    return [{name: rows[number] for name, rows in split.items()} for number in range(len(sizes))]
