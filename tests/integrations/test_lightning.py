"""The callback in a real Lightning Trainer, beside the logits computed directly."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cist_core import CistError, LogitSet
from cist_core.integrations.lightning import RecordLogits

pytest.importorskip("lightning.pytorch")

from lightning.pytorch import LightningModule, Trainer

IMAGES = torch.randn(23, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (23,), generator=torch.Generator().manual_seed(1))


class Classifier(LightningModule):
    def __init__(self, through_self=False):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.through_self = through_self

    def forward(self, x):
        return self.network(x)

    def _loss(self, batch):
        x, y = batch.values() if isinstance(batch, dict) else batch
        return nn.functional.cross_entropy(self(x) if self.through_self else self.network(x), y)

    def training_step(self, batch, index):
        return self._loss(batch)

    def validation_step(self, batch, index, dataloader_idx=0):
        return self._loss(batch)

    def test_step(self, batch, index, dataloader_idx=0):
        return self._loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def loader(images=IMAGES, labels=LABELS):
    return DataLoader(TensorDataset(images, labels), batch_size=5)


def trainer(folder, *callbacks, **options):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **options,
    )


# Lightning gives advice on speed as warnings, and pytest makes errors of them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*many workers", "ignore:.*number of training batches", "ignore:.*LeafSpec", "ignore:.*treespec"
)


def expected(model, images=IMAGES):
    model.eval()
    with torch.no_grad():
        return np.concatenate([model.network(batch) for batch in images.split(5)])


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("through_self", [True, False])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_logits_and_labels_in_the_order_of_the_samples(tmp_path, stage, through_self):
    model, file = Classifier(through_self), tmp_path / "teacher.safetensors"
    callback = RecordLogits(file, layer=None if through_self else "network", class_names=["a", "b", "c"])
    getattr(trainer(tmp_path, callback), stage)(model, loader(), verbose=False)
    recorded = LogitSet.load(file)
    np.testing.assert_allclose(recorded.logits, expected(model), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(recorded.labels, LABELS)
    assert recorded.class_names == ("a", "b", "c")
    assert hooks(model) == 0


def test_during_a_fit_the_file_holds_the_last_validation(tmp_path):
    model, file = Classifier(True), tmp_path / "teacher.safetensors"
    before = expected(model)
    model.train()
    trainer(tmp_path, RecordLogits(file), max_epochs=2).fit(model, loader(), loader())
    recorded = LogitSet.load(file)
    assert recorded.num_samples == 23  # neither the sanity check's nor the first epoch's, nor those of the training
    assert not np.allclose(recorded.logits, before)
    np.testing.assert_allclose(recorded.logits, expected(model), rtol=1e-5, atol=1e-6)


def test_one_of_several_loaders_and_labels_of_another_kind(tmp_path):
    model, file = Classifier(True), tmp_path / "teacher.safetensors"
    samples = [{"pixels": image, "answer": label} for image, label in zip(IMAGES, LABELS, strict=True)]
    other = DataLoader(samples, batch_size=5)
    callback = RecordLogits(file, labels=lambda batch: batch["answer"], dataloader=1)
    trainer(tmp_path, callback).validate(model, [loader(), other], verbose=False)
    np.testing.assert_array_equal(LogitSet.load(file).labels, LABELS)
    callback = RecordLogits(file, labels=lambda batch: None)
    trainer(tmp_path, callback).validate(model, loader(), verbose=False)
    assert LogitSet.load(file).labels is None


def test_mixed_labels_are_none(tmp_path):
    model, file = Classifier(True), tmp_path / "teacher.safetensors"
    mixed = loader(labels=nn.functional.one_hot(LABELS, 3) * 0.9)
    trainer(tmp_path, RecordLogits(file)).validate(model, mixed, verbose=False)
    assert LogitSet.load(file).labels is None


def test_a_module_that_is_not_called_is_told(tmp_path):
    with pytest.raises(CistError, match=r"the model was not called.*name the layer"):
        trainer(tmp_path, RecordLogits(tmp_path / "teacher.safetensors")).validate(
            Classifier(), loader(), verbose=False
        )


def test_an_exception_in_the_step_leaves_no_hooks(tmp_path):
    class Failing(Classifier):
        def validation_step(self, batch, index):
            raise ZeroDivisionError

    model = Failing(True)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, RecordLogits(tmp_path / "teacher.safetensors")).validate(model, loader(), verbose=False)
    assert hooks(model) == 0


def test_each_process_writes_its_own_file(tmp_path, monkeypatch):
    model, several = Classifier(True), trainer(tmp_path, RecordLogits(tmp_path / "teacher.safetensors"))
    monkeypatch.setattr(type(several), "world_size", 2)
    monkeypatch.setattr(type(several), "global_rank", 1)
    several.validate(model, loader(), verbose=False)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["teacher-rank1.safetensors"]
