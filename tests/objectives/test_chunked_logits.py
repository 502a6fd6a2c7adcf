"""Logits that are made a chunk of rows at a time give the value and the gradients of all logits at once."""

import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from scipy.special import log_softmax, rel_entr
from torch import nn

from cist_core import CistError
from cist_core.objectives import ChunkedLogits, StepMean, chunks, create_objective, objective_names
from cist_core.objectives.batch import Batch
from cist_core.objectives.softening import GRADIENTS, WEIGHTINGS

TOKENS, CLASSES, STUDENT, TEACHER = 23, 40, 6, 9
REPOSITORY = Path(__file__).resolve().parents[2]
BY_CHUNKS = [
    "ce",
    "kd:tau=2",
    "kd:tau=0.5,lambda_ce=0",
    "reverse-kl:tau=2",
    "cist+reverse-kl:rho=3",
    "jsd:beta=0.3",
    "cist+jsd:rho=3",
    "lskd",
    "normkd",
    "dkd:warmup=0",
    "cist+dkd:rho=3,warmup=0",
    "dtkd:warmup=0",
    "ctkd:ramp=0",
    "cist+ctkd:rho=3,ramp=0",
    "ttm",
    "wttm",
    "kd-entout-ce:share=0.3",
    "kd-entout-ht:share=0.3",
    "kd-entropy-threshold-ce:low=0.6",
    "kd-entropy-threshold-ht:low=0.6",
    *(
        f"cist:rho=4,floor={floor},weighting={weighting},gradient={gradient},normalise={normalise}"
        for floor in (0.5, 0)
        for weighting in WEIGHTINGS
        for gradient in GRADIENTS
        for normalise in ("no", "yes")
    ),
]


class Heads:
    """A student and a teacher on the same tokens, with their heads and a learnable temperature where there is one."""

    def __init__(self, text, dtype=torch.float64):
        torch.manual_seed(0)
        self.objective = create_objective(text).to(dtype)
        self.states = torch.randn(TOKENS, STUDENT, dtype=dtype, requires_grad=True)
        self.teacher_states = 2 * torch.randn(TOKENS, TEACHER, dtype=dtype)
        self.student = nn.Linear(STUDENT, CLASSES, dtype=dtype)
        self.teacher = nn.Linear(TEACHER, CLASSES, dtype=dtype)
        self.labels = torch.randint(CLASSES, (TOKENS,))

    def chunked(self, rows=slice(None)):
        return {
            "student_logits": ChunkedLogits(self.states[rows], self.student, CLASSES),
            "teacher_logits": ChunkedLogits(self.teacher_states[rows], self.teacher, CLASSES),
        }

    def dense(self, rows=slice(None)):
        return {
            "student_logits": self.student(self.states[rows]),
            "teacher_logits": self.teacher(self.teacher_states[rows]),
        }

    def results(self, logits, **options):
        terms = self.objective(**logits, **({"labels": self.labels} | options))
        parameters = [self.states, *self.student.parameters(), *self.objective.parameters()]
        for parameter in parameters:
            parameter.grad = None
        terms["total"].backward()
        return terms, [parameter.grad.clone() for parameter in parameters]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 5 * CLASSES)  # 23 tokens are five chunks


@pytest.mark.parametrize("text", BY_CHUNKS)
def test_chunks_have_the_value_and_the_gradients_of_the_whole(text):
    heads = Heads(text)
    terms, gradients = heads.results(heads.chunked())
    expected, expected_gradients = heads.results(heads.dense())
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=1e-12, msg=name)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-11)
    assert heads.teacher.weight.grad is None


