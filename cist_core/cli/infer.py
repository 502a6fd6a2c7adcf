"""``cist infer``: run a teacher over a data set and keep its logits."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cards import find_sample_model
from cist_core.cli.interrupt import ends_on_interrupt
from cist_core.cli.loading import add_class_map_option, data_help, given_class_map
from cist_core.cli.output import (
    ProgressBar,
    add_inference_options,
    add_json_option,
    print_json,
    refuse_options,
    refuse_split_of_one_set,
    remark,
)
from cist_core.cli.source_text import source_record, source_text
from cist_core.wording import three_digits
from cist_core.zoo.kinds import teachers_in_words

if TYPE_CHECKING:
    from cist_core.zoo.preprocessing import Preprocessing
    from cist_core.zoo.teacher import Teacher

EXAMPLES = """\
examples:
  cist infer --teacher mnist5k-cnn --data mnist-5k --out logits.safetensors
  cist infer --teacher resnet56.th --data cifar10 --download --out logits.safetensors
  cist infer --teacher mine.pt --arch resnet32x4 --data images.npz --mean 0.5 0.5 0.5 --std 0.25 0.25 0.25 \\
      --out logits.safetensors --json
  cist infer --teacher torchvision:resnet50@IMAGENET1K_V2 --data photographs/ --download --out logits.safetensors
  cist infer --teacher cifar100-resnet20 --data animals/ --class-map wolf=wolf dog= --out logits.safetensors
  cist infer --teacher 'mine.onnx + timm:resnet18.a1_in1k' --data photographs/ --out logits.safetensors
  ray job submit -- cist infer --executor ray --teacher /nfs/mine.pt --data /nfs/photographs/ \\
      --out /nfs/logits.safetensors

