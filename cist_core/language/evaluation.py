"""What a language model is worth: how well it predicts given texts, and how well it answers.

    nll = sum of -ln q(token) over the counted tokens / their number,    perplexity = exp(nll)
    bits per byte = sum of -ln q(token) / (ln 2 * bytes of the counted text)

Bits per byte compare models of different tokenizers; perplexities do not. Sums run over tokens, not over means of
batches, so neither the size of a batch nor padding changes them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cist_core.errors import CistError
from cist_core.files import write_whole
from cist_core.installing import pip_install
from cist_core.language.batches import pad
from cist_core.language.head import Head
from cist_core.language.models import LanguageModel
from cist_core.language.texts import Example, Tokens, question_of
from cist_core.language.vocabulary import shared_classes
from cist_core.objectives.chunks import CHUNK_VALUES
from cist_core.progress import ProgressCallback
from cist_core.wording import LARGEST_LOG

SEEDS = (10, 20, 30, 40, 50)
"""Under which answers are drawn in MiniLLM's evaluation (microsoft/LMOps, minillm)."""
LONGEST = 256
"""Tokens of an answer at most, unless something else is asked for."""


class TokenScores(NamedTuple):
    """Of n predictions, on the device of the states.

    Attributes:
        nll: ``(n,)`` float32, ``-ln q`` of the token that came, in nats.
        answers: ``(n,)`` int64, the most probable token.
    """

    nll: Tensor
    answers: Tensor


@torch.no_grad()
def score_tokens(states: Tensor, ids: Tensor, head: Head, classes: Tensor) -> TokenScores:
    """Negative log-likelihood and answer of every prediction, a chunk of logits at a time.

    Args:
        states: ``(n, D)``, that predict the tokens.
        ids: ``(n,)``, the tokens.
        head: from states to logits.
        classes: ``(K,)`` int64, ascending, those that take part: `cist_core.language.vocabulary.Vocabulary.classes`.
    """
    parts = []
    size = -(-CHUNK_VALUES // len(classes))
    classes, head = classes.to(states.device), head.of(classes)
    places = torch.searchsorted(classes, ids)
    for chunk, wanted in zip(torch.split(states, size), torch.split(places, size), strict=True):
        made = head.logits(chunk)
        parts.append((F.cross_entropy(made, wanted, reduction="none"), classes[made.argmax(-1)]))
    if not parts:
        return TokenScores(states.new_zeros(0, dtype=torch.float32), ids.new_zeros(0))
    nll, answers = zip(*parts, strict=True)
    return TokenScores(torch.cat(nll), torch.cat(answers))


@dataclass(frozen=True)
class TextScores:
    """Sums over the counted tokens of some texts.

    Attributes:
        nll_sum: in nats.
        tokens: how many count.
        right: for how many of them the most probable token is the one that came.
        bytes: of the counted text in UTF-8.
        agreeing: for how many the most probable token is that of another model; None without one.

    Example:
        >>> scores = TextScores(nll_sum=8 * math.log(2), tokens=4, right=1, bytes=16)
        >>> round(scores.perplexity, 6), round(scores.bits_per_byte, 6), scores.accuracy
        (4.0, 0.5, 0.25)
    """

    nll_sum: float
    tokens: int
    right: int
    bytes: int
    agreeing: int | None = None

    @property
    def nll(self) -> float:
        """Of a token, in nats."""
        return self.nll_sum / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.nll) if self.nll < LARGEST_LOG else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Infinite where the counted tokens are no text, as an end alone."""
        return self.nll_sum / (math.log(2) * self.bytes) if self.bytes else math.inf

    @property
    def accuracy(self) -> float:
        """Share of the tokens that the model's most probable one is."""
        return self.right / self.tokens

    @property
    def agreement(self) -> float | None:
        """Share of the tokens for which both models' most probable one is the same."""
        return None if self.agreeing is None else self.agreeing / self.tokens


