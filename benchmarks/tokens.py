"""Measures what a token set costs beside the language model that it is made with: time, memory, disk and accuracy.

    python benchmarks/tokens.py [--lm NAME ...] [--text FILE] [--tokens 4000] [--length 256]
        [--output benchmarks/tokens.json]

Without a name every language model that is on this machine (`cist models`) is measured, as `make bench` does: the pair
that ships, and SmolLM2 where its package is installed. Whole texts of the file, or of the chapters that ship, are read
until there are so many tokens, by each model in a process of its own. A row a model goes into the output, in place of
one of the same model, text, tokens and length.

- states, logits: the forward pass of the model, up to its final hidden states and then through its head.
- token set: everything else of `infer_tokens`: the tables of entropies, likelihoods and largest logits.
- writing: `TokenSet.save`.
- share: of the token set beside states and logits together.
- memory: the most that the process had in memory (``VmHWM``, pages of files that it maps included) less what it had
  when the model was open and had read a few tokens; while the texts were read, and while the set was written.
- error: of the entropies of the first few hundred tokens at several temperatures and ratios, in nats, against float64
  SciPy on the same float32 logits, which are kept while the model makes them.

Processor seconds of the process, all threads, stand beside the wall seconds, which count what others do on the machine
as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from bench import scipy_entropy
from machine import machine
from numpy.typing import NDArray
from torch import Tensor

from cist_core.errors import CistError
from cist_core.kernels import MAX_TABLE_RATIO
from cist_core.language.batches import Batch
from cist_core.language.head import Head
from cist_core.language.inference import infer_tokens
from cist_core.language.known import known_language_models, lacking
from cist_core.language.models import LanguageModel, open_language_model
from cist_core.language.sources import tokens_for
from cist_core.language.texts import Tokens, load_texts
from cist_core.training.language_texts import texts_that_come_along

TEXT, TOKENS, LENGTH = "scripture-train.jsonl", 4_000, 256
KEY = ("model", "text", "tokens", "length")
"""What tells the rows of a result file apart."""
FEW = 16
CHECKED_TOKENS = 400
CHECKED_TAUS, CHECKED_RATIOS = (1.0, 2.0, 4.0), (2.0, 9.0, 17.0, 30.0)


@dataclass
class Clock:
    """Seconds that were spent in some place, on the clock and of all threads of the process."""

    seconds: float = 0.0
    processor_seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        begun, used = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - begun
        self.processor_seconds += time.process_time() - used

    def less(self, *others: Clock) -> Clock:
        return Clock(
            self.seconds - sum(other.seconds for other in others),
            self.processor_seconds - sum(other.processor_seconds for other in others),
        )


@dataclass(frozen=True, eq=False)
class TimedHead(Head):
    clock: Clock = field(default_factory=Clock)

    def logits(self, hidden: Tensor) -> Tensor:
        with self.clock.running():
            return super().logits(hidden)


@dataclass(frozen=True, eq=False)
class KeepingHead(Head):
    """Keeps the logits that it makes, to check entropies on."""

    kept: list[NDArray[np.float32]] = field(default_factory=list)

    def logits(self, hidden: Tensor) -> Tensor:
        made = super().logits(hidden)
        self.kept.append(made.cpu().numpy().copy())
        return made


@dataclass(frozen=True, eq=False)
class TimedModel(LanguageModel):
    clock: Clock = field(default_factory=Clock)

    def hidden_states(self, batch: Batch) -> Tensor:
        with self.clock.running():
            return super().hidden_states(batch)

    @classmethod
    def of(cls, model: LanguageModel) -> tuple[TimedModel, TimedHead]:
        """The same model, and its head, with clocks of their own."""
        head = TimedHead(**_fields(model.head))
        return cls(**_fields(model) | {"head": head}), head


def _fields(of: Any) -> dict[str, Any]:
    return {each.name: getattr(of, each.name) for each in dataclasses.fields(of)}


def as_many_as(texts: Sequence[Tokens], tokens: int) -> list[Tokens]:
    """The first whole texts of so many tokens that are predicted.

    Raises:
        CistError: if all together have fewer.
    """
    total, kept = 0, []
    for text in texts:
        if total >= tokens:
            break
        kept.append(text)
        total += len(text.ids) - 1
    if total < tokens:
        raise CistError(f"The texts have {total:,} tokens that are predicted, but {tokens:,} were asked for.")
    return kept


class Memory:
    """The most that this process has in memory from now on, in bytes above what it has now."""

    def __init__(self) -> None:
        self._before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")

    def above(self) -> int:
        return _memory("VmHWM") - self._before

    def begin_again(self) -> None:
        """Forget the most so far; what there was before stays what it is compared with."""
        Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def largest_errors(model: LanguageModel, texts: Sequence[Tokens]) -> dict[str, float]:
    """In nats, at each temperature and ratio that the tables reach; the texts are read once more for it."""
    head = KeepingHead(**_fields(model.head))
    found = infer_tokens(dataclasses.replace(model, head=head), texts, cached=False)
    exact = np.concatenate(head.kept)[:, model.vocabulary.classes].astype(np.float64)
    curves = found.curves(counted_only=False)
    maximum = exact.max(axis=1, keepdims=True) - exact.mean(axis=1, keepdims=True)
    taus = [tau for tau in CHECKED_TAUS if found.statistics.maximum.max() / tau <= MAX_TABLE_RATIO]
    at = {f"tau {tau:g}": (curves.at_temperature(tau), scipy_entropy(exact, tau)) for tau in taus}
    at |= {
        f"rho {ratio:g}": (curves.at_ratio(ratio), scipy_entropy(exact, maximum / ratio)) for ratio in CHECKED_RATIOS
    }
    return {name: float(np.abs(ours - reference).max()) for name, (ours, reference) in at.items()}


def look(name: str, text: str, tokens: int, length: int) -> dict[str, Any]:
    """One row of figures, of this process."""
    opened = open_language_model(name)
    examples = load_texts(text)
    texts = as_many_as(tokens_for([opened], examples, length=length), tokens)
    infer_tokens(opened, tokens_for([opened], examples, length=FEW)[:1], cached=False)  # compiles
    model, head = TimedModel.of(opened)
    whole, writing, memory = Clock(), Clock(), Memory()
    with whole.running():
        found = infer_tokens(model, texts, cached=False)
    reading_memory = memory.above()
    memory.begin_again()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.safetensors"
        with writing.running():
            found.save(path)
        writing_memory, size = memory.above(), path.stat().st_size
    checked = as_many_as(texts, min(CHECKED_TOKENS, found.num_tokens))
    analysis = whole.less(model.clock, head.clock)
    forward = whole.less(analysis)
    clocks = {"states": model.clock, "logits": head.clock, "token set": analysis, "writing": writing}
    return {
        "precision": model.precision,
        "parameters": model.parameters,
        "vocabulary": model.vocabulary.size,
        "tokens": found.num_tokens,
        "length": max(len(each.ids) for each in texts),
        "steps": {what: dataclasses.asdict(clock) for what, clock in clocks.items()},
        "share": analysis.seconds / forward.seconds,
        "processor_share": analysis.processor_seconds / forward.processor_seconds,
        "memory_bytes": {"reading": reading_memory, "writing": writing_memory},
        "bytes_a_token": size / found.num_tokens,
        "checked_tokens": sum(len(each.ids) - 1 for each in checked),
        "largest_errors": largest_errors(opened, checked),
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
    }


def print_row(row: dict[str, Any]) -> None:
    print(f"{row['model']}: {row['tokens']:,} tokens in rows of {row['length']}, vocabulary {row['vocabulary']:,}")
    for what, clock in row["steps"].items():
        print(f"  {what:10} {clock['seconds']:8.2f} s, {clock['processor_seconds']:8.2f} processor s")
    memory = {what: f"{size / 1e9:.2f} GB while {what}" for what, size in row["memory_bytes"].items()}
    print(f"  token set beside the forward pass: {row['share']:.1%}, {row['processor_share']:.1%} of processor time")
    print(f"  above the model: {', '.join(memory.values())}; {row['bytes_a_token']:,.0f} bytes a token on the disk")
    errors = ", ".join(f"{error:.1e} at {at}" for at, error in row["largest_errors"].items())
    print(f"  largest error of {row['checked_tokens']} tokens in nats: {errors}")


def measure(name: str, text: str, tokens: int, length: int) -> dict[str, Any]:
    """The row of one model, looked at in a process of its own.

    Raises:
        CistError: if the process ends without one; it has said why.
    """
    measured_on = machine("numpy", "numba", "torch", "transformers")
    command = [sys.executable, __file__, "--look", "--lm", name, "--text", text]
    command += ["--tokens", str(tokens), "--length", str(length)]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        raise CistError(f"{name} could not be measured on {text}; see above.")
    return {"model": name, "text": Path(text).name, "machine": measured_on, **json.loads(ended.stdout)}


def put(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with this one, in place of an earlier one of the same (`KEY`) or at the end."""
    same = [all(each[key] == row[key] for key in KEY) for each in rows]
    if not any(same):
        return [*rows, row]
    return [row if replaced else each for each, replaced in zip(rows, same, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what token sets cost beside their language models.")
    parser.add_argument(
        "--lm",
        nargs="+",
        metavar="NAME",
        help="names of `cist models`, folders or hf:REPO (default: all that are here)",
    )
    parser.add_argument("--text", help="a .txt or .jsonl file, or hf:REPO (default: the chapters that ship)")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a row at most")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("tokens.json"),
        help="JSON to put rows into",
    )
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)  # what the process is started with
    arguments = parser.parse_args()
    if arguments.look:
        try:
            print(json.dumps(look(*arguments.lm, arguments.text, arguments.tokens, arguments.length)))
        except CistError as error:
            sys.exit(str(error))
        return
    folder = texts_that_come_along()
    text = arguments.text or (None if folder is None else folder / TEXT)
    missing = lacking()
    if not sys.platform.startswith("linux"):
        missing = "The memory of a process is read as Linux tells it; run it there."
    elif text is None:
        missing = "The chapters that ship are not here; name a text with --text."
    if missing is not None:
        if arguments.lm is not None:
            parser.error(missing)
        print(f"Token sets were not measured. {missing}")
        return
    for name in arguments.lm or [model.name for model in known_language_models() if model.path is not None]:
        try:
            row = measure(name, str(text), arguments.tokens, arguments.length)
        except CistError as error:
            sys.exit(str(error))
        print_row(row)
        rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
        arguments.output.write_text(json.dumps(put(rows, row), indent=1) + "\n")


if __name__ == "__main__":
    main()
