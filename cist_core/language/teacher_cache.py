"""What a teacher says of texts, kept on the disk: its final hidden states in float16, of which its head makes logits.

At a width of 576 a token takes 1,152 bytes, its logits over 49,152 classes 98,304 in float16. The rounding moved
the entropies of SmolLM2-135M at temperature 1 by 0.0008 nats in the mean and 0.0064 at most (1,356 tokens).

A folder belongs to one teacher, one precision in which it computes, one tokenizer and one list of token ids (the
teacher's weights, the tokenizer and the ids by their SHA-256); for others it is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cist_core.documents import parse_json, read_document
from cist_core.errors import CistError
from cist_core.files import make_folder, write_whole
from cist_core.language.head import Head
from cist_core.language.models import LanguageModel
from cist_core.language.texts import Tokens
from cist_core.zoo.checkpoints import read_raw, save_weights

_STATES, _HEAD, _CARD = "states.npy", "head.safetensors", "cache.json"
_SAID = {
    "weights": "the weights of the teacher",
    "precision": "the precision of its states",
    "tokenizer": "its tokenizer",
    "texts": "the texts",
}
_LARGEST = float(np.finfo(np.float16).max)


class TeacherCache:
    """The final hidden states of a teacher at the counted tokens of texts.

    Attributes:
        states: ``(T, D)`` float16, mapped from the disk; those that predict the counted tokens, text by text.
        starts: ``(texts + 1,)``, where each text's states begin.
        head: of the teacher, which makes logits of them.
    """

    def __init__(self, states: NDArray[np.float16], starts: NDArray[np.int64], head: Head) -> None:
        self.states, self.starts, self.head = states, starts, head

    def of_texts(self, numbers: Sequence[int]) -> Tensor:
        """The states of some texts, in that order, ``(n, D)`` float32."""
        parts = [self.states[self.starts[number] : self.starts[number + 1]] for number in numbers]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def open_teacher_cache(
    folder: Path,
    teacher: LanguageModel,
    texts: Sequence[Tokens],
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TeacherCache:
    """The cache in a folder; made there first, if it is empty or new.

    Args:
        folder: of this teacher on these texts, and of nothing else.
        teacher: runs only where the cache is made.
        texts: tokenised by its tokenizer.
        batch_size: texts at a time.
        progress: called with the texts done and their number.

    Raises:
        CistError: if the folder belongs to other weights, another precision of the states, another tokenizer or other
            texts, holds something else, or cannot be written; if a state is too large for float16.
    """
    expected = {
        "weights": teacher.weights_sha256,
        "precision": teacher.dtype,
        "tokenizer": teacher.tokenizer_sha256,
        "texts": digest(texts),
    }
    if (folder / _CARD).is_file():
        _check_card(folder, expected)
    else:
        make_folder(folder)
        if foreign := sorted(path.name for path in folder.iterdir() if path.name not in (_STATES, _HEAD)):
            raise CistError(
                f"Expected {folder} to be a cache of a teacher, or an empty folder, but it holds {foreign[0]}; choose "
                "another teacher.cache."
            )
        _make(folder, teacher, texts, expected, batch_size, progress)
    return _opened(folder, teacher, texts)


def random_teacher_cache(teacher: LanguageModel, texts: Sequence[Tokens]) -> TeacherCache:
    """In the place of a cache, to time steps: one random state for all tokens, which takes no memory."""
    state = np.random.default_rng(0).standard_normal((1, teacher.head.weight.shape[1])).astype(np.float16)
    starts = _starts(texts)
    return TeacherCache(np.broadcast_to(state, (int(starts[-1]), state.shape[1])), starts, teacher.head)


def digest(texts: Sequence[Tokens]) -> str:
    """SHA-256 of their token ids, and of which tokens count."""
    found = hashlib.sha256()
    for text in texts:
        found.update(len(text.ids).to_bytes(8, "little"))
        found.update(text.ids.astype("<i8").tobytes())
        found.update(text.counted.tobytes())
    return found.hexdigest()


def _check_card(folder: Path, expected: dict[str, str]) -> None:
    try:
        card: Any = parse_json(read_document(folder / _CARD))
        stored = {name: str(card[name]) for name in expected}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CistError(f"{folder / _CARD} cannot be read ({error}); remove {folder}, and it is made anew.") from error
    if other := [said for name, said in _SAID.items() if stored[name] != expected[name]]:
        raise CistError(
            f"The cache in {folder} was made with others: {', '.join(other)} changed since. Choose another "
            "teacher.cache, or remove the folder, and it is made anew."
        )


def _make(
    folder: Path,
    teacher: LanguageModel,
    texts: Sequence[Tokens],
    expected: dict[str, str],
    batch_size: int,
    progress: Callable[[int, int], None],
) -> None:
    shape = (int(_starts(texts)[-1]), int(teacher.head.weight.shape[1]))

    def write(path: Path) -> None:
        kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        written = 0
        for number, (_, found) in enumerate(teacher.read(texts, batch_size), start=1):
            states = found.float().cpu()
            if len(states) and float(states.abs().max()) > _LARGEST:
                raise CistError(
                    f"The hidden states of {teacher.name} reach {float(states.abs().max()):.3g}, too large for "
                    "float16; leave teacher.cache out, and the teacher runs in every step."
                )
            kept[written : written + len(states)] = states.half().numpy()
            written += len(states)
            progress(min(number * batch_size, len(texts)), len(texts))
        kept.flush()

    write_whole(folder / _STATES, write, what="The teacher's states")
    weights = {"weight": teacher.head.weight} | ({} if teacher.head.bias is None else {"bias": teacher.head.bias})
    write_whole(folder / _HEAD, lambda path: save_weights(weights, path), what="The teacher's head")
    card = {**expected, "teacher": teacher.name, "softcap": teacher.head.softcap, "scale": teacher.head.scale}
    text = json.dumps(card, indent=2) + "\n"
    write_whole(folder / _CARD, lambda path: path.write_text(text, encoding="utf-8"), what="The cache")


def _starts(texts: Sequence[Tokens]) -> NDArray[np.int64]:
    counts = [int(text.counted[1:].sum()) for text in texts]
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _opened(folder: Path, teacher: LanguageModel, texts: Sequence[Tokens]) -> TeacherCache:
    starts = _starts(texts)
    weights = read_raw(folder / _HEAD)
    try:
        states = np.load(folder / _STATES, mmap_mode="r", allow_pickle=False)
        head = Head(weights["weight"], weights.get("bias"), teacher.head.softcap, teacher.head.scale)
        whole = states.dtype == np.float16 and states.shape == (starts[-1], head.weight.shape[1])
    except (OSError, ValueError, KeyError) as error:
        raise CistError(f"The cache in {folder} cannot be read ({error}); remove it, and it is made anew.") from error
    if not whole:
        raise CistError(f"The cache in {folder} is damaged; remove it, and it is made anew.")
    return TeacherCache(states, starts, head)
