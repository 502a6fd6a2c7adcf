"""Language models are opened from folders, and their logits come from hidden states."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")

from tiny_language_models import CLASSES, WORDS, save_tiny_model, tiny_network, tiny_tokenizer

from cist_core import CistError
from cist_core.language.batches import pad
from cist_core.language.head import check_head, final_hidden_states, head_of
from cist_core.language.inference import infer_tokens
from cist_core.language.models import open_language_model, stored_dtype
from cist_core.language.texts import example_of, tokenise

IDS = torch.arange(40).reshape(2, 20) * 2


@pytest.fixture
def folder(tmp_path):
    return save_tiny_model(tmp_path / "tiny")


def change(folder, file="config.json", **entries):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama", "qwen2", "gemma2", "cohere", "granite", "phi", "bloom"])
def test_logits_from_hidden_states_are_the_models_own(kind):
    network = tiny_network(kind, scale=12.0)
    head = head_of(network)
    with torch.inference_mode():
        expected = network(input_ids=IDS).logits
        found = head.logits(final_hidden_states(network, IDS))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    check_head(network, head)
    for half in (torch.bfloat16, torch.float16):
        check_head(network.to(half), head_of(network))


def test_a_model_is_printed_without_its_weights_and_tokens(folder):
    shown = repr(open_language_model(str(folder)))
    assert "weights_sha256=" in shown
    assert len(shown) < 1000


def test_softcap_scale_and_bias_are_applied():
    gemma, cohere, phi = (head_of(tiny_network(kind)) for kind in ("gemma2", "cohere", "phi"))
    assert (gemma.softcap, cohere.scale, phi.bias is not None) == (5.0, 0.25, True)
    hidden = torch.full((1, 32), 50.0)
    assert float(gemma.logits(hidden).detach().abs().max()) <= 5.0


@pytest.mark.parametrize(
    ("kind", "entry", "value"), [("gemma2", "final_logit_softcapping", None), ("cohere", "logit_scale", 1.0)]
)
def test_a_head_that_leaves_something_out_is_noticed_also_where_logits_are_small(kind, entry, value):
    network = tiny_network(kind, scale=1.0)
    known = getattr(network.config, entry)
    setattr(network.config, entry, value)
    head = head_of(network)
    setattr(network.config, entry, known)
    with pytest.raises(CistError, match="are not what its last layer makes of its hidden states"):
        check_head(network, head)


@pytest.mark.parametrize("kind", ["recurrent_gemma", "bert"])
def test_an_architecture_with_an_unknown_head_is_refused(kind):
    network = tiny_network(kind)
    with pytest.raises(CistError, match=f"The logits of {type(network).__name__} are not what its last layer makes"):
        check_head(network, head_of(network))


def test_a_network_that_looks_ahead_is_no_causal_one():
    network = tiny_network("llama")
    for layer in network.base_model.layers:
        layer.self_attn.is_causal = False
    network.config.is_causal = False
    with pytest.raises(CistError, match="looks at tokens that come later"):
        check_head(network, head_of(network))


def test_gradients_reach_the_head():
    network = tiny_network("gpt2")
    head_of(network).logits(final_hidden_states(network, IDS)).logsumexp(-1).sum().backward()
    assert float(network.transformer.wte.weight.grad.abs().sum()) > 0


def test_the_head_is_float32_under_autocast():
    head = head_of(tiny_network("gpt2"))
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = head.logits(hidden)
    torch.testing.assert_close(found, hidden @ head.weight.T, atol=1e-5, rtol=0)


def test_a_folder_opens(folder):
    model = open_language_model(str(folder))
    assert model.name == "tiny"
    assert (model.longest, model.head.num_classes, model.vocabulary.size) == (64, CLASSES, CLASSES)
    assert model.vocabulary.tokens[WORDS - 1 :] == ("w89", *[None] * (CLASSES - WORDS))
    assert model.precision == "weights in float32, states in float32, logits in float32"
    text = tokenise(example_of({"text": "w5 w6 w7"}, "x"), model.tokenizer, longest=model.longest)
    assert text.ids.tolist() == [5, 6, 7, 1]
    with torch.inference_mode():
        expected = model.network(input_ids=torch.tensor([[5, 6, 7, 1]])).logits
        found = model.head.logits(model.hidden_states(pad([text])))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_special_token_without_a_class_does_not_keep_a_model_from_opening(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny", words=CLASSES)
    tokenizer = tiny_tokenizer(CLASSES)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    model = open_language_model(str(folder))
    assert (model.vocabulary.size, model.vocabulary.beyond) == (CLASSES, {CLASSES: "<image>"})
    text = tokenise(example_of({"text": "w3 w4"}, "x"), model.tokenizer, longest=9)
    with pytest.raises(CistError, match=f"contains the token {CLASSES}, '<image>'"):
        infer_tokens(model, [text._replace(ids=np.array([3, CLASSES]))])


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(torch.float64, "float64"), (torch.float8_e4m3fn, "f8_e4m3"), (torch.bfloat16, "bfloat16")],
)
def test_the_stored_precision_is_that_of_the_largest_tensor_of_all_files(tmp_path, dtype, said):
    save_file({"small": torch.zeros(3)}, tmp_path / "one.safetensors")
    save_file({"large": torch.zeros(2, 3).to(dtype), "none": torch.zeros(0)}, tmp_path / "two.safetensors")
    assert stored_dtype([tmp_path / "one.safetensors", tmp_path / "two.safetensors"]) == said


def test_weights_in_double_precision_are_said(tmp_path):
    folder = save_tiny_model(tmp_path / "double")
    state = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert open_language_model(str(folder)).precision == "weights in float64, states in float32, logits in float32"


def test_weights_in_half_precision_are_said(tmp_path):
    folder = save_tiny_model(tmp_path / "half")
    state = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert open_language_model(str(folder)).precision == ("weights in bfloat16, states in float32, logits in float32")
    half = open_language_model(str(folder), dtype="bfloat16")
    assert (half.dtype, half.head.logits(torch.zeros(1, 32)).dtype) == ("bfloat16", torch.float32)


def test_digests_tell_weights_and_tokenizers_apart(tmp_path):
    first, second = (save_tiny_model(tmp_path / f"{seed}", seed=seed) for seed in (0, 1))
    models = [open_language_model(str(folder)) for folder in (first, second)]
    assert models[0].weights_sha256 != models[1].weights_sha256
    assert models[0].tokenizer_sha256 == models[1].tokenizer_sha256


def test_what_is_no_model_is_told_in_a_sentence(folder, tmp_path):
    with pytest.raises(
        CistError, match=r"There is no language model 'nowhere'; expected one of .*smollm2, a folder with config\.json"
    ):
        open_language_model("nowhere")
    with pytest.raises(
        CistError, match=r"Expected a repository of the Hugging Face hub, hf:OWNER/NAME, but got '\.\./x'"
    ):
        open_language_model("hf:../x")
    change(folder, auto_map={"AutoModelForCausalLM": "mine.Mine"})
    with pytest.raises(CistError, match=r"asks for code of its own \('auto_map' in config.json\)"):
        open_language_model(str(folder))
    other = save_tiny_model(tmp_path / "other")
    change(other, "tokenizer_config.json", auto_map={"AutoTokenizer": "mine.Mine"})
    with pytest.raises(CistError, match=r"asks for code of its own \('auto_map' in tokenizer_config.json\)"):
        open_language_model(str(other))


def test_a_pickle_is_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CistError, match=r"has no \.safetensors, the one format of weights that is read"):
        open_language_model(str(folder))


def test_another_kind_of_network_is_refused(folder):
    change(folder, architectures=["GPT2ForSequenceClassification"])
    with pytest.raises(CistError, match="holds a GPT2ForSequenceClassification, which is no causal language model"):
        open_language_model(str(folder))


def test_missing_weights_are_named(folder):
    state = load_file(folder / "model.safetensors")
    del state["transformer.h.1.ln_1.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CistError, match=r"1 missing or of other shape: transformer\.h\.1\.ln_1\.weight"):
        open_language_model(str(folder))


def test_a_tokenizer_is_needed_and_embeddings_are_never_resized(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["many"] = CLASSES
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CistError, match="The token 'many' is number 97 of the tokenizer, but the model has 97 classes"):
        open_language_model(str(folder))
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(CistError, match=r"There is no tokenizer in .*; save the one that the model was trained with"):
        open_language_model(str(folder))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(CistError, match=r"The tokenizer in .* cannot be opened"):
        open_language_model(str(folder))


def test_a_repository_that_is_not_here_is_not_fetched_unasked(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CistError, match="The weights of no-one/nothing are not on this machine; fetch them"):
        open_language_model("hf:no-one/nothing")