def score_texts(
    model: LanguageModel,
    texts: Sequence[Tokens],
    *,
    batch_size: int = 8,
    compared_with: LanguageModel | None = None,
    progress: ProgressCallback | None = None,
) -> TextScores:
    """How well a model predicts the counted tokens of texts. Classes that are no token take no part.

    Args:
        model: the model.
        texts: tokenised by the model's tokenizer.
        batch_size: texts that it reads at a time; the result does not depend on it.
        compared_with: a model of the same vocabulary, with whose most probable tokens those of the model are compared.
        progress: told how many texts are read.

    Raises:
        CistError: if no token counts, the model has no class for one, or the other model has another vocabulary.
    """
    if compared_with is not None:
        shared_classes(compared_with.vocabulary, model.vocabulary)
    for text in texts:
        model.vocabulary.check_ids(text.ids)
    classes = torch.from_numpy(model.vocabulary.classes)
    nll, tokens, right, agreeing = 0.0, 0, 0, 0
    others = iter(()) if compared_with is None else compared_with.read(texts, batch_size)
    for number, (predictions, states) in enumerate(model.read(texts, batch_size), start=1):
        ids = predictions.ids.to(states.device)
        scores = score_tokens(states, ids, model.head, classes)
        nll += float(scores.nll.double().sum())
        tokens += len(ids)
        right += int((scores.answers == ids).sum())
        if compared_with is not None:
            _, states = next(others)
            other = score_tokens(states, ids.to(states.device), compared_with.head, classes)
            agreeing += int((other.answers.cpu() == scores.answers.cpu()).sum())
        if progress is not None:
            progress(min(number * batch_size, len(texts)), len(texts))
    if not tokens:
        raise CistError("No token of these texts counts, so there is nothing to score; give texts with a response.")
    size = sum(text.counted_bytes for text in texts)
    return TextScores(nll, tokens, right, size, None if compared_with is None else agreeing)


# ---- answers ---------------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    """What a model is asked, and what would be right.

    Attributes:
        prompt: as text.
        references: right answers, at least one.
    """

    prompt: str
    references: tuple[str, ...]


def questions_of(examples: Sequence[Example], model: LanguageModel) -> list[Question]:
    """What texts ask of a model; those of one prompt are one question with several right answers.

    Args:
        examples: one or more prompts with their responses, or chats that end with an answer; see
            `cist_core.language.texts.question_of`. Chats are answered as ``templated``.
        model: whose template writes the chats.

    Raises:
        CistError: if one asks for no answer, or only some are chats.
    """
    first = examples[0]
    for example in examples:
        if example.chat != first.chat:
            chat, other = (example, first) if example.chat else (first, example)
            raise CistError(f"{chat.name} is a chat, and {other.name} is none; ask them in files of their own.")
    references: dict[str, list[str]] = {}
    for example in examples:
        prompt, right = question_of(example, model.tokenizer)
        references.setdefault(prompt, []).append(right)
    return [Question(prompt, tuple(right)) for prompt, right in references.items()]


@dataclass(frozen=True)
class AnswerScores:
    """ROUGE-L of a model's answers, in percent.

    Attributes:
        greedy: of the answers made of the most probable tokens.
        drawn: of the answers drawn at temperature 1, one for each seed.
        cut: how many of all these answers ended because there was no more room.
    """

    greedy: float
    drawn: dict[int, float]
    cut: int = 0

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.drawn.values())

    @property
    def deviation(self) -> float:
        """Over the seeds; standard deviation of a sample."""
        return statistics.stdev(self.drawn.values()) if len(self.drawn) > 1 else 0.0


class Answer(NamedTuple):
    """What a model wrote.

    Attributes:
        text: without the token that ends it, and without other special ones.
        cut: whether it ended because there was no more room, and not by such a token.
    """

    text: str
    cut: bool


def rouge_l(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over the answers of the best ROUGE-L F-measure among the references, with Porter's stemmer, in percent.

    As MiniLLM's evaluation does it (Gu, Dong, Wei, Huang 2024, arXiv 2306.08543), through the package rouge-score.

    Args:
        answers: one for each question.
        references: of each question, at least one.

    Raises:
        CistError: if rouge-score is not installed, or there are not as many answers as questions.
    """
    scorers = _rouge()
    if len(answers) != len(references) or not answers or not all(references):
        raise CistError(
            f"Expected an answer and a reference or more for each question, but got {len(answers):,} answers to "
            f"{len(references):,} questions; give both in one order."
        )
    scorer = scorers.RougeScorer(["rougeL"], use_stemmer=True)
    best = [
        max(scorer.score(reference, answer)["rougeL"].fmeasure for reference in right)
        for answer, right in zip(answers, references, strict=True)
    ]
    return 100 * float(statistics.mean(best))


