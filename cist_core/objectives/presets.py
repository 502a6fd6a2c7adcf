"""Objectives as somebody published or searched them: a name, the objective's text, and where the values are from.

Runs name their preset, so none ever changes: a correction is a preset of another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectivePreset:
    """One objective with its values.

    Attributes:
        name: what `create_objective` takes in the place of the text.
        objective: the text, ``name:parameter=value,...``; what it leaves out has its default.
        source: where the values are from.
        summary: one line.
    """

    name: str
    objective: str
    source: str
    summary: str


# ---- sources ---------------------------------------------------------------------------------------------------------

_MDISTILLER = "megvii-research/mdistiller at e8c5bb3"
_CIST_AUTHORS = "lhchau/element-wise-kd at e1b1a68"
_LSKD = "sunshangquan/logit-standardization-KD"
_TTM_PAPER = "Zheng, Yang 2024, arXiv 2402.11148, appendix A.4"

# ---- values for a pair of networks, teacher and student --------------------------------------------------------------

_DKD_CIFAR100 = {
    "resnet56-resnet20": "beta=2",
    "resnet110-resnet32": "beta=2",
    "resnet32x4-resnet8x4": "beta=8",
    "wrn_40_2-wrn_16_2": "beta=6",
    "wrn_40_2-wrn_40_1": "beta=6",
    "vgg13-vgg8": "beta=6",
    "resnet32x4-ShuffleV1": "beta=8",
    "resnet32x4-ShuffleV2": "beta=8",
    "wrn_40_2-ShuffleV1": "beta=8",
    "vgg13-MobileNetV2": "beta=6",
    "ResNet50-MobileNetV2": "beta=8",
}
_DKD_IMAGENET = {
    "resnet34-resnet18": ("beta=0.5,tau=1,warmup=1", _MDISTILLER),
    "resnet50-mobilenetv1": ("beta=2,tau=1,warmup=1", "megvii-research/mdistiller at fae6658"),
}
_TTM_CIFAR100 = {
    "wrn_40_2-wrn_16_2": ("gamma=0.1,beta=101", "gamma=0.1,beta=4"),
    "wrn_40_2-wrn_40_1": ("gamma=0.1,beta=76", "gamma=0.1,beta=3"),
    "resnet56-resnet20": ("gamma=0.3,beta=7", "gamma=0.3,beta=1.5"),
    "resnet110-resnet20": ("gamma=0.2,beta=8", "gamma=0.2,beta=2"),
    "resnet110-resnet32": ("gamma=0.1,beta=33", "gamma=0.1,beta=1.5"),
    "resnet32x4-resnet8x4": ("gamma=0.1,beta=100", "gamma=0.1,beta=3"),
    "vgg13-vgg8": ("gamma=0.1,beta=45", "gamma=0.1,beta=2.25"),
    "vgg13-MobileNetV2": ("gamma=0.2,beta=16", "gamma=0.2,beta=3"),
    "ResNet50-MobileNetV2": ("gamma=0.2,beta=20", "gamma=0.2,beta=5"),
    "ResNet50-vgg8": ("gamma=0.1,beta=70", "gamma=0.1,beta=2"),
    "resnet32x4-ShuffleV1": ("gamma=0.2,beta=12", "gamma=0.2,beta=1.4"),
    "resnet32x4-ShuffleV2": ("gamma=0.4,beta=40", "gamma=0.4,beta=16"),
    "wrn_40_2-ShuffleV1": ("gamma=0.3,beta=8", "gamma=0.3,beta=3"),
}
"""Of TTM and of WTTM. In the copy of the paper at hand the labels of Table 8's rows had slipped; they were put right by
two examples in the README of zkxufo/TTM, which name VGG-13 and VGG-8: 0.1 and 45 of TTM, 0.2 and 4 of WTTM + CRD."""
_WTTM_IMAGENET = {
    "resnet34-resnet18": "gamma=0.8,beta=1.6",
    "resnet50-mobilenetv1": "gamma=0.7,beta=3.5",
}

# ---- the presets -----------------------------------------------------------------------------------------------------


def objective_presets() -> Mapping[str, ObjectivePreset]:
    """Every preset by its name.

    The names of networks are those of their repositories; ResNet-50 for CIFAR-100 and the ImageNet MobileNet are no
    architectures of this library.

    Example:
        >>> objective_presets()["kd-imagenet"].objective
        'kd:tau=1,lambda_ce=0.5,lambda_kl=0.5'
    """
    return _PRESETS


def _presets() -> Iterator[ObjectivePreset]:
    yield ObjectivePreset(
        "cist-authors",
        "cist:rho=3,floor=1,weighting=product,normalise=no,gradient=constant,lambda_ce=0.1,lambda_kl=8",
        f"{_CIST_AUTHORS}: the rule, rho and lambda_kl. lambda_ce is ours: the training script there has 1 unless told "
        "otherwise, and what the search told it is not kept",
        "CIST at the best point of its authors' search on CIFAR-100 (best test epoch)",
    )
    yield ObjectivePreset(
        "kd-hinton",
        "kd:tau=4,lambda_ce=0.1,lambda_kl=0.9",
        f"{_MDISTILLER}, defaults of KD",
        "KD as CIFAR-100 benchmarks run it",
    )
    yield ObjectivePreset(
        "kd-imagenet",
        "kd:tau=1,lambda_ce=0.5,lambda_kl=0.5",
        f"{_MDISTILLER}, configs/imagenet/r34_r18/kd.yaml",
        "KD as ImageNet benchmarks run it",
    )
    yield ObjectivePreset(
        "kd-lskd",
        "kd:tau=2,lambda_ce=0.1,lambda_kl=9",
        f"{_LSKD}, README: --base-temp 2 --kd-weight 9. lambda_ce is that of lskd; stored versions of the code have 1",
        "KD at the temperature and the weight of LSKD, without the z-score",
    )
    for pair, values in _DKD_CIFAR100.items():
        yield ObjectivePreset(
            f"dkd-{pair}",
            f"dkd:{values},alpha=1,tau=4,warmup=20,lambda_ce=1",
            f"{_MDISTILLER}, configs/cifar100/dkd",
            f"DKD on CIFAR-100, {_readable(pair)}",
        )
    for pair, (values, source) in _DKD_IMAGENET.items():
        yield ObjectivePreset(
            f"dkd-imagenet-{pair}",
            f"dkd:{values},alpha=1,lambda_ce=1",
            f"{source}, configs/imagenet",
            f"DKD on ImageNet, {_readable(pair)}",
        )
    for position, method in enumerate(("ttm", "wttm")):
        for pair, values_of_both in _TTM_CIFAR100.items():
            yield ObjectivePreset(
                f"{method}-{pair}",
                f"{method}:{values_of_both[position]},lambda_ce=1",
                f"{_TTM_PAPER}, Tables 8 and 9",
                f"{method.upper()} on CIFAR-100, {_readable(pair)}",
            )
    for pair, values in _WTTM_IMAGENET.items():
        yield ObjectivePreset(
            f"wttm-imagenet-{pair}",
            f"wttm:{values},lambda_ce=1",
            f"{_TTM_PAPER}, Table 10",
            f"WTTM on ImageNet, {_readable(pair)}",
        )


def _readable(pair: str) -> str:
    teacher, _, student = pair.partition("-")
    return f"{teacher} teaches {student}"


_PRESETS: Mapping[str, ObjectivePreset] = {preset.name: preset for preset in _presets()}
