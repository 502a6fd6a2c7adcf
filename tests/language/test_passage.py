"""A text as people read it, and what can be read of its tokens without the model."""

import base64

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from scipy.stats import entropy

pytest.importorskip("transformers")

from tiny_language_models import WORDS, save_tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cist_core import CistError, kernels
from cist_core.language import reading
from cist_core.language.inference import infer_pair, infer_tokens
from cist_core.language.models import open_language_model
from cist_core.language.passage import describe, stretches, token_name, token_texts
from cist_core.language.reading import FAULT, INDEX, main
from cist_core.language.texts import example_of, tokenise, tokenise_all


def by_bytes() -> PreTrainedTokenizerFast:
    """A token for every byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("text", ["plain words", "naïve café", "漢字 and 🙂🙂", "\n\ttabs\n", "é"])
def test_joined_the_texts_of_the_tokens_are_the_whole_also_where_characters_are_split(text):
    tokenizer = by_bytes()
    ids = tokenizer(text)["input_ids"]
    found = token_texts(ids, tokenizer)
    assert len(found) == len(ids) == len(text.encode())
    assert "".join(found) == text
    assert "\ufffd" not in "".join(found)


def test_half_a_character_at_the_end_is_shown_as_such():
    tokenizer = by_bytes()
    ids = tokenizer("aé")["input_ids"][:-1]
    assert token_texts(ids, tokenizer) == ["a", "\ufffd"]


def test_what_is_no_whole_character_is_named_by_its_bytes(tmp_path):
    model = open_language_model(str(save_tiny_model(tmp_path / "model")))
    tokenizer = by_bytes()
    ids = tokenizer("aé \u200b")["input_ids"]
    assert [token_name(token, ids[0], tokenizer) for token in ids] == [
        "a",
        "byte C3",
        "byte A9",
        " ",
        "byte E2",
        "byte 80",
        "byte 8B",
    ]
    assert token_name(model.tokenizer("w21")["input_ids"][0], 3, model.tokenizer).strip() == "w21"


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def teacher(tmp_path):
    return open_language_model(str(save_tiny_model(tmp_path / "teacher", scale=6.0)))


@pytest.fixture
def student(tmp_path):
    return open_language_model(str(save_tiny_model(tmp_path / "student", seed=1, scale=4.0)))


@pytest.fixture
def texts(teacher):
    words = [
        " ".join(f"w{(7 * number + shift) % 90}" for number in range(length)) for shift, length in enumerate((9, 30, 4))
    ]
    return tokenise_all([example_of({"text": each}, each[:5]) for each in words], teacher.tokenizer, longest=64)


def test_padded_side_by_side_texts_are_read_as_alone(teacher, texts):
    found = infer_tokens(teacher, texts)
    assert found.num_tokens == sum(len(text.ids) - 1 for text in texts)
    for number, text in enumerate(texts):
        rows = found.facts.sequences == number
        exact = log_softmax(own_logits(teacher, text).astype(np.float64), axis=1)
        np.testing.assert_array_equal(found.facts.ids[rows], text.ids[1:])
        np.testing.assert_array_equal(found.facts.positions[rows], np.arange(1, len(text.ids)))
        np.testing.assert_allclose(found.nll[rows], -exact[np.arange(len(text.ids) - 1), text.ids[1:]], atol=1e-4)
        np.testing.assert_allclose(found.entropy[rows], entropy(np.exp(exact), axis=1), atol=1e-4)


def test_what_the_browser_is_given_has_the_soft_labels_of_both_models_and_their_divergence(teacher, student, texts):
    pair = infer_pair(teacher, student, texts)
    shown = describe(pair, texts[1], teacher.tokenizer, sequence=1)
    assert shown["teacher"]["tokens"][0] is None
    assert [token["id"] for token in shown["tokens"]] == texts[1].ids.tolist()
    count, nodes = len(texts[1].ids) - 1, len(shown["nodes"])
    exact = {
        name: own_logits(model, texts[1]).astype(np.float64)
        for name, model in (("teacher", teacher), ("student", student))
    }
    curves = {name: unpacked(shown[name]["curves"], count, nodes, 3) for name in exact}
    cross, reverse = (unpacked(shown["student"][name], count, nodes, 2) for name in ("cross", "reverse"))
    for k in (40, 90):  # at a node nothing is interpolated
        ratio = shown["nodes"][k]
        temperatures = {
            name: np.array([each["maximum"] / ratio for each in shown[name]["tokens"][1:]]) for name in exact
        }
        log_p, log_q = (log_softmax(exact[name] / temperatures[name][:, None], axis=1) for name in exact)
        p, q = np.exp(log_p), np.exp(log_q)
        np.testing.assert_allclose(curves["teacher"][:, k, 0], entropy(p, axis=1), atol=1e-4)
        divergence = cross[:, k, 0] / temperatures["student"] + curves["student"][:, k, 2] - curves["teacher"][:, k, 0]
        np.testing.assert_allclose(divergence, rel_entr(p, q).sum(axis=1), atol=1e-3)
        back = reverse[:, k, 0] / temperatures["teacher"] + curves["teacher"][:, k, 2] - curves["student"][:, k, 0]
        np.testing.assert_allclose(back, rel_entr(q, p).sum(axis=1), atol=1e-3)
        for name, shares in (("teacher", p), ("student", q)):
            for row, token in enumerate(shown[name]["tokens"][1:]):
                ids, shifted = zip(*token["top"], strict=True)
                logs = np.array(shifted) / temperatures[name][row] - curves[name][row, k, 2]
                np.testing.assert_allclose(np.exp(logs), shares[row, list(ids)], atol=1e-3)


def test_the_other_classes_are_padding_in_both(teacher, student, texts):
    assert describe(infer_pair(teacher, student, texts), texts[0], teacher.tokenizer)["classes"] == WORDS


def test_only_the_asked_stretch_is_described(teacher, texts):
    shown = describe(infer_tokens(teacher, texts), texts[1], teacher.tokenizer, sequence=1, start=10, length=5)
    assert [token["position"] for token in shown["tokens"]] == [10, 11, 12, 13, 14]
    assert all(shown["teacher"]["tokens"])
    assert unpacked(shown["teacher"]["curves"], 5, len(kernels.ratio_grid()), 3).shape == (
        5,
        len(kernels.ratio_grid()),
        3,
    )
    assert shown["student"] is shown["before"] is None


def test_a_prompt_is_read_and_does_not_count(teacher):
    text = tokenise(example_of({"prompt": "w3 w4 w5", "response": " w6 w7"}, "x"), teacher.tokenizer, longest=64)
    found = infer_tokens(teacher, [text])
    assert found.facts.counted.tolist() == [False, False, True, True, True]
    assert describe(found, text, teacher.tokenizer)["prompts"] == ["prompt"]


def test_the_most_unusual_stretch_is_found():
    values, positions = np.array([0.0, 0.0, 9.0, 5.0, 5.0, 5.0]), np.array([1, 2, 3, 4, 5, 6])
    found = stretches(values, positions, length=4)
    assert max(found, key=lambda each: each.mean).start == 4
    assert max(found, key=lambda each: each.largest).start == 0


@pytest.fixture
def unlimited(monkeypatch):
    """`main` works here in place of its own process, which its limits are meant for."""
    monkeypatch.setattr(reading, "limit_memory", lambda at_once: None)
    monkeypatch.setattr(reading, "limit_time", lambda seconds, sentence: None)


@pytest.mark.usefixtures("unlimited")
def test_a_reading_is_a_folder_with_all_that_the_page_needs(tmp_path, teacher, monkeypatch):
    folder = tmp_path / "reading"
    folder.mkdir()
    (tmp_path / "text.txt").write_text(" ".join(f"w{number % 90}" for number in range(150)))
    argv = ["reading", str(tmp_path / "text.txt"), str(folder), str(tmp_path / "teacher")]
    monkeypatch.setattr("sys.argv", argv)
    main()
    index = (folder / INDEX).read_text()
    assert index.count("passage-") == 3  # the model reads 64 tokens
    assert "passage-2.json" in {file.name for file in folder.iterdir()}


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize(("text", "model", "said"), [("", "teacher", "no text"), ("w3 w4", "gone", "gone")])
def test_what_cannot_be_read_says_why(tmp_path, teacher, monkeypatch, text, model, said):
    (tmp_path / "text.txt").write_text(text)
    monkeypatch.setattr("sys.argv", ["reading", str(tmp_path / "text.txt"), str(tmp_path), str(tmp_path / model)])
    main()
    assert said in (tmp_path / FAULT).read_text()
    assert not (tmp_path / INDEX).exists()


def test_models_of_other_vocabularies_are_refused(teacher, student, texts):
    other = student.vocabulary.__class__((*student.vocabulary.tokens[:5], "another", *student.vocabulary.tokens[6:]))
    object.__setattr__(student, "vocabulary", other)
    with pytest.raises(CistError, match="are not one"):
        infer_pair(teacher, student, texts)


def own_logits(model, text):
    """As the network itself gives them, one text alone."""
    with torch.inference_mode():
        return model.network(torch.from_numpy(text.ids)[None]).logits[0, :-1, :WORDS].float().numpy()


def unpacked(text: str, count: int, nodes: int, columns: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(count, nodes, columns)
