"""Every snippet of docs/objectives.md runs, with small stand-ins for the projects that it plugs into."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from cist_core.language.head import Head
from cist_core.objectives import create_objective, objective_names, objective_presets

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")


def snippets():
    """Code by the heading that it stands under."""
    found = {}
    for section in re.split(r"^#+ ", DOCUMENT, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        for code in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
            assert heading not in found, "one snippet for each heading"
            found[heading] = code
    return found


CODE = snippets()


def run(heading, **names):
    exec(compile(CODE[heading], heading, "exec"), names)
    return names


@pytest.fixture
def module(monkeypatch):
    def install(name, **contents):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        for key, value in contents.items():
            setattr(sys.modules[name], key, value)

    return install


@pytest.fixture(autouse=True)
def no_trace(own_objectives):
    torch.manual_seed(0)


def network(classes=4):
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, classes))


def test_every_snippet_has_a_test():
    assert set(CODE) == {
        "Objectives",
        "In a plain PyTorch loop",
        "Parts of a batch: accumulation and several processes",
        "Vocabularies: logits a chunk at a time",
        "In an mdistiller `Distiller`",
        "In a Hugging Face `Trainer`",
        "A new objective",
    }


def test_the_table_names_every_objective():
    table = DOCUMENT.partition("## The methods")[2].partition("## What is known")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([^`]+)`", " ".join(rows))) == set(objective_names())


def test_the_presets_that_are_named_exist_and_none_is_missing():
    table = DOCUMENT.partition("## Presets")[2].partition("## On a GPU")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    written = re.findall(r"`([^`]+)`", " ".join(rows))
    families = tuple(re.split(r"TEACHER|\.\.\.", name)[0] for name in written if re.search(r"TEACHER|\.\.\.", name))
    named = {name for name in written if name in objective_presets()}
    assert named == {name for name in objective_presets() if not name.startswith(families)}
    assert all(any(name.startswith(family) for name in objective_presets()) for family in families)


def test_the_introduction():
    student_logits = torch.randn(5, 4, requires_grad=True)
    run("Objectives", student_logits=student_logits, teacher_logits=torch.randn(5, 4), labels=torch.arange(5) % 4)
    assert student_logits.grad.abs().sum() > 0


def test_a_plain_loop():
    student, teacher = network(), network()
    images = torch.randn(32, 6)
    loader = [(images[:16], torch.randint(0, 4, (16,))), (images[16:], torch.randint(0, 4, (16,)))]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    names = {"student": student, "teacher": teacher, "loader": loader, "optimizer": optimizer}
    first = run("In a plain PyTorch loop", **names, epochs=1)["terms"]["kd"].item()
    last = run("In a plain PyTorch loop", **names, epochs=40)["terms"]["kd"].item()
    assert last < first


def test_logits_that_are_made_a_chunk_at_a_time():
    """The gradients that the recipe gives states and head are those of all logits at once."""
    student, teacher = (SimpleNamespace(head=Head(torch.randn(12, 6, requires_grad=True))) for _ in range(2))
    states, teacher_states, labels = torch.randn(7, 6, requires_grad=True), torch.randn(7, 6), torch.arange(7)
    named = {"student": student, "teacher": teacher, "student_states": states, "teacher_states": teacher_states}
    run("Vocabularies: logits a chunk at a time", **named, labels=labels, classes=12)
    logits = {"student_logits": student.head.logits(states), "teacher_logits": teacher.head.logits(teacher_states)}
    whole = create_objective("cist:rho=10")(**logits, labels=labels)["total"]
    parameters = [states, student.head.weight]
    for parameter, wanted in zip(parameters, torch.autograd.grad(whole, parameters), strict=True):
        torch.testing.assert_close(parameter.grad, wanted)
    assert teacher.head.weight.grad is None


class StandInDistiller(nn.Module):
    """What mdistiller's base class does with its children: train mode for the student, a call of forward_train."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher

    def get_learnable_parameters(self):
        return list(self.student.parameters())

    def forward(self, **kwargs):
        return self.forward_train(**kwargs)


class WithFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x):
        return self.network(x), {"feats": []}


