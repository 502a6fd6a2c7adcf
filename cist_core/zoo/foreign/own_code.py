"""Networks from code of the user's own, which is imported and called: never on behalf of a visitor of the Studio."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cist_core.errors import CistError, first_line
from cist_core.zoo.foreign.wrapping import ASSUMED, ForeignModel, answers_of, assumed_preprocessing, logits_of
from cist_core.zoo.kinds import StudentOptions
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

_DEFAULT_SIZE = 32


class OwnNetwork(ForeignModel):
    """A module as the user's function returned it, run as it is; its first output is the logits.

    Its images are contiguous, as torch has them by default: ``view`` of a channels-last feature map fails.
    """

    memory_format = torch.contiguous_format

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        # A copy: one channel counts as contiguous in either layout, and convolutions go by the strides.
        return logits_of(self.network(images.clone(memory_format=self.memory_format)))


def create_own(
    reference: str, num_classes: int, options: StudentOptions
) -> tuple[nn.Module, Preprocessing, str | None]:
    """What the function returns for so many classes.

    Args:
        reference: ``package.module:function``; the working directory is looked in as well.
        num_classes: is handed to it as ``num_classes=``.
        options: ``image_size`` stands in where the function returns no `Preprocessing`.

    Raises:
        CistError: if it cannot be imported, fails, or returns something else.
    """
    network, preprocessing = _called(reference, num_classes=num_classes)
    remark = None
    if preprocessing is None:
        preprocessing = assumed_preprocessing(_channels(network), options.image_size or _DEFAULT_SIZE)
        remark = f"its preprocessing is assumed ({preprocessing}); return (module, Preprocessing) to say another"
    own = OwnNetwork(network)
    if any(is_lazy(parameter) for parameter in network.parameters()):
        size = options.image_size or preprocessing.image_size
        _answers(own, reference, replace(preprocessing, image_size=size), 0.0)
    return own, preprocessing, remark


def load_own(reference: str) -> Teacher:
    """The teacher that the function returns, called without arguments, or with those of ``...:function@CLASSES``.

    It is identified by its weights, the file of the function, and its answers to two fixed images.

    Raises:
        CistError: as `create_own`.
    """
    plain, at, classes = reference.partition("@")
    network, preprocessing = _called(plain, **({"num_classes": int(classes)} if at else {}))
    usual = preprocessing or assumed_preprocessing(_channels(network), _DEFAULT_SIZE)
    model = OwnNetwork(network).eval()
    logits = _answers(model, reference, usual, 0.5)
    if logits.ndim != 2 or len(logits) != 2 or logits.shape[1] < 2:
        raise CistError(
            f"Expected '{reference}' to answer two images with (2, C) logits, but got {tuple(logits.shape)}."
        )
    return Teacher(
        name=reference,
        model=model,
        architecture=plain,
        num_classes=int(logits.shape[1]),
        class_names=None,
        preprocessing=usual,
        checkpoint_sha256=_digest(plain, network.state_dict(), logits),
        facts={"origin": f"code of your own, {plain}"} | ({} if preprocessing else {"preprocessing": ASSUMED}),
    )


def _answers(network: OwnNetwork, reference: str, reads: Preprocessing, scale: float) -> Tensor:
    """To two images with a pattern, in evaluation mode; lazy weights get their shapes by it."""
    shape = (2, reads.channels, reads.image_size, reads.image_size)
    pixels = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape) % 7 - 3
    return answers_of(network, pixels * scale, failure=f"The network of '{reference}' does not read images of {reads}")


def _called(reference: str, **arguments: Any) -> tuple[nn.Module, Preprocessing | None]:
    function = _find(reference)
    try:
        returned = function(**arguments)
    except Exception as error:  # code of somebody's own can fail in any way
        hint = (
            ""
            if arguments
            else f"; for a teacher it is called without arguments unless {reference}@CLASSES says how many"
        )
        raise CistError(f"'{reference}' failed ({type(error).__name__}: {first_line(error)}){hint}.") from error
    network, preprocessing = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    if not isinstance(network, nn.Module) or not isinstance(preprocessing, Preprocessing | None):
        raise CistError(
            f"Expected '{reference}' to return a torch.nn.Module, or one with a Preprocessing, but got "
            f"{type(returned).__name__}."
        )
    return network, preprocessing


def _find(reference: str) -> Any:
    module, _, name = reference.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it, and the command `cist` has not
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs the module
        raise CistError(
            f"'{reference}' cannot be imported ({type(error).__name__}: {first_line(error)}); is it "
            "package.module:function of an installed package, or of the working directory?"
        ) from error
    return found


def _channels(network: nn.Module) -> int:
    """Of the first convolution; 3 where there is none."""
    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def _digest(reference: str, state: Mapping[str, Any], logits: Tensor) -> str:
    digest = hashlib.sha256(reference.encode())
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    with contextlib.suppress(TypeError, OSError):  # not written in Python
        digest.update(Path(str(inspect.getsourcefile(inspect.unwrap(_find(reference))))).read_bytes())
    digest.update(logits.float().cpu().numpy().tobytes())
    return digest.hexdigest()