def _rouge() -> Any:
    try:
        return import_module("rouge_score.rouge_scorer")
    except ImportError:
        raise CistError(f"ROUGE-L needs rouge-score: {pip_install('language')}.") from None


def answer(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    seed: int | None = None,
    longest: int = LONGEST,
    batch_size: int = 8,
    templated: bool = False,
    progress: ProgressCallback | None = None,
) -> list[Answer]:
    """What a model writes after prompts.

    Nothing but the distribution decides: penalties and other settings of the model's own ``generation_config`` are not
    used, but for the tokens that end an answer. Classes that are no token are never written.

    Args:
        model: the model.
        prompts: as text, each shorter than what the model reads.
        seed: draw from the distribution at temperature 1, all tokens included; None: the most probable token each time.
        longest: how many tokens it writes at most; fewer where prompt and answer would be more than the model reads.
        batch_size: prompts at a time; under a seed it decides which random numbers go to which prompt.
        templated: whether a chat template has written the prompts, with a beginning of its own.
        progress: told how many prompts are answered.

    Raises:
        CistError: if a prompt leaves no room for an answer.
    """
    tokens = [_prompt_tokens(model, prompt, templated) for prompt in prompts]
    # Rows of a batch end together, so only prompts with the same room for an answer are in one.
    by_room: dict[int, list[int]] = {}
    for number, text in enumerate(tokens):
        by_room.setdefault(min(longest, model.longest - len(text.ids)), []).append(number)
    written: dict[int, Answer] = {}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed or 0)
        for room, same in by_room.items():
            for start in range(0, len(same), batch_size):
                numbers = same[start : start + batch_size]
                rows = _continued(model, [tokens[number] for number in numbers], room, drawn=seed is not None)
                written |= zip(numbers, rows, strict=True)
                if progress is not None:
                    progress(len(written), len(prompts))
    return [written[number] for number in range(len(prompts))]


