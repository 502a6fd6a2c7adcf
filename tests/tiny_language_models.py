"""Language models with random weights, two layers deep, and a tokenizer of words for them."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.utils import logging

CLASSES = 97
WORDS = 90
"""The tokenizer has fewer tokens than the models have classes; the others are padding."""
END = "<end>"
_SIZE = {
    "vocab_size": CLASSES,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
_GPT = {"vocab_size": CLASSES, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 1}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(**_GPT, n_positions=64),
    "opt": lambda: transformers.OPTConfig(
        **{key: value for key, value in _SIZE.items() if key != "intermediate_size"}, ffn_dim=48, word_embed_proj_dim=16
    ),
    "llama": lambda: transformers.LlamaConfig(**_SIZE, num_key_value_heads=2),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZE, num_key_value_heads=2),
    "gemma2": lambda: transformers.Gemma2Config(
        **_SIZE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0
    ),
    "cohere": lambda: transformers.CohereConfig(**_SIZE, num_key_value_heads=2, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(**_SIZE, num_key_value_heads=2, logits_scaling=8.0),
    "phi": lambda: transformers.PhiConfig(**_SIZE),
    "bloom": lambda: transformers.BloomConfig(**_GPT | {"hidden_size": 32}),
    "bert": lambda: transformers.BertConfig(**_SIZE),
    "recurrent_gemma": lambda: transformers.RecurrentGemmaConfig(
        **_SIZE | {"num_hidden_layers": 3}, lru_width=32, logits_soft_cap=5.0
    ),
}


def tiny_network(kind: str, *, seed: int = 0, scale: float = 3.0) -> transformers.PreTrainedModel:
    """One of `CONFIGS`, its weights ``scale`` times as large as fresh ones, so that its logits are far from equal."""
    torch.manual_seed(seed)
    logging.set_verbosity_error()
    network = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]()).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
            elif "lm_head" in name:
                parameter.normal_()
    return network


def tiny_tokenizer(words: int = WORDS) -> transformers.PreTrainedTokenizerFast:
    """Words ``w0``, ``w2``, ``w3``, ...; number 1 is the end of a text, and padding as well."""
    vocabulary = {END if number == 1 else f"w{number}": number for number in range(words)}
    known = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=known, eos_token=END, pad_token=END)


def save_tiny_model(folder: Path, kind: str = "gpt2", *, words: int = WORDS, **options: float) -> Path:
    """Write a network and the tokenizer into a folder, as `open_language_model` takes it."""
    logging.disable_progress_bar()
    tiny_network(kind, **options).save_pretrained(folder)
    tiny_tokenizer(words).save_pretrained(folder)
    return folder
