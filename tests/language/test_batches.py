"""Rows of texts: padding changes nothing, packed texts do not see each other, and every state predicts its token."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers")

from tiny_language_models import CLASSES, save_tiny_model

from cist_core import CistError
from cist_core.language.batches import PADDING, pack, pad
from cist_core.language.models import open_language_model
from cist_core.language.texts import Tokens


def text(number, length, *, prompt=0, last=None):
    ids = np.random.default_rng(number).integers(2, CLASSES, length)
    if last is not None:
        ids[-1] = last
    counted = np.arange(length) >= prompt
    return Tokens(f"text {number}", ids, np.where(counted, "response", "prompt"), counted, np.ones_like(ids), 0, 0)


TEXTS = [text(0, 5), text(1, 12, prompt=4), text(2, 8, prompt=2, last=1), text(3, 1)]


@pytest.fixture(scope="module", params=["gpt2", "opt", "llama", "gemma2", "bloom"])
def model(request, tmp_path_factory):
    return open_language_model(str(save_tiny_model(tmp_path_factory.mktemp("models") / request.param, request.param)))


def token_nlls(model, batch):
    """``{(text, position): nll}`` of the counted tokens."""
    found = batch.predictions()
    with torch.inference_mode():
        logits = model.head.logits(model.hidden_states(batch).flatten(0, 1)[found.places])
    nlls = F.cross_entropy(logits.double(), found.ids, reduction="none")
    places = zip(found.texts.tolist(), found.positions.tolist(), strict=True)
    return dict(zip(places, nlls.tolist(), strict=True))


@pytest.fixture(scope="module")
def alone(model):
    """From each text by itself through the network's own logits, shifted by hand."""
    expected = {}
    for number, one in enumerate(TEXTS):
        with torch.inference_mode():
            logits = model.network(input_ids=torch.from_numpy(one.ids)[None]).logits[0].double()
        for position in range(1, len(one.ids)):
            if one.counted[position]:
                expected[number, position] = float(-logits[position - 1].log_softmax(-1)[one.ids[position]])
    return expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model, alone, side):
    found = token_nlls(model, pad(TEXTS, side=side, length=20))
    assert found.keys() == alone.keys()
    for place, nll in alone.items():
        assert found[place] == pytest.approx(nll, abs=5e-6)
    assert sum(found.values()) / len(found) == pytest.approx(sum(alone.values()) / len(alone), abs=1e-6)


def test_packed_texts_do_not_see_each_other_or_are_refused(model, alone):
    packed = pack(TEXTS, length=20)
    assert packed.ids.shape[0] == 2
    if not model.isolates_texts:
        assert model.network.config.model_type in ("opt", "bloom")
        with pytest.raises(CistError, match="does not keep the texts of a packed row apart; use padded rows"):
            model.hidden_states(packed)
        return
    found = token_nlls(model, packed)
    assert found.keys() == alone.keys()
    for place, nll in alone.items():
        assert found[place] == pytest.approx(nll, abs=1e-4)


def test_other_prompts_of_the_same_length_are_other_contexts_but_their_own_tokens_never_count(model):
    one = text(1, 12, prompt=4)
    ids = one.ids.copy()
    ids[0] = ids[0] % (CLASSES - 2) + 2
    batch, other = pad([one]), pad([one._replace(ids=ids)])
    assert batch.predictions().ids.tolist() == other.predictions().ids.tolist() == one.ids[4:].tolist()
    assert token_nlls(model, batch) != token_nlls(model, other)


def test_rows_longer_than_the_model_reads_are_refused(model):
    if model.longest > 1000:
        pytest.skip("reads texts of any length")
    with pytest.raises(CistError, match=r"The rows have 65 tokens, and .* reads 64 at most"):
        model.hidden_states(pad([text(0, 65)]))


def test_an_end_counts_where_padding_has_its_id():
    batch = pad([TEXTS[0], text(2, 3, last=0)])
    assert batch.ids[1].tolist()[2:] == [0, 0, 0]
    assert batch.counted[1].tolist() == [False, True, True, False, False]
    assert batch.texts[1].tolist() == [1, 1, 1, PADDING, PADDING]


def test_positions_begin_at_the_first_token():
    left = pad(TEXTS[:2], side="left")
    assert left.position_ids[0].tolist() == [0] * 7 + [0, 1, 2, 3, 4]
    assert left.attention_mask[0].tolist() == [0] * 7 + [1] * 5
    packed = pack(TEXTS[:3], length=20)
    assert packed.position_ids[0].tolist() == [*range(5), *range(12), 0, 0, 0]
    assert packed.texts[1].tolist() == [2] * 8 + [PADDING] * 12


def test_the_first_token_of_a_text_is_predicted_by_nothing():
    found = pack([text(0, 3), text(1, 2)], length=6).predictions()
    assert found.places.tolist() == [0, 1, 3]
    assert found.positions.tolist() == [1, 2, 1]
    assert found.texts.tolist() == [0, 0, 1]


def test_tokens_that_do_not_count_are_predicted_too_where_that_is_asked_for():
    found = pad([text(1, 5, prompt=3), text(0, 2)], side="left").predictions(counted_only=False)
    assert found.texts.tolist() == [0, 0, 0, 0, 1]
    assert found.positions.tolist() == [1, 2, 3, 4, 1]
    assert found.places.tolist() == [0, 1, 2, 3, 8]


def test_what_cannot_be_a_batch():
    with pytest.raises(CistError, match="at least one text for a batch"):
        pad([])
    with pytest.raises(CistError, match=r"text 0 has 12 tokens, and a row only 8"):
        pack([text(0, 12)], length=8)
    with pytest.raises(CistError, match="text 0 has no tokens; leave it out"):
        pad([text(0, 0)])