def test_the_recipe_for_parts_of_a_batch_is_a_step_on_the_whole():
    """Micro-batches of 4, 9 and no tokens: one step of the recipe is that of all tokens at once."""
    inputs, labels = torch.randn(6, 5, 6), torch.randint(0, 4, (6, 5))
    labels[:2, 2:] = labels[4:] = -100
    labels[3, 4] = -100
    parts = [{"inputs": inputs[start : start + 2], "labels": labels[start : start + 2]} for start in (0, 2, 4)]
    teacher, student, whole = network(), network(), network()
    whole.load_state_dict(student.state_dict())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    names = {"steps": [parts], "student": student, "teacher": teacher, "optimizer": optimizer}
    run("Parts of a batch: accumulation and several processes", **names)
    counted = labels != -100
    terms = create_objective("cist:rho=4")(
        student_logits=whole(inputs[counted]), teacher_logits=teacher(inputs[counted]), labels=labels[counted]
    )
    terms["total"].backward()
    for found, before in zip(student.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(found, before - 0.1 * before.grad)


def test_an_mdistiller_distiller(module):
    module("mdistiller.distillers._base", Distiller=StandInDistiller)
    distiller = run("In an mdistiller `Distiller`")["CIST"](WithFeatures(), WithFeatures(), cfg=None)
    parameters = distiller.get_learnable_parameters()
    image, target = torch.randn(8, 6), torch.randint(0, 4, (8,))
    logits, losses = distiller(image=image, target=target, index=torch.arange(8), epoch=1)
    sum(loss.mean() for loss in losses.values()).backward()  # as its trainer does
    assert logits.shape == (8, 4)
    assert len(parameters) == 4
    assert all(parameter.grad.abs().sum() > 0 for parameter in parameters)
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


class StandInTrainer:
    def __init__(self, model):
        self.model, self.state = model, SimpleNamespace(epoch=None)
        self.args = SimpleNamespace(average_tokens_across_devices=True)
        self.accelerator = SimpleNamespace(num_processes=2)


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

    def forward(self, input_ids, labels=None):
        return SimpleNamespace(logits=self.head(self.embedding(input_ids)))


@pytest.mark.parametrize("text", ["cist:rho=4", "cist+jsd:rho=4", "dkd"])
def test_a_hugging_face_trainer(module, text):
    module("transformers", Trainer=StandInTrainer)
    student, teacher = LanguageModel(), LanguageModel()
    trainer = run("In a Hugging Face `Trainer`")["DistillationTrainer"](student, teacher=teacher, objective=text)
    tokens = torch.randint(0, 11, (3, 7))
    labels = tokens.clone()
    labels[:, :3] = -100
    loss, outputs = trainer.compute_loss(student, {"input_ids": tokens, "labels": labels}, return_outputs=True)
    loss.backward()
    assert student.head.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    # Token t is learnt from position t - 1, and the prompt does not count.
    expected = create_objective(text)(
        student_logits=outputs.logits[:, 2:6].reshape(-1, 11),
        teacher_logits=teacher(tokens).logits[:, 2:6].reshape(-1, 11),
        labels=tokens[:, 3:].reshape(-1),
        epoch=1,
    )
    torch.testing.assert_close(loss, expected["total"])
    # A quarter of the step's tokens, in two processes that average their gradients.
    part = trainer.compute_loss(student, {"input_ids": tokens, "labels": labels}, num_items_in_batch=torch.tensor(48))
    torch.testing.assert_close(part, expected["total"] * 12 / 48 * 2)


def test_a_real_trainer_takes_the_same_step_however_it_accumulates(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    student, teacher = (transformers.LlamaForCausalLM(config) for _ in range(2))
    start = {name: value.clone() for name, value in student.state_dict().items()}
    tokens = torch.randint(0, 11, (8, 9))
    counts = torch.tensor([2, 2, 3, 3, 9, 9, 9, 9])[:, None]
    labels = tokens.masked_fill(torch.arange(9) >= counts, -100)
    data = [{"input_ids": tokens[row], "labels": labels[row]} for row in range(8)]

    def step(micro_batches):
        student.load_state_dict(start)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8 // micro_batches,
            gradient_accumulation_steps=micro_batches,
            max_steps=1,
            optim="sgd",
            learning_rate=1.0,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        recipe = run("In a Hugging Face `Trainer`")["DistillationTrainer"]
        recipe(student, arguments, train_dataset=data, teacher=teacher, objective="kd:tau=2").train()
        return student.lm_head.weight.detach() - start["lm_head.weight"]

    whole = step(1)
    assert whole.norm() > 1e-3
    for micro_batches in (2, 4, 8):
        torch.testing.assert_close(step(micro_batches), whole, rtol=1e-4, atol=1e-6)


def test_a_new_objective(capsys):
    run("A new objective")
    assert capsys.readouterr().out == "gap:slope=0.5\n"
    terms = create_objective("gap")(
        student_logits=torch.zeros(1, 3), teacher_logits=torch.tensor([[5.0, 2.0, 0.0]]), labels=torch.tensor([0])
    )
    assert terms["tau_teacher"].item() == 3
