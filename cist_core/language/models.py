"""Language models: open any causal one of transformers, and read its final hidden states."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cist_core.errors import CistError, first_line
from cist_core.inference.run import choose_device
from cist_core.language.batches import Batch, Predictions, pack, pad
from cist_core.language.gguf import ORIGIN, converted
from cist_core.language.head import Head, check_head, final_hidden_states, head_of
from cist_core.language.known import find_language_model, language_model_names
from cist_core.language.texts import FastTokenizer, Tokens
from cist_core.language.vocabulary import Vocabulary
from cist_core.plain_text import all_written_out
from cist_core.zoo.foreign.hub import fetch_folder
from cist_core.zoo.foreign.transformers_folder import (
    check_shards,
    check_size,
    licence_of,
    load_network,
    quiet,
    read_json,
    refuse_foreign_code,
)
from cist_core.zoo.foreign.wrapping import digest_of_files, only_text, require

HUB = "hf:"
_AUTO, _KIND = "AutoModelForCausalLM", "causal language model"
_WEIGHTS = ["*.safetensors", "model.safetensors.index.json"]
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER = [
    "tokenizer.json",
    _TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
]
_TOKENS = ("tokenizer.json", "vocab.json", "tokenizer.model")
_NO_LIMIT = 1 << 20
_SAME = 1e-4
_PROBE_LENGTHS = (5, 7)


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model in evaluation mode, and what is needed to feed and cite it.

    Attributes:
        name: for people.
        network: of transformers.
        tokenizer: a fast one.
        vocabulary: which token each class is.
        head: from final hidden states to logits; float32.
        longest: how many tokens the model reads at most.
        stored: the precision of the weights in their file, such as ``"bfloat16"``, or ``"Q4_1"`` in GGUF.
        weights_sha256: of the weights and their configuration.
        tokenizer_sha256: of the files of the tokenizer.
        facts: what people should know of it, by headings such as ``licence`` and ``origin``; plain text.
    """

    name: str
    network: Any = field(repr=False)
    tokenizer: FastTokenizer = field(repr=False)
    vocabulary: Vocabulary = field(repr=False)
    head: Head = field(repr=False)
    longest: int
    stored: str
    weights_sha256: str
    tokenizer_sha256: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """The precision in which the hidden states are computed, such as ``"float32"``; logits are float32 always."""
        return str(self.head.weight.dtype).removeprefix("torch.")

    @property
    def precision(self) -> str:
        """For people, beside every entropy.

        Raw bfloat16 logits are off by up to a tenth of a nat; float32 logits of bfloat16 states by less.
        """
        return f"weights in {self.stored}, states in {self.dtype}, logits in float32"

    @property
    def parameters(self) -> int:
        """How many, tied ones once."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def hidden_states(self, batch: Batch) -> Tensor:
        """The final hidden states, of which `head` makes logits.

        The state at a token predicts the one after it; `Batch.predictions` says which count.

        Args:
            batch: padded at the left or right, or packed, on any device.

        Returns:
            ``(B, L, D)`` in the network's precision, on its device; at padding they mean nothing.

        Raises:
            CistError: if rows are longer than the model reads, or packed for a network that does not keep the texts of
                a row apart.
        """
        if batch.ids.shape[1] > self.longest:
            raise CistError(
                f"The rows have {batch.ids.shape[1]:,} tokens, and {self.name} reads {self.longest:,} at most; use "
                "shorter ones."
            )
        if batch.packed and not self.isolates_texts:
            raise CistError(
                f"{self.name} ({type(self.network).__name__}) does not keep the texts of a packed row apart; use "
                "padded rows."
            )
        return self._states(batch)

    @torch.no_grad()
    def counted_states(self, batch: Batch) -> tuple[Predictions, Tensor]:
        """The counted tokens of a batch, n of them, and the states that predict them, ``(n, D)``.

        Raises:
            CistError: as `hidden_states`.
        """
        found = batch.predictions()
        return found, self.hidden_states(batch).flatten(0, 1)[found.places.to(self.device)]

    def read(self, texts: Sequence[Tokens], batch_size: int) -> Iterator[tuple[Predictions, Tensor]]:
        """As `counted_states`, of padded batches of texts one after the other; texts are numbered by their place in the
        whole list."""
        for start in range(0, len(texts), batch_size):
            found, states = self.counted_states(pad(texts[start : start + batch_size]))
            yield found._replace(texts=found.texts + start), states

    def _states(self, batch: Batch) -> Tensor:
        return states_of(self.network, batch.to(self.device))

    @cached_property
    def isolates_texts(self) -> bool:
        """Whether the texts of a packed row do not see each other: tried on two, packed and apart."""
        texts = [_probe(length, self.head.num_classes, seed) for seed, length in enumerate(_PROBE_LENGTHS)]
        training = self.network.training
        try:
            with torch.inference_mode():
                self.network.eval()
                packed = self._states(pack(texts, length=sum(_PROBE_LENGTHS) + 1))[0, : sum(_PROBE_LENGTHS)]
                apart = torch.cat([self._states(pad([text]))[0] for text in texts])
        finally:
            self.network.train(training)
        tolerance = _SAME if apart.dtype == torch.float32 else 2**-5
        return bool((packed - apart).abs().max() <= tolerance * max(1.0, float(apart.abs().max())))


def states_of(network: Any, batch: Batch) -> Tensor:
    """The final hidden states of a network of transformers, ``(B, L, D)``, without the checks of `LanguageModel`."""
    inputs = {"attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
    read = inspect.signature(network.base_model.forward).parameters
    return final_hidden_states(network, batch.ids, **{name: value for name, value in inputs.items() if name in read})


def _probe(length: int, classes: int, seed: int) -> Tokens:
    ids = np.random.default_rng(seed).integers(0, classes, length)
    return Tokens("a probe", ids, np.full(length, "text"), np.ones(length, np.bool_), np.zeros(length, np.int64), 0, 0)


def open_language_model(
    reference: str,
    *,
    device: str | None = None,
    download: bool = False,
    dtype: str | None = None,
) -> LanguageModel:
    """Open a causal language model of transformers: GPT-2, OPT, Llama-, Qwen-, Gemma-like and others.

    Weights are read from safetensors and no code of a repository runs. The model is refused unless the logits that
    `Head` makes of its hidden states are its own (`cist_core.language.head.check_head`). Embeddings are never resized.

    Args:
        reference: a name of `cist_core.language.known.known_language_models`, a folder with ``config.json``, a
            ``.gguf`` file, or ``hf:OWNER/NAME`` of the Hugging Face hub.
        device: ``"auto"`` is CUDA where there is a GPU, then Apple's MPS, then the CPU; by default the CPU.
        download: whether what is not in the hub's cache may be fetched.
        dtype: of weights and hidden states; by default on a GPU as they are stored in float16, bfloat16 or float32, and
            float32 otherwise and on the CPU, where half the precision is several times slower.

    Raises:
        CistError: without transformers, or if there is no such model, it is damaged, asks for code, or is no causal
            language model whose head is known.
    """
    if reference.startswith(HUB):
        repository = reference.removeprefix(HUB)
        wanted = ["config.json", "README.md", *_WEIGHTS, *_TOKENIZER]
        return _open_folder(fetch_folder(repository, wanted, download=download), reference, device, dtype)
    known = find_language_model(reference)
    if known is not None and known.path is None:
        raise CistError(f"'{reference}' ({known.title}) is not on this machine; run: {known.missing}")
    path = Path(reference).expanduser() if known is None or known.path is None else known.path
    name = path.resolve().name if known is None else known.name
    if path.suffix.lower() == ".gguf":
        path = converted(path)
    if not (path / "config.json").is_file():
        names = ", ".join(language_model_names())
        raise CistError(
            f"There is no language model '{reference}'; expected one of {names}, a folder with config.json, a .gguf "
            f"file, or {HUB}OWNER/NAME of the Hugging Face hub."
        )
    return _open_folder(path, name, device, dtype, None if known is None else known.licence)


def _open_folder(
    root: Path, name: str, device: str | None, dtype: str | None, licence: str | None = None
) -> LanguageModel:
    config = read_json(root / "config.json")
    refuse_foreign_code(config, root, remedy="use a model that transformers knows, in safetensors")
    if (root / _TOKENIZER_CONFIG).is_file():
        refuse_foreign_code(
            read_json(root / _TOKENIZER_CONFIG), root, remedy="use a tokenizer.json", file=_TOKENIZER_CONFIG
        )
    named = config.get("architectures")
    if named and not str(named[0]).endswith(("ForCausalLM", "LMHeadModel")):
        raise CistError(f"{root} holds a {named[0]}, which is no {_KIND}; use one whose name ends in ForCausalLM.")
    check_shards(root)
    files = sorted(path for path in root.iterdir() if path.suffix == ".safetensors" and path.is_file())
    if not files:
        raise CistError(
            f"{root} has no .safetensors, the one format of weights that is read; write it with "
            "model.save_pretrained(FOLDER) of transformers."
        )
    origin = read_json(root / ORIGIN) if (root / ORIGIN).is_file() else {}
    target = choose_device(device or "cpu")
    stored = stored_dtype(files)
    loaded = stored if target.type == "cuda" and stored in _COMPUTED else "float32"
    transformers, *_ = require("language", "transformers", purpose=f"The language model {name}")
    with quiet(transformers):
        check_size(transformers, root, sum(path.stat().st_size for path in files), _AUTO, kind=_KIND)
        network = load_network(transformers, root, _AUTO, dtype=dtype or loaded)
        tokenizer = _open_tokenizer(transformers, root)
    network = network.eval().to(target)
    head = head_of(network)
    check_head(network, head)
    return LanguageModel(
        name=str(all_written_out(name)),
        network=network,
        tokenizer=tokenizer,
        vocabulary=Vocabulary.of(
            tokenizer.get_vocab(), head.num_classes, _special_tokens(tokenizer), _added_padding(tokenizer)
        ),
        head=head,
        longest=_longest(network.config, tokenizer),
        stored=str(origin.get("precision", stored)),
        weights_sha256=digest_of_files([root / "config.json", *files]),
        tokenizer_sha256=digest_of_files(path for path in (root / file for file in _TOKENIZER) if path.is_file()),
        facts=only_text(
            {
                "architecture": f"transformers {type(network).__name__}",
                "origin": f"https://huggingface.co/{name.removeprefix(HUB)}"
                if name.startswith(HUB)
                else origin.get("file") or str(root),
                "licence": licence or licence_of(root) or "not said in the folder",
            }
        ),
    )


def _open_tokenizer(transformers: Any, root: Path) -> Any:
    if not any((root / file).is_file() for file in _TOKENS):  # the library would make an empty one
        raise CistError(f"There is no tokenizer in {root}; save the one that the model was trained with beside it.")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(root, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # its files can be wrong in any way
        raise CistError(
            f"The tokenizer in {root} cannot be opened ({first_line(error)}); save the one that the model was trained "
            "with beside it."
        ) from error
    if not tokenizer.is_fast:
        raise CistError(
            f"The tokenizer in {root} does not say where its tokens begin; save a fast one beside the model "
            "(tokenizer.json)."
        )
    return tokenizer


def _special_tokens(tokenizer: Any) -> set[str]:
    return {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}


def _added_padding(tokenizer: Any) -> str | None:
    """A pad token that stands after all others of the tokenizer and is nothing else, as one that is added later.

    Models that pad with an end of text, or were trained with a pad token of their own among others, have none such.
    """
    padding, ids = tokenizer.pad_token, tokenizer.get_vocab()
    others = [getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "unk", "sep", "cls", "mask")]
    of_its_own = padding in ids and padding not in others and padding in _special_tokens(tokenizer)
    base = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return padding if of_its_own and padding not in base and ids[padding] == max(ids.values()) else None


def stored_dtype(files: Sequence[Path]) -> str:
    """The precision of the largest tensor of some safetensors files, such as ``"bfloat16"`` or ``"f8_e4m3"``.

    Raises:
        CistError: if one cannot be read, or they hold no tensor.
    """
    from safetensors import SafetensorError, safe_open

    found: list[tuple[int, str]] = []
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                slices = [file.get_slice(key) for key in file.keys()]  # noqa: SIM118 - no mapping
                found += [(int(np.prod(part.get_shape())), part.get_dtype()) for part in slices]
        except (SafetensorError, OSError, ValueError) as error:
            raise CistError(
                f"{path} is not a readable safetensors file ({first_line(error)}); write it again."
            ) from error
    if not found:
        raise CistError(f"{files[0]} holds no weights; write it again.")
    _, dtype = max(found, key=lambda each: each[0])
    return _DTYPES.get(dtype, dtype.lower())


_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_COMPUTED = ("float16", "bfloat16", "float32")
"""Stored precisions in which hidden states are computed on a GPU; what is stored otherwise is computed in float32."""


def _longest(config: Any, tokenizer: Any) -> int:
    """What the network has positions for, or its tokenizer says; some networks have no such limit."""
    said = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "max_seq_len")]
    limits = [int(value) for value in (*said, tokenizer.model_max_length) if value and 0 < value < _NO_LIMIT]
    return min(limits, default=_NO_LIMIT)
