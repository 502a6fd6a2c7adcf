"""The callback in a real Trainer of Hugging Face, beside the logits computed directly."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from cist_core import CistError, LogitSet
from cist_core.integrations.transformers import RecordLogits

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
NAMES = {0: "cat", 1: "dog", 2: "emu"}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def image_model():
    torch.manual_seed(0)
    config = ViTConfig(**SMALL, image_size=8, patch_size=4, num_channels=1, id2label=NAMES, label2id={})
    return ViTForImageClassification(config).eval()


def images(count=11):
    generator = torch.Generator().manual_seed(1)
    return [
        {"pixel_values": torch.randn(1, 8, 8, generator=generator), "labels": index % 3 if index % 4 else 0}
        for index in range(count)
    ]


def trainer(folder, model, *callbacks, **options):
    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        per_device_eval_batch_size=4,
        dataloader_pin_memory=False,
        **options,
    )
    return Trainer(model, arguments, train_dataset=images(8), eval_dataset=images(), callbacks=list(callbacks))


@torch.no_grad()
def expected(model, data):
    model.eval()
    pixels = torch.stack([item["pixel_values"] for item in data])
    return np.concatenate([model(pixel_values=batch).logits for batch in pixels.split(4)])


def labels(data):
    return [item["labels"] for item in data]


def test_evaluate_and_predict(tmp_path):
    model, file = image_model(), tmp_path / "teacher.safetensors"
    callback = RecordLogits(file)
    ours = trainer(tmp_path, model, callback)
    model(pixel_values=torch.zeros(3, 1, 8, 8))  # somebody tries the model in between
    ours.evaluate()
    recorded = LogitSet.load(file)
    np.testing.assert_allclose(recorded.logits, expected(model, images()), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(recorded.labels, labels(images()))
    assert recorded.class_names == ("cat", "dog", "emu")

    fewer = images(6)
    predicted = ours.predict(fewer)
    np.testing.assert_array_equal(LogitSet.load(file).logits, predicted.predictions)
    np.testing.assert_array_equal(LogitSet.load(file).labels, labels(fewer))

    callback.remove()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_evaluations_during_a_training(tmp_path):
    model, file = image_model(), tmp_path / "teacher.safetensors"
    before = expected(model, images())
    ours = trainer(tmp_path, model, RecordLogits(file), num_train_epochs=2, eval_strategy="epoch", learning_rate=0.1)
    ours.train()
    recorded = LogitSet.load(file)
    assert recorded.num_samples == 11
    assert not np.allclose(recorded.logits, before)
    np.testing.assert_allclose(recorded.logits, expected(model, images()), atol=1e-6)


def test_without_labels(tmp_path):
    model, file = image_model(), tmp_path / "teacher.safetensors"
    unlabelled = [{"pixel_values": item["pixel_values"]} for item in images()]
    trainer(tmp_path, model, RecordLogits(file)).predict(unlabelled)
    np.testing.assert_allclose(LogitSet.load(file).logits, expected(model, images()), rtol=1e-5, atol=1e-6)
    assert LogitSet.load(file).labels is None


def test_label_smoothing_takes_the_labels_away(tmp_path):
    model, file = image_model(), tmp_path / "teacher.safetensors"
    trainer(tmp_path, model, RecordLogits(file), label_smoothing_factor=0.1).evaluate()
    np.testing.assert_allclose(LogitSet.load(file).logits, expected(model, images()), rtol=1e-5, atol=1e-6)
    assert LogitSet.load(file).labels is None


def test_a_callback_that_comes_late_says_so(tmp_path):
    ours = trainer(tmp_path, image_model())
    ours.add_callback(RecordLogits(tmp_path / "teacher.safetensors"))
    with pytest.raises(CistError, match="has missed the first batch"):
        ours.evaluate()


def test_tokens_with_padding(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(**SMALL, vocab_size=20, max_position_embeddings=8, num_labels=4)
    model, file = BertForTokenClassification(config).eval(), tmp_path / "teacher.safetensors"
    data = [
        {
            "input_ids": torch.tensor([5, 6 + index, 7, 0]),
            "attention_mask": torch.tensor([1, 1, 1, 0]),
            "labels": torch.tensor([index % 4, 1, -100, -100]),
        }
        for index in range(5)
    ]
    trainer(tmp_path, model, RecordLogits(file)).predict(data)
    with torch.no_grad():
        every = [
            model(input_ids=item["input_ids"][None], attention_mask=item["attention_mask"][None]).logits[0, :2]
            for item in data
        ]
    recorded = LogitSet.load(file)
    np.testing.assert_allclose(recorded.logits, torch.cat(every), atol=1e-6)
    np.testing.assert_array_equal(recorded.labels, torch.cat([item["labels"][:2] for item in data]))


def test_a_language_model_predicts_the_next_token(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=12, bos_token_id=0, eos_token_id=0, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model, file = GPT2LMHeadModel(config).eval(), tmp_path / "teacher.safetensors"
    tokens = torch.randint(0, 12, (5, 6), generator=torch.Generator().manual_seed(2))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    trainer(tmp_path, model, RecordLogits(file)).predict(data)
    recorded = LogitSet.load(file)
    np.testing.assert_array_equal(recorded.labels, tokens[:, 1:].reshape(-1))
    with torch.no_grad():
        loss = model(input_ids=tokens, labels=tokens).loss  # transformers' own, over the same positions
    assert recorded.nll == pytest.approx(float(loss), abs=1e-5)
