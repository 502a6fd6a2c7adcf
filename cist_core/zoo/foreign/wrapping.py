"""What all foreign teachers have in common: a module that is taken as it is, digests, and sentences."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from cist_core.errors import CistError, first_line
from cist_core.installing import pip_install
from cist_core.zoo.checkpoints import file_sha256
from cist_core.zoo.preprocessing import Preprocessing

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ASSUMED = "assumed, the file does not say; compare the accuracy on a sample before trusting it"


class ForeignModel(nn.Module):
    """A network that is run as it is: `cist_core.zoo.folding.fold_batch_norm` neither copies nor rewrites it."""

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may run it at once (`cist_core.zoo.folding.runs_side_by_side`)."""
        return False

    def folded(self) -> nn.Module:
        """What inference runs in its place."""
        return self


def require(extra: str, *modules: str, purpose: str) -> list[ModuleType]:
    """Import the libraries of an extra.

    Raises:
        CistError: naming the library, what needs it, and how to install it.
    """
    found = []
    for name in modules:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            raise CistError(
                f"{purpose} needs the library {name.split('.')[0]}, which is not installed here ({error}); "
                f"run: {pip_install(extra)}"
            ) from error
    return found


def assumed_preprocessing(channels: int, image_size: int) -> Preprocessing:
    """For files that do not say how their images were prepared: ImageNet's statistics, or 0.5 for grey images.

    Raises:
        CistError: unless there are one or three channels.
    """
    if channels == 3:
        return Preprocessing(IMAGENET_MEAN, IMAGENET_STD, image_size)
    if channels == 1:
        return Preprocessing((0.5,), (0.5,), image_size)
    raise CistError(f"Expected a network that reads 1 or 3 channels, but it reads {channels}.")


def digest_of_files(files: Iterable[Path]) -> str:
    """SHA-256 (hex) over several files: their names and their bytes."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names, with its number behind one that is not the only one: ImageNet has two cranes and two maillots."""
    counts = Counter(names)
    return tuple(f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(names))


def only_text(facts: Mapping[str, object]) -> dict[str, str]:
    """Facts without the unknown ones, as text."""
    return {name: str(value) for name, value in facts.items() if value not in (None, "", (), [])}


def answers_of(network: nn.Module, images: Tensor, *, failure: str) -> Tensor:
    """The logits of a network for images, in evaluation mode and without a graph; its mode is as before afterwards.

    Args:
        network: anybody's.
        images: ``(N, channels, H, W)``.
        failure: the sentence, without its full stop, of the error if the network fails.

    Raises:
        CistError: if it fails, in whatever way, or returns no tensor.
    """
    training = network.training
    try:
        with torch.no_grad():
            return logits_of(network.eval()(images))
    except CistError:
        raise
    except Exception as error:  # a foreign network can fail in any way
        raise CistError(f"{failure} ({first_line(error)}).") from error
    finally:
        network.train(training)


def logits_of(output: object) -> Tensor:
    """The logits in what a network returned: itself, or the first of several.

    Raises:
        CistError: if there is no tensor.
    """
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise CistError(f"Expected the network to return logits, but got {type(output).__name__}.")
    return output
