"""Recording logits in other people's loops: what is kept, with which labels, and what stays on the model (nothing)."""

import copy
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import run
from resources import file_size_limit
from scipy.special import softmax
from torch import nn

import cist_core
from cist_core import CistError, LogitSet, record
from cist_core.logits import recording


class Returning(nn.Module):
    """A network whose output is wrapped in whatever a test wants."""

    def __init__(self, wrap=lambda logits: logits, inputs=4, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Linear(inputs, 5)
        self.fc = nn.Linear(5, classes)
        self.wrap = wrap
        self.eval()

    def forward(self, x, labels=None, attention_mask=None, input_ids=None, **_):
        return self.wrap(self.fc(self.features(x).relu()))


def batches(count=4, size=6):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 4, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


@torch.no_grad()
def expected(model, data):
    return np.concatenate([model.fc(model.features(x).relu()).float().numpy() for x, _ in data])


def assert_close(recorded, computed):
    """Computed once more, not the values of the recorded call: equal but for the rounding of float32."""
    np.testing.assert_allclose(recorded, computed, rtol=1e-5, atol=1e-6)


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_the_library_imports_no_torch():
    command = "import sys, cist_core; cist_core.record; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_a_loop_as_people_write_it(tmp_path, capsys):
    model, data = Returning(), batches()
    with record(model) as logits, torch.no_grad():
        right = 0
        for images, targets in data:
            right += int((model(images).argmax(1) == targets).sum())
            logits.labels(targets)
    assert hooks(model) == 0
    model(data[0][0])  # after the block nothing is recorded
    logits.save(tmp_path / "teacher.safetensors")
    saved = LogitSet.load(tmp_path / "teacher.safetensors")
    assert_close(saved.logits, expected(model, data))
    np.testing.assert_array_equal(saved.labels, torch.cat([targets for _, targets in data]))
    assert saved.accuracy == pytest.approx(right / 24)
    assert saved.provenance == {"teacher": "Returning", "recorded": "4 calls"}
    code, out, err = run(capsys, "analyze", "--logits", tmp_path / "teacher.safetensors", "--tau", 2)
    assert code == 0, err
    assert "24 samples, 3 classes" in out


class Output(dict):
    """As Hugging Face's: a dict with attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: {"loss": z.sum(), "logits": z},
        lambda z: Output(loss=z.sum(), logits=z),
        lambda z: SimpleNamespace(logits=z, aux_logits=-z),
        lambda z: (z, {"features": -z}),
        lambda z: (z.sum(), z),
        lambda z: ([-z, -z], z),
    ],
    ids=["dict", "ModelOutput", "attribute", "first", "after the loss", "after a list of features"],
)
def test_the_logits_are_found_in_what_the_model_returns(wrap):
    model, data = Returning(wrap), batches(2)
    with record(model, class_names=["a", "b", "c"]) as logits, torch.no_grad():
        for x, _ in data:
            model(x)
    recorded = logits.logit_set()
    assert_close(recorded.logits, expected(model, data))
    assert recorded.labels is None
    assert recorded.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("wrap", "named"),
    [
        (lambda z: "three", "returned a str"),
        (lambda z: {"features": z}, "a dict with 'features'"),
        (lambda z: {"loss": z.sum(), "preds": z.argmax(1)}, "a dict with 'loss', 'preds'"),
        (lambda z: z.argmax(1), r"a Tensor of shape \(6,\)"),
        (lambda z: z[:, :1], r"a Tensor of shape \(6, 1\)"),
        (lambda z: z[..., None, None], r"a Tensor of shape \(6, 3, 1, 1\)"),
    ],
)
def test_other_outputs_are_refused_at_the_first_call(wrap, named):
    model = Returning(wrap)
    with pytest.raises(CistError, match=named), record(model):
        model(torch.zeros(6, 4))
    assert hooks(model) == 0


Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    ("wrap", "listed", "choice"),
    [
        (lambda z: (torch.cat([z, z], dim=1), z), r"0 \(6, 6\), 1 \(6, 3\)", 1),
        (lambda z: [z, -z], r"0 \(6, 3\), 1 \(6, 3\)", 0),
        (lambda z: (z.sum(), -z, z), r"1 \(6, 3\), 2 \(6, 3\)", -1),
        (lambda z: {"species": z, "family": z[:, :2]}, r"'species' \(6, 3\), 'family' \(6, 2\)", "species"),
        (lambda z: SimpleNamespace(head=z, aux_head=-z), r"'head' \(6, 3\), 'aux_head' \(6, 3\)", "head"),
        (lambda z: Pair(-z, z), r"'first' \(6, 3\), 'second' \(6, 3\)", "second"),
        (lambda z: Pair(-z, z), r"'first' \(6, 3\), 'second' \(6, 3\)", 1),
    ],
)
def test_of_several_matrices_the_user_says_which(wrap, listed, choice):
    model, data = Returning(wrap), batches(2)
    several = rf"returned several matrices \({listed}\).*say which holds the logits, as in"
    with pytest.raises(CistError, match=several), record(model):
        model(data[0][0])
    with record(model, output=choice) as logits, torch.no_grad():
        for x, _ in data:
            model(x)
    recorded = logits.logit_set()
    assert_close(recorded.logits, expected(model, data))
    assert recorded.provenance["teacher"] == f"Returning ({choice})"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (2, "a tuple, which has no 2 to record; it has 0, 1"),
        ("logits", "which has no 'logits' to record; it has 0, 1"),
        (0, r"Expected output=0 to be logits \(N, C\) or \(B, L, C\), but it is a Tensor of shape \(\)"),
    ],
)
def test_a_choice_that_is_not_there_lists_what_is(choice, message):
    model = Returning(lambda z: (z.sum(), z))
    with pytest.raises(CistError, match=message), record(model, output=choice):
        model(torch.zeros(6, 4))


def test_features_in_a_dict_are_passed_over_but_can_be_chosen():
    model, data = Returning(lambda z: {"features": -z, "preds": z}), batches(1)
    for choice, sign in ((None, 1), ("features", -1)):
        with record(model, output=choice) as logits, torch.no_grad():
            model(data[0][0])
        assert_close(logits.logit_set().logits, sign * expected(model, data))


def test_probabilities_become_logits_of_the_same_soft_labels(tmp_path):
    model, data = Returning(lambda z: z.softmax(1)), batches()
    with record(model) as logits, torch.no_grad():
        for x, targets in data:
            model(x)
            logits.labels(torch.nn.functional.one_hot(targets, 3))
    logits.save(tmp_path / "teacher.safetensors")
    read = cist_core.read_logits(tmp_path / "teacher.safetensors")
    np.testing.assert_allclose(softmax(read.logits, axis=1), softmax(expected(model, data), axis=1), atol=1e-6)
    assert read.provenance["given_as"] == "probabilities; their logarithms were taken"
    np.testing.assert_array_equal(read.labels, torch.cat([targets for _, targets in data]))


def test_what_is_only_mostly_probabilities_is_kept_as_it_is_and_refused_when_it_is_read(tmp_path):
    model, data = Returning(lambda z: z.softmax(1) * torch.tensor([[1.0]] * 5 + [[3.0]])), batches()
    with record(model) as logits, torch.no_grad():
        for x, _ in data:
            model(x)
    logits.save(tmp_path / "teacher.safetensors")
    with pytest.raises(CistError, match=r"20 of 24 samples are probabilities .* but sample 5 "):
        cist_core.read_logits(tmp_path / "teacher.safetensors")


def test_a_layer():
    model, data = Returning(lambda z: z.softmax(1)), batches(2)
    with record(model, layer="fc") as logits:
        for x, _ in data:
            model(x)
    assert_close(logits.logit_set().logits, expected(model, data))
    assert logits.logit_set().provenance["teacher"] == "Linear (fc)"
    with pytest.raises(CistError, match=r"no layer 'classifier'.*features, fc"):
        record(model, layer="classifier")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_kept_in_float32(dtype):
    model, (x, _) = Returning().to(dtype), batches(1)[0]
    with record(model) as logits:
        returned = model(x.to(dtype))
    assert logits.logit_set().logits.dtype == np.float32
    np.testing.assert_array_equal(logits.logit_set().logits, returned.detach().float().numpy())


def test_what_the_loop_does_to_the_output_afterwards_does_not_matter():
    model, data = Returning(), batches(1)
    with record(model) as logits, torch.inference_mode():
        model(data[0][0]).zero_()
    assert_close(logits.logit_set().logits, expected(model, data))


def test_calls_in_training_mode_are_passed_over():
    model, data = Returning(), batches(3)
    with record(model) as logits:
        for index, (x, targets) in enumerate(data):
            model.train(index == 1)
            model(x)
            logits.labels(targets)
    assert_close(logits.logit_set().logits, expected(model, [data[0], data[2]]))
    np.testing.assert_array_equal(logits.logit_set().labels, torch.cat([data[0][1], data[2][1]]))


def test_nothing_recorded_says_why(tmp_path):
    model = Returning().train()
    with record(model) as logits:
        for x, _ in batches(2):
            model(x)
    with pytest.raises(CistError, match=r"training mode in each of its 2 calls.*call model\.eval\(\)"):
        logits.save(tmp_path / "teacher.safetensors")
    with record(model) as logits:
        pass
    with pytest.raises(CistError, match="the model was not called"):
        logits.logit_set()
    assert not list(tmp_path.iterdir())


def _interrupted_after(model, *batches_of_images):
    for images in batches_of_images:
        model(images)
    raise KeyboardInterrupt


def test_an_exception_leaves_no_hooks_and_what_came_before_is_there():
    model, data = Returning(), batches(2)
    logits = record(model)
    with pytest.raises(KeyboardInterrupt), logits:
        _interrupted_after(model, data[0][0])
    assert hooks(model) == 0
    assert_close(logits.logit_set().logits, expected(model, data[:1]))


def test_a_batch_that_fails_inside_the_model_does_not_disturb_the_next():
    model, data = Returning(), batches(2)
    with record(model) as logits:
        model(data[0][0])
        with pytest.raises(RuntimeError):
            model(torch.zeros(6, 99))
        model(data[1][0])
    assert_close(logits.logit_set().logits, expected(model, data))


class Flipping(Returning):
    """Calls itself, as networks with test-time augmentation do."""

    def forward(self, x, flipped=None):
        if flipped is None:
            return (self(x, flipped=False) + self(x, flipped=True)) / 2
        return super().forward(x.flip(1) if flipped else x)


def test_a_model_that_calls_itself_is_recorded_once():
    model, (x, _) = Flipping(), batches(1)[0]
    with record(model) as logits:
        returned = model(x)
    np.testing.assert_array_equal(logits.logit_set().logits, returned.detach().numpy())


def test_several_calls_a_batch_need_labels_each():
    model, (x, targets) = Returning(), batches(1)[0]
    with record(model) as logits:
        model(x)
        model(x.flip(1))
        with pytest.raises(CistError, match=r"6 labels for 12 logits, from 2 calls"):
            logits.labels(targets)
        logits.labels(torch.cat([targets, targets]))
    assert logits.logit_set().num_samples == 12


def test_two_recordings_of_one_model():
    model, data = Returning(), batches(2)
    with record(model) as outer, record(model, layer="fc") as inner:
        for x, _ in data:
            model(x)
    np.testing.assert_array_equal(outer.logit_set().logits, inner.logit_set().logits)
    assert hooks(model) == 0


def test_labels_that_do_not_fit():
    model, data = Returning(), batches(2)
    with record(model) as logits:
        with pytest.raises(CistError, match="6 labels but no logits"):
            logits.labels(data[0][1])
        model(data[0][0])
        with pytest.raises(CistError, match="whole numbers"):
            logits.labels(torch.full((6,), 0.5))
        with pytest.raises(CistError, match="5 labels for 6 logits"):
            logits.labels(data[0][1][:5])
        logits.labels(data[0][1].tolist())
        model(data[1][0])
    with pytest.raises(CistError, match="12 logits but 6 labels"):
        logits.logit_set()
    with record(model) as logits:
        model(data[0][0])
        model(data[1][0], labels=data[1][1])
        with pytest.raises(CistError, match="not known whose these are"):
            logits.labels(data[0][1])
    with pytest.raises(CistError, match="12 logits but 6 labels"):
        logits.logit_set()


def test_the_number_of_classes_may_not_change():
    model = Returning(lambda z: z if len(z) == 6 else z[:, :2])
    with record(model):
        model(torch.zeros(6, 4))
        with pytest.raises(CistError, match="of 3 classes, as before, but the model returned 2"):
            model(torch.zeros(5, 4))


# ---- labels and masks by keyword -------------------------------------------------------------------------------------


def test_labels_by_keyword():
    model, data = Returning(), batches(2)
    with record(model) as logits:
        for x, targets in data:
            model(x, labels=targets)
    np.testing.assert_array_equal(logits.logit_set().labels, torch.cat([targets for _, targets in data]))
    with record(model) as logits:  # of several labels a sample: no classes to choose from
        model(data[0][0], labels=torch.ones(6, 3))
    assert logits.logit_set().labels is None


def test_ignored_labels_leave_the_sample_out():
    model, (x, targets) = Returning(), batches(1)[0]
    targets[[1, 4]] = -100
    for by_keyword in (True, False):
        with record(model) as logits:
            if by_keyword:
                model(x, labels=targets)
            else:
                model(x)
                logits.labels(targets)
        recorded = logits.logit_set()
        assert_close(recorded.logits, expected(model, [(x, 0)])[[0, 2, 3, 5]])
        np.testing.assert_array_equal(recorded.labels, targets[[0, 2, 3, 5]])
        assert recorded.provenance["left out"].startswith("2 positions")


TOKENS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


def test_token_logits_are_flattened_with_the_mask():
    model = Returning()
    with record(model) as logits, torch.no_grad():
        every = model(TOKENS, attention_mask=MASK).numpy()
        logits.labels(torch.tensor([[0, 1, 2], [1, -1, -1]]))
    recorded = logits.logit_set()
    np.testing.assert_array_equal(recorded.logits, np.concatenate([every[0], every[1, :1]]))
    np.testing.assert_array_equal(recorded.labels, [0, 1, 2, 1])
    with record(model, mask=None) as logits:
        model(TOKENS, attention_mask=MASK)
    assert logits.num_samples == 6


def test_a_mask_under_another_keyword():
    model = Returning()
    with record(model, mask="keep") as logits:
        model(TOKENS, keep=MASK == 0)
    assert logits.num_samples == 2
    with (
        pytest.raises(CistError, match=r"without the keyword 'keep'.*given 'attention_mask'"),
        record(model, mask="keep"),
    ):
        model(TOKENS, attention_mask=MASK)
    with pytest.raises(CistError, match=r"shape \(2, 3\) of the token logits, but got \(2, 2\)"), record(model):
        model(TOKENS, attention_mask=MASK[:, :2])


def test_next_token_labels_are_moved_to_the_position_that_predicts_them():
    model, tokens = Returning(), torch.tensor([[2, 0, 1], [1, 2, 2]])
    labels = tokens.masked_fill(torch.tensor([[True, False, False], [False, False, True]]), -100)
    with record(model) as logits, torch.no_grad():
        every = model(TOKENS, input_ids=tokens, labels=labels).numpy()
    recorded = logits.logit_set()
    np.testing.assert_array_equal(recorded.logits, [every[0, 0], every[0, 1], every[1, 0]])
    np.testing.assert_array_equal(recorded.labels, [0, 1, 2])


def test_token_labels_that_are_not_the_next_token_stay_where_they_are():
    model, tokens = Returning(), torch.tensor([[2, 0, 1], [1, 2, 2]])
    labels = torch.tensor([[0, 1, -100], [2, 0, 1]])
    with record(model) as logits, torch.no_grad():
        every = model(TOKENS, input_ids=tokens, labels=labels).numpy()
    np.testing.assert_array_equal(logits.logit_set().logits, [*every[0, :2], *every[1]])
    np.testing.assert_array_equal(logits.logit_set().labels, [0, 1, 2, 0, 1])


def test_the_attention_mask_of_an_encoder_is_not_the_decoders():
    model = Returning()
    model.config = SimpleNamespace(is_encoder_decoder=True)
    with record(model) as logits:
        model(TOKENS, attention_mask=MASK, input_ids=MASK, labels=MASK)
    assert logits.num_samples == 6
    np.testing.assert_array_equal(logits.logit_set().labels, MASK.reshape(-1))


# ---- wrapped, compiled, copied ---------------------------------------------------------------------------------------


def test_a_data_parallel_model():
    model, data = Returning(), batches(2)
    wrapped = nn.DataParallel(model)
    for layer in (None, "fc"):
        with record(wrapped, layer=layer) as logits:
            for x, _ in data:
                wrapped(x)
        assert_close(logits.logit_set().logits, expected(model, data))
    model.train()  # the wrapper does not hear of it
    with record(wrapped) as logits:
        wrapped(data[0][0])
    with pytest.raises(CistError, match="training mode"):
        logits.logit_set()


def test_the_copies_that_data_parallel_makes_are_refused():
    model = Returning()
    with record(model):
        replica = copy.copy(model)  # as torch.nn.parallel.replicate does it: the hooks are shared
        replica._is_replica = True
        with pytest.raises(CistError, match="DataParallel"):
            replica(torch.zeros(6, 4))


def test_a_copy_of_the_model_is_not_recorded():
    model, data = Returning(), batches(1)
    with record(model) as logits:
        average = copy.deepcopy(model)
        average(data[0][0])
        model(data[0][0])
    assert logits.calls == 1


@pytest.mark.parametrize("layer", [None, "fc"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_that_has_run_before(layer, in_place):
    model, data = Returning(), batches(2)
    if in_place:
        called = model
        model.compile(backend="eager")
    else:
        called = torch.compile(model, backend="eager")
    with torch.no_grad():
        called(data[0][0])
        with record(called, layer=layer) as logits:
            for x, _ in data:
                called(x)
    assert_close(logits.logit_set().logits, expected(model, data))
    assert hooks(model) == 0


# ---- many logits -----------------------------------------------------------------------------------------------------


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(recording, "MEMORY_BYTES", 100)  # eight rows


def test_many_logits_go_to_a_file(little_memory, tmp_path):
    model, data = Returning(), batches(5)
    data[3][1][2] = -100
    with record(model) as logits:
        for x, targets in data:
            model(x)
            logits.labels(targets)
    keep = np.delete(np.arange(30), 20)
    recorded = logits.logit_set()
    assert isinstance(recorded.logits.base, np.memmap) or isinstance(recorded.logits, np.memmap)
    assert_close(recorded.logits, expected(model, data)[keep])
    logits.save(tmp_path / "teacher.safetensors")
    assert LogitSet.load(tmp_path / "teacher.safetensors").fingerprint == recorded.fingerprint


@pytest.mark.parametrize("limit", [100, 1 << 20])
def test_all_but_the_last_call_can_be_forgotten(monkeypatch, limit):
    monkeypatch.setattr(recording, "MEMORY_BYTES", limit)
    model, data = Returning(), batches(5)
    with record(model) as logits:
        logits.keep_only_last_call()
        for x, targets in data[:3]:
            model(x, labels=targets)
        logits.keep_only_last_call()
        for x, targets in data[3:]:
            model(x, labels=targets)
    assert_close(logits.logit_set().logits, expected(model, data[2:]))
    np.testing.assert_array_equal(logits.logit_set().labels, torch.cat([targets for _, targets in data[2:]]))
    assert logits.calls == 3


def test_a_full_disk_is_one_sentence(little_memory):
    model = Returning(classes=3000)
    refusal = pytest.raises(CistError, match=r"cannot be kept in .*TMPDIR")
    with record(model), file_size_limit(50_000), refusal:
        model(torch.zeros(60, 4))
    assert hooks(model) == 0


def test_the_file_has_the_right_ending(tmp_path):
    model = Returning()
    with record(model) as logits:
        model(torch.zeros(6, 4))
    with pytest.raises(CistError, match=r"end in \.safetensors, but got 'teacher\.npz'"):
        logits.save("teacher.npz")


def test_record_is_public():
    assert cist_core.record is recording.record
