"""``cist evaluate``: how well a language model predicts texts, and how well it answers what they ask."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cist_core import CistError
from cist_core.cli.interrupt import ends_on_interrupt
from cist_core.cli.output import ProgressBar, add_json_option, print_json, refuse_options, remark
from cist_core.language.sources import LENGTH
from cist_core.wording import percent, perplexity, three_digits

if TYPE_CHECKING:
    from cist_core.language.evaluation import AnswerScores, Question, TextScores

EXAMPLES = """\
examples:
  cist evaluate --lm runs/kd/student --text test.jsonl --teacher scripture-gpt
  cist evaluate --lm smollm2 --text questions.jsonl --answers answers.jsonl

Perplexity is exp(nats a token), and compares models of one tokenizer; bits per byte compare any. Neither depends on
--batch-size. With --answers the model answers what the texts ask, and ROUGE-L compares the answers with theirs, as
MiniLLM's evaluation does: rouge-score with its stemmer, the best of several references, greedy and drawn under five
seeds. Lines with the same prompt are one question with several references.
"""
_OF_ANSWERS = ("longest", "seeds")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="how well a language model predicts texts and answers questions",
        description="Score a language model on texts: nats a token, perplexity, bits per byte, agreement with a "
        "teacher, and ROUGE-L of its answers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--lm", required=True, metavar="NAME", help="a language model ('cist models'), or RUN/student")
    parser.add_argument(
        "--text",
        required=True,
        metavar="FILE",
        help="plain text, .jsonl (text; prompt and response; or messages), or hf:OWNER/NAME (--split, default: train)",
    )
    parser.add_argument("--teacher", metavar="NAME", help="a language model of the same vocabulary to agree with")
    parser.add_argument("--split", help="of a data set of the Hugging Face hub")
    parser.add_argument(
        "--length", type=int, metavar="L", help=f"tokens of a text that are read at once (default: {LENGTH:,})"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="texts or questions at a time (default: 8)"
    )
    parser.add_argument("--device", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--download", action="store_true", help="download models and data that are not there")
    answers = parser.add_argument_group("answers (prompts with responses, or chats)")
    answers.add_argument(
        "--answers", metavar="FILE", help="score them with ROUGE-L, and write all of them to this new file (JSONL)"
    )
    answers.add_argument("--longest", type=int, metavar="L", help="tokens of an answer at most (default: 256)")
    answers.add_argument(
        "--seeds", type=int, nargs="+", metavar="S", help="under which they are drawn (default: 10 20 30 40 50)"
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if options.answers is None:
        refuse_options(options, _OF_ANSWERS, needs="--answers", reason="without it nothing is answered")
    for name in ("batch_size", "longest"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise CistError(f"Expected --{name.replace('_', '-')} to be at least 1, but got {value}.")
    for seed in options.seeds or ():
        if not 0 <= seed < 2**63:
            raise CistError(f"Expected --seeds from 0 to 2^63 - 1, but got {seed}.")
    from cist_core.language.evaluation import check_answers_file, check_room, questions_of, score_texts
    from cist_core.language.models import open_language_model
    from cist_core.language.sources import tokens_for
    from cist_core.language.texts import load_texts, remarks

    if options.answers is not None:  # before what takes hours
        if Path(options.answers).exists():
            raise CistError(f"There is {options.answers} already; name another file for --answers, or move it away.")
        check_answers_file(Path(options.answers))
    examples = load_texts(options.text, split=options.split, download=options.download)
    names = [options.lm] if options.teacher is None else [options.lm, options.teacher]
    with ends_on_interrupt():
        model, *teachers = (
            open_language_model(name, device=options.device or "auto", download=options.download) for name in names
        )
        questions = [] if options.answers is None else questions_of(examples, model)
        check_room(model, questions, templated=examples[0].chat)
        texts = tokens_for([model, *teachers], examples, length=options.length)
        sentences = [*(f"{each.name}: {each.precision}." for each in (model, *teachers)), *remarks(texts)]
        spaced = 0 if examples[0].chat else sum(question.prompt[-1:].isspace() for question in questions)
        if spaced:
            sentences.append(
                f"Prompts that end in white space: {spaced:,}. To answer, a model reads it as a token of its own, not "
                "as the beginning of the next word as in the scores above; begin the response with it instead."
            )
        with ProgressBar(f"Reading with {model.name}", "texts") as reading:
            scores = score_texts(
                model, texts, batch_size=options.batch_size, compared_with=next(iter(teachers), None), progress=reading
            )
        if options.json:
            for sentence in sentences:
                remark(sentence)
        else:  # before the answers, which may take hours
            print("\n".join([*_text(scores, options.teacher), *sentences]), flush=True)
        answered = _answers(options, model, questions, templated=examples[0].chat) if questions else None
    if options.json:
        print_json(
            {
                "lm": options.lm,
                "teacher": options.teacher,
                **_record(scores),
                "answers": None if answered is None else _record_of_answers(answered, len(questions), options.answers),
                "remarks": sentences,
            }
        )
    elif answered is not None:
        print("\n".join(["", *_text_of_answers(answered, len(questions))]))
    if answered is not None:
        remark(f"Wrote {options.answers}.")


def _answers(options: argparse.Namespace, model: Any, questions: list[Question], *, templated: bool) -> AnswerScores:
    from cist_core.language.evaluation import LONGEST, SEEDS, score_answers

    with ProgressBar(f"Answering with {model.name}", "answers") as answering:
        return score_answers(
            model,
            questions,
            Path(options.answers),
            seeds=tuple(dict.fromkeys(options.seeds or SEEDS)),
            longest=options.longest or LONGEST,
            batch_size=options.batch_size,
            templated=templated,
            progress=answering,
        )


def _record(scores: TextScores) -> dict[str, Any]:
    return {
        "counted_tokens": scores.tokens,
        "bytes": scores.bytes,
        "nll": scores.nll,
        "perplexity": scores.perplexity,
        "bits_per_byte": scores.bits_per_byte,
        "accuracy": scores.accuracy,
        "agreement": scores.agreement,
    }


def _text(scores: TextScores, teacher: str | None) -> list[str]:
    bits = three_digits(scores.bits_per_byte) if math.isfinite(scores.bits_per_byte) else "no"
    lines = [
        f"Tokens that count: {scores.tokens:,}, of {scores.bytes:,} bytes; {three_digits(scores.nll)} nats a token "
        f"(perplexity {perplexity(scores.nll)}), {bits} bits per byte",
        f"The most probable token is the one that came at {percent(scores.accuracy)} of them.",
    ]
    if scores.agreement is not None:
        lines.append(f"It is that of {teacher} at {percent(scores.agreement)}.")
    return lines


def _record_of_answers(answered: AnswerScores, questions: int, file: str) -> dict[str, Any]:
    return {
        "questions": questions,
        "file": file,
        "rouge_l_greedy": answered.greedy,
        "rouge_l_drawn": {str(seed): score for seed, score in answered.drawn.items()},
        "rouge_l_mean": answered.mean,
        "rouge_l_deviation": answered.deviation if len(answered.drawn) > 1 else None,
        "cut": answered.cut,
    }


def _text_of_answers(answered: AnswerScores, questions: int) -> list[str]:
    lines = [
        f"ROUGE-L of the answers to {questions:,} question{'' if questions == 1 else 's'}, in percent: "
        f"{three_digits(answered.greedy)} greedy, {three_digits(answered.mean)} drawn at temperature 1"
    ]
    if len(answered.drawn) > 1:
        lines.append(
            f"Over {len(answered.drawn)} seeds the standard deviation is {three_digits(answered.deviation)}; take a "
            "difference between two models below twice that for none. Other questions may say something else."
        )
    if answered.cut:
        written = (1 + len(answered.drawn)) * questions
        lines.append(f"Answers that ended because there was no more room: {answered.cut:,} of {written:,}.")
    return lines