def _continued(model: LanguageModel, prompts: Sequence[Tokens], room: int, *, drawn: bool) -> list[Answer]:
    from transformers import GenerationConfig

    batch, network = pad(prompts, side="left").to(model.device), model.network
    ends = _ends(model)
    padding = np.setdiff1d(np.arange(model.vocabulary.size), model.vocabulary.classes).tolist()
    own = network.generation_config
    # What a setting of `generate` does not say is filled in from the network's own, so that one is set aside.
    network.generation_config = GenerationConfig(
        max_new_tokens=room,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
        suppress_tokens=padding or None,
        **({"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if drawn else {"do_sample": False}),
    )
    try:
        rows = network.generate(batch.ids, attention_mask=batch.attention_mask)
    finally:
        network.generation_config = own
    return [_decoded(model, row, ends) for row in rows[:, batch.ids.shape[1] :].tolist()]


def _ends(model: LanguageModel) -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those of the network, which may have several."""
    own = model.network.generation_config.eos_token_id
    found = [model.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return list(dict.fromkeys(number for number in found if number is not None))


def _decoded(model: LanguageModel, ids: list[int], ends: Sequence[int]) -> Answer:
    length = next((place for place, number in enumerate(ids) if number in ends), None)
    tokenizer: Any = model.tokenizer
    return Answer(str(tokenizer.decode(ids[:length], skip_special_tokens=True)), cut=length is None)


def _prompt_tokens(model: LanguageModel, prompt: str, templated: bool) -> Tokens:
    ids = np.asarray(model.tokenizer(prompt, add_special_tokens=not templated)["input_ids"], np.int64)
    if not len(ids):
        raise CistError("A prompt has no tokens; leave it out.")
    if len(ids) >= model.longest:
        raise CistError(
            f"A prompt has {len(ids):,} tokens, and {model.name} reads {model.longest:,} with its answer; give shorter "
            "prompts."
        )
    nothing = np.zeros_like(ids)
    return Tokens("a prompt", ids, np.full(len(ids), "prompt"), nothing.astype(np.bool_), nothing, 0, 0)


def check_room(model: LanguageModel, questions: Sequence[Question], *, templated: bool = False) -> None:
    """Whether all questions leave room for an answer, asked before hours of them.

    Raises:
        CistError: if one does not, or has no tokens.
    """
    for question in questions:
        _prompt_tokens(model, question.prompt, templated)


def check_answers_file(path: Path) -> None:
    """Whether answers can be scored and a file of them be written, asked before hours of them.

    Raises:
        CistError: if rouge-score is not installed, or the file cannot be written.
    """
    _rouge()
    if path.is_dir():
        raise CistError(f"The answers cannot be written to {path} (it is a folder); choose another place.")
    probe = path.with_name(f".{path.name}.probe")
    write_whole(probe, lambda file: file.write_text(""), what="The answers", durable=False)
    probe.unlink()


def score_answers(
    model: LanguageModel,
    questions: Sequence[Question],
    path: Path,
    *,
    seeds: Sequence[int] = SEEDS,
    longest: int = LONGEST,
    batch_size: int = 8,
    templated: bool = False,
    progress: ProgressCallback | None = None,
) -> AnswerScores:
    """ROUGE-L of a model's answers, greedy and drawn, with every answer kept beside the scores.

    After each seed all answers so far are written, so none is lost if the next fails.

    Args:
        model: the model.
        questions: what it is asked.
        path: of a JSONL file: the scores (null until they are known), then one line for each question, with its
            references, the answers by seed, and for which of them there was no more room (``cut``).
        seeds: under which answers are drawn.
        longest: how many tokens an answer has at most.
        batch_size: questions at a time.
        templated: as in `answer`.
        progress: told how many answers are written.

    Raises:
        CistError: as `rouge_l` and `answer`, and if the file cannot be written.
    """
    check_answers_file(path)
    prompts, references = [question.prompt for question in questions], [question.references for question in questions]
    if not questions or not all(references):
        raise CistError("Expected questions with a reference or more each, but got none, or one without; give some.")
    answers: dict[str, list[Answer]] = {}

    def told(done: int, asked: int) -> None:
        if progress is not None:
            progress(len(answers) * asked + done, (1 + len(seeds)) * asked)

    for seed in (None, *seeds):
        answers["greedy" if seed is None else str(seed)] = answer(
            model, prompts, seed=seed, longest=longest, batch_size=batch_size, templated=templated, progress=told
        )
        _keep(path, model, questions, answers, None)
    scores = {name: rouge_l([found.text for found in written], references) for name, written in answers.items()}
    _keep(path, model, questions, answers, scores)
    cut = sum(found.cut for written in answers.values() for found in written)
    return AnswerScores(scores["greedy"], {seed: scores[str(seed)] for seed in seeds}, cut)


def _keep(
    path: Path,
    model: LanguageModel,
    questions: Sequence[Question],
    answers: dict[str, list[Answer]],
    scores: dict[str, float] | None,
) -> None:
    lines = [json.dumps({"model": model.name, "rouge_l": scores})]
    lines += [
        json.dumps(
            {
                "prompt": question.prompt,
                "references": list(question.references),
                "answers": {name: written[number].text for name, written in answers.items()},
                "cut": [name for name, written in answers.items() if written[number].cut],
            }
        )
        for number, question in enumerate(questions)
    ]
    write_whole(path, lambda file: file.write_text("\n".join(lines) + "\n", encoding="utf-8"), what="The answers")
