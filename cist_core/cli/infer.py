"""``cist infer``: run a teacher over a data set and keep its logits."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cli.output import (
    Progress,
    add_inference_options,
    add_json_option,
    print_json,
    refuse_options,
    refuse_split_of_one_set,
    size,
)
from cist_core.findings import three_digits

if TYPE_CHECKING:
    from cist_core.zoo import Preprocessing, Teacher

_EXAMPLES = """\
examples:
  cist infer --teacher mnist5k-cnn --data mnist-5k --out logits.safetensors
  cist infer --checkpoint resnet56.th --data cifar10 --download --out logits.safetensors
  cist infer --checkpoint mine.pt --arch resnet32x4 --data images.npz --mean 0.5 0.5 0.5 --std 0.25 0.25 0.25 \\
      --out logits.safetensors --json

Logits are cached by weights, pixels, preprocessing and precision (CIST_CACHE says where): a second run reads them.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "infer",
        help="run a teacher over a data set and write its logits",
        description="Run a teacher over a data set and write its logits, labels and provenance to one file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--teacher", metavar="NAME", help="a sample model ('cist models')")
    who.add_argument("--checkpoint", metavar="FILE", help=".safetensors, .pt, .pth or .th; no code runs from it")
    parser.add_argument(
        "--data", required=True, metavar="NAME", help="a data set ('cist data'), an .npz file or an image folder"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the .safetensors file to write")
    add_inference_options(parser)
    parser.add_argument("--batch-size", type=int, metavar="N", help="images at a time (default: suits the device)")
    pixels = parser.add_argument_group("preprocessing of a checkpoint (default: that of its architecture's family)")
    pixels.add_argument("--mean", type=float, nargs="+", metavar="M", help="of each channel, pixels scaled to 0..1")
    pixels.add_argument("--std", type=float, nargs="+", metavar="S", help="of each channel, pixels scaled to 0..1")
    pixels.add_argument("--resize", action="store_true", help="bring images of another size to the network's size")
    pixels.add_argument("--grey-to-colour", action="store_true", help="repeat a grey channel three times")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if Path(options.out).suffix.lower() != ".safetensors":
        raise CistError(f"Expected --out to end in .safetensors, but got '{options.out}'.")
    refuse_split_of_one_set(options)
    from cist_core.data import load_dataset
    from cist_core.inference import infer

    teacher = _teacher(options)
    with Progress("Downloading", "bytes") as progress:
        dataset = load_dataset(options.data, options.split or "test", download=options.download, progress=progress)
    with Progress("Running the teacher", "samples") as progress:
        result = infer(
            teacher,
            dataset,
            batch_size=options.batch_size,
            device=options.device or "auto",
            precision=options.precision or "float32",
            progress=progress,
            limit=options.limit,
        )
    logit_set = result.logit_set
    logit_set.save(options.out)
    if options.json:
        print_json(
            {
                "samples": logit_set.num_samples,
                "classes": logit_set.num_classes,
                "accuracy": logit_set.accuracy,
                "nll": logit_set.nll,
                "samples_per_second": result.samples_per_second,
                "cached": result.cached,
                "out": options.out,
            }
        )
        return
    how = "read from the cache" if result.cached else f"{three_digits(result.samples_per_second)} samples a second"
    nll = "" if logit_set.nll is None else f", NLL {three_digits(logit_set.nll)} nats"
    print(f"{size(logit_set.num_samples, logit_set.num_classes, logit_set.accuracy)}{nll}, {how}")
    print(f"Wrote {options.out}; next: cist analyze --logits {options.out}")


def _teacher(options: argparse.Namespace) -> Teacher:
    from cist_core.zoo import load_checkpoint, load_teacher

    if options.checkpoint is not None:
        teacher = load_checkpoint(options.checkpoint, options.arch)
        return dataclasses.replace(teacher, preprocessing=_preprocessing(options, teacher.preprocessing))
    own = ("arch", "mean", "std", "resize", "grey_to_colour")
    refuse_options(options, own, needs="--checkpoint", reason="a sample model brings its own")
    return load_teacher(options.teacher)


def _preprocessing(options: argparse.Namespace, usual: Preprocessing) -> Preprocessing:
    mean = usual.mean if options.mean is None else tuple(options.mean)
    std = usual.std if options.std is None else tuple(options.std)
    for name, values in (("--mean", mean), ("--std", std)):
        if len(values) != usual.channels:
            raise CistError(
                f"Expected {usual.channels} values for {name}, one for each channel, but got {len(values)}."
            )
    return dataclasses.replace(usual, mean=mean, std=std, resize=options.resize, grey_to_colour=options.grey_to_colour)