Logits are cached by weights, pixels, preprocessing and precision (CIST_CACHE says where): a second run reads them, and
goes on where one that was killed or interrupted has stopped.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "infer",
        help="run a teacher over a data set and write its logits",
        description="Run a teacher over a data set and write its logits, labels and provenance to one file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--teacher",
        metavar="REFERENCE",
        help=f"{teachers_in_words()} ('cist models'); 'A + B' averages the logits of several",
    )
    who.add_argument(
        "--checkpoint", metavar="FILE", help="a file as --teacher takes it, whatever its name; no code runs from it"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="NAME",
        help=data_help(),
    )
    add_class_map_option(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the .safetensors file to write")
    add_inference_options(parser)
    parser.add_argument("--batch-size", type=int, metavar="N", help="images at a time (default: suits the device)")
    parser.add_argument(
        "--executor",
        choices=["here", "ray"],
        default="here",
        help="ray: by the nodes of the cluster that this machine is a part of (default: here)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes on Ray (default: one a GPU, else a CPU)")
    pixels = parser.add_argument_group(
        "preprocessing of your own teacher (default: what its weights say, or is usual for it)"
    )
    pixels.add_argument("--mean", type=float, nargs="+", metavar="M", help="of each channel, pixels scaled to 0..1")
    pixels.add_argument("--std", type=float, nargs="+", metavar="S", help="of each channel, pixels scaled to 0..1")
    pixels.add_argument("--resize", action="store_true", help="bring images of another size to the network's size")
    pixels.add_argument(
        "--crop", type=float, metavar="SHARE", help="of the shorter side, cut out of the centre before resizing"
    )
    pixels.add_argument("--interpolation", choices=["bilinear", "bicubic"], help="of the resizing")
    pixels.add_argument("--grey-to-colour", action="store_true", help="repeat a grey channel three times")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    with ends_on_interrupt():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    if Path(options.out).suffix.lower() != ".safetensors":
        raise CistError(f"Expected --out to end in .safetensors, but got '{options.out}'.")
    refuse_split_of_one_set(options)
    from cist_core.data.loading import load_dataset
    from cist_core.inference.run import fit_data, infer

    teacher = _teacher(options)
    with ProgressBar("Downloading", "bytes") as progress:
        dataset = load_dataset(options.data, options.split or "test", download=options.download, progress=progress)
    dataset = fit_data(teacher, dataset, given_class_map(options))
    with _told_what_stays(), ProgressBar("Running the teacher", "samples") as progress:
        result = infer(
            teacher,
            dataset,
            batch_size=options.batch_size,
            device=options.device or "auto",
            precision=options.precision or "float32",
            progress=progress,
            limit=options.limit,
            seed=options.seed,
            executor=options.executor,
            workers=options.workers,
        )
    logit_set = result.logit_set
    if result.resumed:
        remark(
            f"Resumed: {result.resumed:,} samples are those of a run that did not come to its end, and were checked."
        )
    if result.reduced_batch is not None:
        remark(
            f"Memory ran out with larger batches, so {result.reduced_batch:,} samples were taken at a time; "
            f"--batch-size {result.reduced_batch} begins with as many."
        )
    logit_set.save(options.out)
    if options.json:
        print_json(
            {
                **source_record(logit_set),
                "nll": logit_set.nll,
                "samples_per_second": result.samples_per_second,
                "cached": result.cached,
                "resumed": result.resumed,
                "reduced_batch": result.reduced_batch,
                "out": options.out,
                "teacher": {
                    "name": teacher.name,
                    "architecture": teacher.architecture,
                    "preprocessing": str(teacher.preprocessing),
                    "other_weights": list(teacher.other_weights),
                    "facts": dict(teacher.facts),
                },
            }
        )
        return
    how = "read from the cache" if result.cached else f"{three_digits(result.samples_per_second)} samples a second"
    nll = [] if logit_set.nll is None else [f"NLL {three_digits(logit_set.nll)} nats"]
    print(source_text(logit_set, *nll, how))
    if teacher.other_weights:
        print(f"Others are taken with --weights {' or '.join(map(shlex.quote, teacher.other_weights))}.")
    if "licence" in teacher.facts:
        print(f"Licence of the teacher: {teacher.facts['licence']}")
    print(f"Wrote {options.out}; next: cist analyze --logits {options.out}")


@contextlib.contextmanager
def _told_what_stays() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        remark("The same command goes on from what is kept so far.")
        raise


_PREPROCESSING = ("mean", "std", "resize", "crop", "interpolation", "grey_to_colour")


def _teacher(options: argparse.Namespace) -> Teacher:
    from cist_core.inference.sources import find_teacher, split_ensemble

    reference = options.checkpoint or options.teacher
    if find_sample_model(reference) is not None and options.checkpoint is None:
        own = ("arch", "weights", *_PREPROCESSING)
        refuse_options(options, own, needs="a teacher of your own", reason="a sample model brings its own")
    elif len(split_ensemble(reference)) > 1:
        reason = "each teacher of an ensemble brings its own"
        refuse_options(options, _PREPROCESSING, needs="a single teacher", reason=reason)
        return find_teacher(reference, options.arch, weights=options.weights, download=options.download)
    if options.checkpoint is not None and not Path(options.checkpoint).exists():
        raise CistError(f"There is no checkpoint file {options.checkpoint}.")
    teacher = find_teacher(reference, options.arch, weights=options.weights, download=options.download)
    return dataclasses.replace(teacher, preprocessing=_preprocessing(options, teacher.preprocessing))


def _preprocessing(options: argparse.Namespace, usual: Preprocessing) -> Preprocessing:
    given = {name: getattr(options, name) for name in _PREPROCESSING}
    changes = {name: value for name, value in given.items() if value is not None and value is not False}
    for name in ("mean", "std"):
        if name in changes:
            changes[name] = tuple(changes[name])
            if len(changes[name]) != usual.channels:
                raise CistError(
                    f"Expected {usual.channels} values for --{name}, one for each channel, but got "
                    f"{len(changes[name])}."
                )
    return dataclasses.replace(usual, **changes)
