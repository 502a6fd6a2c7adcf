"""Batch norm folded into the convolution before it: the same function of the input, with fewer passes over memory."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cist_core.zoo.foreign.wrapping import ForeignModel


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy for inference in which each convolution absorbs the batch norm that reads it.

    With ``s = gamma / sqrt(var + eps)``, batch norm of ``conv(x; W, b)`` is ``conv(x; s W, s (b - mean) + beta)``.
    A pair is folded only where the batch norm is the convolution's one reader and both are called once. A model that
    `torch.fx` cannot trace (its control flow depends on the data) is copied unfolded, and so stays correct. A network
    from elsewhere (`ForeignModel`) says itself what is run in its place.

    Args:
        model: any module; it is not changed.

    Returns:
        A module in evaluation mode that maps equal inputs to equal outputs, up to rounding.
    """
    if isinstance(model, ForeignModel):
        return model.folded().eval()
    folded = copy.deepcopy(model).eval()
    try:
        traced = fx.symbolic_trace(folded)
    except Exception:  # tracing runs foreign code with stand-ins for tensors, which may fail in any way
        return folded
    modules = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for norm in list(traced.graph.nodes):
        convolution = _foldable_input(norm, modules, calls)
        if convolution is None:
            continue
        fused = fuse_conv_bn_eval(modules[cast(str, convolution.target)], modules[cast(str, norm.target)])
        traced.set_submodule(cast(str, convolution.target), fused)
        norm.replace_all_uses_with(convolution)
        traced.graph.erase_node(norm)
    traced.graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced.eval()


def runs_side_by_side(folded: nn.Module) -> bool:
    """Whether several threads may call what `fold_batch_norm` returned at once, and none is kept waiting without end.

    A traced graph is a list of calls that keeps nothing between two of them. Code that could not be traced may keep
    anything, or never come back, and so may somebody's hooks on layers.
    """
    if isinstance(folded, ForeignModel):
        return folded.side_by_side
    hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in folded.modules())
    return isinstance(folded, fx.GraphModule) and not hooked


def _foldable_input(norm: fx.Node, modules: dict[str, nn.Module], calls: Counter[Any]) -> fx.Node | None:
    """The convolution that ``norm`` can be folded into, or None."""
    if norm.op != "call_module" or not isinstance(modules[cast(str, norm.target)], nn.BatchNorm2d):
        return None
    source = norm.args[0] if norm.args else None
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
        return None
    shared = calls[source.target] > 1 or calls[norm.target] > 1
    has_statistics = modules[cast(str, norm.target)].running_var is not None
    if shared or not has_statistics or not isinstance(modules[cast(str, source.target)], nn.Conv2d):
        return None
    return source