@pytest.mark.parametrize("text", ["kd:tau=2", "cist:rho=4,weighting=uniform,gradient=full", "cist+jsd:rho=4", "lskd"])
def test_in_single_precision_they_agree_to_five_places(text):
    heads = Heads(text, torch.float32)
    terms, gradients = heads.results(heads.chunked())
    expected, expected_gradients = heads.results(heads.dense())
    torch.testing.assert_close(terms["total"], expected["total"], rtol=1e-5, atol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_the_value_is_that_of_scipy():
    heads = Heads("kd:tau=2,lambda_ce=0.25,lambda_kl=1")
    with torch.no_grad():
        terms = heads.objective(**heads.chunked(), labels=heads.labels)
        student, teacher = (logits.numpy() for logits in heads.dense().values())
    p, q = (log_softmax(logits / 2, axis=1) for logits in (teacher, student))
    kl = rel_entr(*(torch.from_numpy(log).exp().numpy() for log in (p, q))).sum(1)
    ce = -log_softmax(student, axis=1)[range(TOKENS), heads.labels.numpy()]
    assert terms["total"].item() == pytest.approx(0.25 * ce.mean() + 4 * kl.mean(), rel=1e-10)


def test_a_mask_keeps_the_same_tokens_of_sequences():
    heads = Heads("cist:rho=4")
    mask = torch.rand(1, TOKENS) < 0.5
    shaped = {
        name: ChunkedLogits(logits.states.unsqueeze(0), logits.head, CLASSES)
        for name, logits in heads.chunked().items()
    }
    labels = heads.labels.unsqueeze(0).masked_fill(~mask, -100)
    terms, gradients = heads.results(shaped, labels=labels, mask=mask)
    kept = mask.squeeze(0)
    expected, expected_gradients = heads.results(heads.dense(kept), labels=heads.labels[kept])
    torch.testing.assert_close(terms["total"], expected["total"])
    torch.testing.assert_close(gradients[0], expected_gradients[0])
    assert (gradients[0][~kept] == 0).all()


def test_logits_of_the_teacher_may_be_there_already():
    heads = Heads("cist:rho=4")
    given = heads.chunked() | {"teacher_logits": heads.dense()["teacher_logits"].detach()}
    torch.testing.assert_close(heads.results(given)[1], heads.results(heads.dense())[1])


@pytest.mark.parametrize("weighting", ["uniform", "uniform-teacher", "product"])
@pytest.mark.parametrize("normalise", ["no", "yes"])
def test_the_mean_weight_is_that_of_the_whole_step_over_processes(weighting, normalise):
    """Two processes of 5 and 18 tokens, whose gradients are averaged, as one of 23."""
    heads = Heads(f"cist:rho=4,weighting={weighting},normalise={normalise}")
    expected, expected_gradients = heads.results(heads.chunked())
    parts = (slice(0, 5), slice(5, None))
    sent = []

    def over_processes(mean, seen):
        seen.append(mean)
        return sum(sent[len(seen) - 1]) / len(parts)

    def results(rows, seen, over):
        step = StepMean(TOKENS / len(parts), over_processes=partial(over, seen=seen))
        return heads.results(heads.chunked(rows), labels=heads.labels[rows], num_items=step)

    for _ in range(2):  # the second mean of each process needs the first one of the other
        seen = [[], []]
        for part, mine in zip(parts, seen, strict=True):
            results(part, mine, over_processes if sent else lambda mean, seen: seen.append(mean) or mean)
        sent = [tuple(means) for means in zip(*seen, strict=True)]
    both = [results(part, [], over_processes) for part in parts]
    totals = [terms["total"] for terms, _ in both]
    torch.testing.assert_close(sum(totals) / 2, expected["total"])
    for pair, wanted in zip(zip(*(gradients for _, gradients in both), strict=True), expected_gradients, strict=True):
        torch.testing.assert_close(sum(pair) / 2, wanted, rtol=1e-6, atol=1e-12)


def test_a_step_in_which_nothing_counts_adds_nothing():
    heads = Heads("cist:rho=4,weighting=uniform,normalise=yes")
    none = slice(0, 0)
    terms, gradients = heads.results(heads.chunked(none), labels=heads.labels[none], num_items=StepMean(1))
    assert terms["total"] == 0
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("name", ["mlkd", "cist+mlkd", "entropy-matched"])
def test_what_reads_all_logits_at_once_is_refused_in_one_sentence(name):
    text = name + {"cist+mlkd": ":rho=3", "entropy-matched": ":H=1"}.get(name, "")
    heads = Heads(text)
    with pytest.raises(CistError, match=f"'{name.replace('+', '.')}' .*language models have too many classes"):
        heads.results(heads.chunked())


def test_mlkd_is_refused_for_the_square_of_the_vocabulary():
    with pytest.raises(CistError, match="compares every class with every other, as many numbers as the square"):
        create_objective("mlkd").check_by_chunks()


def test_every_other_objective_is_tested_here():
    refused = {"mlkd", "cist+mlkd", "entropy-matched"}
    assert {text.partition(":")[0] for text in BY_CHUNKS} == set(objective_names()) - refused


def given_as(kind, rows):
    return ChunkedLogits.of(rows) if kind == "chunks" else rows


@pytest.mark.parametrize("kind", ["chunks", "whole"])
def test_a_label_that_takes_no_part_is_named_by_its_sample(kind):
    student, teacher = torch.randn(2, TOKENS, CLASSES)
    teacher[:, 3] = -torch.inf
    labels = torch.zeros(TOKENS, dtype=torch.long)
    labels[17] = 3
    with pytest.raises(CistError, match="The label of sample 17 is class 3, which takes no part"):
        create_objective("kd")(student_logits=given_as(kind, student), teacher_logits=teacher, labels=labels)


@pytest.mark.parametrize("kind", ["chunks", "whole"])
def test_what_is_a_guess_is_said_of_all_rows_or_of_none(kind):
    student, teacher = torch.randn(2, TOKENS, CLASSES)
    labels = torch.zeros(TOKENS, dtype=torch.long)

    def warned():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            create_objective("cist:rho=4")(
                student_logits=given_as(kind, student), teacher_logits=given_as(kind, teacher), labels=labels
            )
        return [str(warning.message) for warning in caught]

    student[20:, 5] = -1e4  # all rows of one chunk
    teacher[20:] = teacher[20:].softmax(-1)
    assert warned() == []
    student[:, 5] = -1e4
    student[:, 6] = -1e9
    teacher = teacher.softmax(-1)
    said = warned()
    assert [message.partition(" of ")[0] for message in said] == ["The teacher_logits", "Numbers such as -1e+04"]
    assert "so 2 of 40 classes (5, 6) take no part" in said[1]


def test_an_objective_of_ones_own_that_reads_all_logits_is_told_so():
    heads = Heads("kd")
    batch = Batch.create(**heads.chunked(), labels=heads.labels)
    assert torch.equal(batch.student.answers, heads.dense()["student_logits"].argmax(-1))
    for name in ("takes_part", "centred"):
        with pytest.raises(CistError, match="reads the logits of all samples at once"):
            getattr(batch.teacher, name)


def test_what_no_logits_are_is_refused_as_ever():
    heads = Heads("kd")
    with pytest.raises(CistError, match=r"Expected labels from 0 to 39, but got 99"):
        heads.results(heads.chunked(), labels=heads.labels.clamp(min=99))
    heads.states.data[17, 0] = float("nan")
    with pytest.raises(CistError, match=r"student_logits hold nan \(first in sample 17\)"):
        heads.results(heads.chunked())
    with pytest.raises(CistError, match="Expected teacher_logits of the shape"):
        heads.results(heads.chunked() | {"teacher_logits": torch.zeros(TOKENS, CLASSES - 1)})


def test_no_chunk_is_small_as_what_is_small_is_kept_by_the_allocator():
    sizes = []

    def head(states):
        sizes.append(len(states))
        return states.new_zeros(len(states), CLASSES)

    for tokens, expected in ((0, [0]), (5, [5]), (9, [9]), (10, [5, 5]), (11, [5, 6]), (23, [5, 6, 6, 6])):
        sizes.clear()
        logits = ChunkedLogits(torch.zeros(tokens, 2), head, CLASSES)
        create_objective("kd:lambda_ce=0")(
            student_logits=logits, teacher_logits=torch.zeros(tokens, CLASSES), num_items=1
        )
        assert sizes[: len(expected)] == expected


OF_A_VOCABULARY = """
import sys

import torch

from cist_core.objectives import ChunkedLogits, create_objective

CLASSES, WIDTH = 50_257, 768


def bytes_of(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))


student, teacher = (torch.nn.Linear(WIDTH, CLASSES, bias=False) for _ in range(2))
teacher.requires_grad_(False)
objective = create_objective(sys.argv[1])


def train(tokens):
    objective(
        student_logits=ChunkedLogits(torch.randn(tokens, WIDTH, requires_grad=True), student, CLASSES),
        teacher_logits=ChunkedLogits(torch.randn(tokens, WIDTH), teacher, CLASSES),
        labels=torch.randint(CLASSES, (tokens,)),
    )["total"].backward()


train(4)
before = bytes_of("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
train(int(sys.argv[2]))
print(bytes_of("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux tells it")
@pytest.mark.parametrize(
    ("objective", "tokens"),
    [
        ("cist:rho=10", 320),
        ("cist:rho=10", 700),
        ("cist:rho=10,weighting=uniform,normalise=yes,gradient=full", 320),
        ("jsd:tau=1", 512),
        ("dkd:warmup=0", 512),
    ],
)
def test_a_loss_over_a_vocabulary_takes_less_than_a_gigabyte(objective, tokens):
    """320 tokens are nearly two chunks in one; 700 are four, and further ones take no more.

    512 are three of 171 rows, as 2,048 are twelve; in one of 320 rows JSD takes a little more than a gigabyte.
    What is freed goes back to the system here. How much of it glibc would keep differs by a quarter from run to run.
    """
    command = [sys.executable, "-c", OF_A_VOCABULARY, objective, str(tokens)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 1e9
