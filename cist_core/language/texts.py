"""Texts for language models: what was asked and what was answered, as token ids, and which tokens count.

A prompt and its response are tokenised together, as the model reads them: tokenised apart, their ids at the seam would
be others. Which of them a token belongs to is told by where its characters begin.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cist_core.documents import parse_json
from cist_core.errors import CistError

COUNTED = frozenset({"text", "response", "assistant"})
"""The roles whose tokens a model is asked to predict; those of the others are what it is given."""
_GIVEN = "prompt"
SPECIAL = "special"
"""The role of tokens that stand for no text, such as a beginning."""
RESPONSE_FIELDS = ("response", "output", "completion")
_KNOWN_FIELDS = "'text'; 'prompt' and 'response'; or 'messages' with 'role' and 'content'"


class Piece(NamedTuple):
    """A stretch of text that has one role."""

    role: str
    text: str


@dataclass(frozen=True)
class Example:
    """One text.

    Attributes:
        name: where it came from, for people.
        pieces: in reading order; the messages of a chat if `chat`, which the model's own template joins.
        chat: whether it is one.
    """

    name: str
    pieces: tuple[Piece, ...]
    chat: bool = False


class Tokens(NamedTuple):
    """A text as a language model reads it, L tokens.

    Attributes:
        name: of the example.
        ids: ``(L,)`` int64.
        roles: ``(L,)``, the role of the piece in which each token begins.
        counted: ``(L,)``, whether predicting the token counts; never by its id, so an end of text counts that ends a
            response, also where padding has the same id.
        bytes: ``(L,)`` int64, of the text in UTF-8 that each token stands for. The first token of a character of
            several has all of its bytes; special tokens, such as an end, have none.
        straddling: how many tokens begin in one piece and end in another that counts; they belong to the first.
        left_out: how many tokens were cut off at the end because no more is read at once.
        spelled: how often the text spells a special token, such as an end of text, which the model reads as that.
        cut_otherwise: the models that read the text with these ids, and whose own tokenizers would cut it otherwise.
    """

    name: str
    ids: NDArray[np.int64]
    roles: NDArray[np.str_]
    counted: NDArray[np.bool_]
    bytes: NDArray[np.int64]
    straddling: int
    left_out: int
    spelled: int = 0
    cut_otherwise: tuple[str, ...] = ()

    @property
    def counted_bytes(self) -> int:
        """Of the text that the counted tokens stand for; nothing predicts the first token."""
        return int(self.bytes[1:][self.counted[1:]].sum())


class FastTokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    is_fast: bool
    eos_token_id: int | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]: ...

    @property
    def all_special_ids(self) -> Sequence[int]: ...

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]: ...

    def apply_chat_template(self, conversation: Sequence[Mapping[str, str]], **options: Any) -> Any: ...

    def decode(self, token_ids: Sequence[int], **options: Any) -> str: ...

    def convert_ids_to_tokens(self, ids: int) -> str: ...


# ---- reading ---------------------------------------------------------------------------------------------------------


def load_texts(source: str | Path, *, split: str | None = None, download: bool = False) -> list[Example]:
    """The texts of a file, or of a data set of the Hugging Face hub.

    Args:
        source: the path of a file (`read_texts`); or ``hf:REPO`` or ``hf:REPO:CONFIG``, whose rows have the fields of a
            line there.
        split: of the data set, ``"train"`` by default; a file has none.
        download: whether a data set that is not on this machine may be fetched.

    Raises:
        CistError: as `read_texts`, without the extra ``language``, if the data set or its split is not there, or for
            the split of a file.
    """
    from cist_core.data.hub_repository import PREFIX, HubRepository

    if not str(source).startswith(PREFIX):
        if split is not None:
            raise CistError(
                f"Expected a split only of a data set of the Hugging Face hub, but got '{split}' for {source}, which "
                "is one set; leave it out."
            )
        return read_texts(Path(source).expanduser())
    split = split or "train"
    hub = HubRepository(str(source), download=download, extra="language")
    rows = hub.load(split)
    examples = [example_of(row, f"{hub.name}, {split}, row {number:,}") for number, row in enumerate(rows, start=1)]
    if not examples:
        raise CistError(f"{hub.name} has no rows in its split '{split}'; choose another split.")
    return examples


def read_texts(path: Path) -> list[Example]:
    """The texts of a file: a ``.jsonl`` file has one a line, any other is one text in UTF-8.

    A line is an object with ``text``; with ``prompt`` and ``response`` (or ``output`` or ``completion``); or with
    ``messages``, each with ``role`` and ``content``.

    Raises:
        CistError: if the file cannot be read, or a line is none of these, by its number.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")  # line ends stay as they are
    except UnicodeDecodeError as error:
        raise CistError(f"{path.name} is not text in UTF-8 (byte {error.start:,}); save it as such.") from error
    except OSError as error:
        raise CistError(
            f"{path.name} cannot be read ({error.strerror or error}); check its name and who may read it."
        ) from error
    if path.suffix.lower() == ".jsonl":
        examples = list(_read_lines(path.name, content))
    else:
        examples = [Example(path.name, (Piece("text", content),))] if content.strip() else []
    if not examples:
        raise CistError(f"{path.name} has no text; give a file with some.")
    return examples


def _read_lines(name: str, content: str) -> Iterator[Example]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number:,}"
        try:
            record = parse_json(line)
        except ValueError as error:
            # The own sentence of the first numbers lines as well, from this one on.
            why = f"{error.msg} at character {error.colno:,}" if isinstance(error, json.JSONDecodeError) else error
            raise CistError(f"{where} is not JSON ({why}); write one object a line.") from error
        yield example_of(record, where)


def example_of(record: object, name: str) -> Example:
    """One record of a data set.

    Args:
        record: an object with the fields that `read_texts` knows.
        name: where it came from, for people and errors.

    Raises:
        CistError: if the fields are others, are several of these forms, or not texts.

    Example:
        >>> example_of({"prompt": "Two and two? ", "response": "Four."}, "sums, line 1").pieces[1]
        Piece(role='response', text='Four.')
    """
    if not isinstance(record, Mapping):
        raise CistError(f"{name} is no object; expected one with {_KNOWN_FIELDS}.")
    responses = [field for field in RESPONSE_FIELDS if field in record]
    forms = ["'messages'"] * ("messages" in record) + ["'text'"] * ("text" in record)
    if "prompt" in record:
        forms += [f"'prompt' with '{field}'" for field in responses]
    if len(forms) > 1:
        raise CistError(f"{name} has {' and '.join(forms)}, of which only one can be its text; keep that one.")
    if "messages" in record:
        return Example(name, _messages(record["messages"], name), chat=True)
    if "prompt" in record and responses:
        response = _text(record, responses[0], name)
        return Example(name, (Piece("prompt", _text(record, "prompt", name)), Piece("response", response)))
    if "text" in record:
        return Example(name, (Piece("text", _text(record, "text", name)),))
    found = ", ".join(map(repr, list(record)[:8])) or "none"
    raise CistError(f"{name} has the fields {found}; expected {_KNOWN_FIELDS}.")


def _messages(value: object, name: str) -> tuple[Piece, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise CistError(f"{name}: 'messages' is no list of messages; give one of objects with 'role' and 'content'.")
    pieces = []
    for number, message in enumerate(value, start=1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= {*message}:
            raise CistError(f"{name}: message {number} has no 'role' and 'content'; give both, as text.")
        pieces.append(Piece(_text(message, "role", name), _text(message, "content", name)))
    return tuple(pieces)


def _text(record: Mapping[str, Any], field: str, name: str) -> str:
    value = record[field]
    if not isinstance(value, str):
        raise CistError(f"{name}: {field!r} is {type(value).__name__}, not text; write it as text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CistError(
            f"{name}: {field!r} has half of a surrogate pair at character {error.start:,}, which is no text; "
            "replace it."
        ) from error
    return value


# ---- tokens ----------------------------------------------------------------------------------------------------------


def tokenise_all(
    examples: Iterable[Example],
    tokenizer: FastTokenizer,
    *,
    longest: int,
    others: Sequence[tuple[str, FastTokenizer]] = (),
) -> list[Tokens]:
    """The tokens of many texts; nothing of a plain text is left out.

    A plain text longer than what is read at once becomes several, of which each after the first begins with the last
    token of the one before, which counts there alone: so every token but the first is predicted, and once. Prompts with
    responses and chats are cut, as by `tokenise`.

    Args:
        examples: what `read_texts` gives.
        tokenizer: as in `tokenise`.
        longest: as in `tokenise`.
        others: names and tokenizers of further models that will read the same ids. A text that one of them would cut
            into other tokens is marked with its name (`Tokens.cut_otherwise`); a chat is compared as the template of
            the first writes it.

    Raises:
        CistError: as `tokenise`.
    """
    found: list[Tokens] = []
    special = _special_tokens(tokenizer)
    for example in examples:
        pieces = _pieces(example, tokenizer)
        whole = _whole(example, pieces, tokenizer, special)
        plain = {piece.role for piece in example.pieces} == {"text"}
        read = slice(None if plain else longest)
        own = [(name, _whole(example, pieces, other, special).ids) for name, other in others]
        differing = tuple(name for name, ids in own if not np.array_equal(ids[read], whole.ids[read]))
        whole = whole._replace(cut_otherwise=differing)
        found += _in_parts(whole, longest) if plain else [_cut(whole, longest)]
    return found


def tokenise(example: Example, tokenizer: FastTokenizer, *, longest: int) -> Tokens:
    """The tokens of one text, its beginning as the tokenizer writes it, and an end where a response ends.

    Args:
        example: what `read_texts` gives.
        tokenizer: a fast one of transformers, which knows where its tokens begin.
        longest: how many tokens are read at once, no more than the model reads; what lies beyond is left out and
            counted.

    Raises:
        CistError: if the tokenizer is slow, has no template for a chat, or its template does not show where a message
            begins and ends.
    """
    return _cut(_whole(example, _pieces(example, tokenizer), tokenizer, _special_tokens(tokenizer)), longest)


def question_of(example: Example, tokenizer: FastTokenizer) -> tuple[str, str]:
    """What a model is asked in a text, as it reads it, and the answer that stands there.

    Args:
        example: a prompt with its response, or a chat whose last message is an answer; what was said before is asked
            with it, as the model's own template writes it.
        tokenizer: as in `tokenise`.

    Raises:
        CistError: for any other text, or as `tokenise`.

    Example:
        >>> question_of(example_of({"prompt": "Two and two? ", "response": "Four."}, "sums, line 1"), None)
        ('Two and two? ', 'Four.')
    """
    *asked, last = example.pieces
    if not asked or last.role not in COUNTED:
        raise CistError(
            f"{example.name} asks for no answer; expected 'prompt' and 'response', or 'messages' of which the last is "
            "an answer."
        )
    if not example.chat:
        return "".join(piece.text for piece in asked), last.text
    messages = [{"role": piece.role, "content": piece.text} for piece in asked]
    return _render(messages, tokenizer, example.name, add_generation_prompt=True), last.text


def remarks(texts: Sequence[Tokens]) -> list[str]:
    """What people should know of the tokens of their texts, in sentences."""
    said = []
    straddling, left_out = sum(text.straddling for text in texts), sum(text.left_out for text in texts)
    if straddling:
        said.append(
            "Tokens that begin in a prompt and end in a response belong to the prompt and do not count: "
            f"{straddling:,}."
        )
    spelled = sum(text.spelled for text in texts)
    if spelled:
        said.append(f"Places where a text spells a special token, which the model reads as that token: {spelled:,}.")
    if left_out:
        cut = sum(text.left_out > 0 for text in texts)
        said.append(
            f"Texts longer than what is read at once: {cut:,} of {len(texts):,}; tokens left out at their ends: "
            f"{left_out:,}."
        )
    parts = further_parts(texts)
    if parts:
        # The part before a further one belongs to the same text, whose first part it is if it is no further one itself.
        further = [_is_further(text) for text in texts]
        whole = sum(later and not this for this, later in itertools.pairwise(further))
        said.append(
            "Plain texts longer than what is read at once are read in parts, each without what stands before it; "
            f"texts: {whole:,}, parts: {whole + parts:,}."
        )
    for name in dict.fromkeys(name for text in texts for name in text.cut_otherwise):
        first = next(text.name for text in texts if name in text.cut_otherwise)
        said.append(
            f"The tokenizer of {name} would cut some texts into other tokens, first {first}; {name} reads the tokens "
            "of the first model all the same, and what it says of them is not what it says of its own."
        )
    silent = sum(not text.counted[1:].any() for text in texts)
    if silent:
        said.append(f"Texts that have no token that counts: {silent:,} of {len(texts):,}.")
    return said


def further_parts(texts: Sequence[Tokens]) -> int:
    """How many of these are parts after the first of a plain text: they begin with a token that counted before."""
    return sum(map(_is_further, texts))


def _is_further(text: Tokens) -> bool:
    return len(text.ids) > 0 and text.roles[0] in COUNTED and not bool(text.counted[0])


def _in_parts(whole: Tokens, longest: int) -> list[Tokens]:
    starts = range(0, max(1, len(whole.ids) - 1), longest - 1)
    if len(starts) == 1:
        return [whole]
    return [_part(whole, start, longest)._replace(name=f"{whole.name}, part {n}") for n, start in enumerate(starts, 1)]


def _part(whole: Tokens, start: int, longest: int) -> Tokens:
    kept = slice(start, start + longest)
    counted = whole.counted[kept].copy()
    counted[: min(start, 1)] = False  # it counts in the part before
    spelled = 0 if start else whole.spelled
    return whole._replace(
        ids=whole.ids[kept], roles=whole.roles[kept], counted=counted, bytes=whole.bytes[kept], spelled=spelled
    )


def _cut(whole: Tokens, longest: int) -> Tokens:
    return _part(whole, 0, longest)._replace(left_out=max(0, len(whole.ids) - longest))


def _special_tokens(tokenizer: FastTokenizer) -> re.Pattern[str] | None:
    """What a text must not contain to be read as text alone."""
    tokens = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))) if tokens else None


def _pieces(example: Example, tokenizer: FastTokenizer) -> tuple[Piece, ...]:
    return _rendered(example, tokenizer) if example.chat else example.pieces


def _whole(
    example: Example, pieces: tuple[Piece, ...], tokenizer: FastTokenizer, special: re.Pattern[str] | None
) -> Tokens:
    if not tokenizer.is_fast:
        raise CistError(
            "This tokenizer does not say where its tokens begin; open the model with a fast tokenizer (tokenizer.json)."
        )
    text = "".join(piece.text for piece in pieces)
    # A template writes its own beginning.
    encoded = tokenizer(
        text,
        return_offsets_mapping=True,
        add_special_tokens=not example.chat,
        verbose=False,  # of texts longer than the model reads; they are cut here
    )
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    ends = np.cumsum([len(piece.text) for piece in pieces])
    no_text = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    roles: list[str] = []
    sizes: list[int] = []
    straddling = place = 0
    for _, end in offsets:
        if end <= place:  # no text of its own: a beginning, or a further byte of one character
            roles.append(roles[-1] if place else SPECIAL)
            sizes.append(0)
            continue
        # Offsets may leave out a space, which belongs to the token all the same: each begins where the last one ended.
        first, last = (int(np.searchsorted(ends, at, side="right")) for at in (place, end - 1))
        roles.append(pieces[first].role)
        straddling += pieces[first].role not in COUNTED and pieces[last].role in COUNTED
        # By its text: where a token stands for what is unknown, that is text.
        sizes.append(0 if text[place:end].strip() in no_text else len(text[place:end].encode()))
        place = end
    # Some tokenizers write the end themselves; an end that a text spells out is text.
    ended = bool(ids) and ids[-1] == tokenizer.eos_token_id and offsets[-1][0] == offsets[-1][1]
    if not example.chat and not ended and pieces[-1].role in COUNTED and tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
        roles.append(pieces[-1].role)
        sizes.append(0)
    if sizes:
        sizes[-1] += len(text[place:].encode())  # spaces at the end that no token has
    return Tokens(
        example.name,
        np.asarray(ids, np.int64),
        np.asarray(roles, np.str_),
        np.asarray([role in COUNTED for role in roles], np.bool_),
        np.asarray(sizes, np.int64),
        straddling,
        0,
        0 if special is None else sum(len(special.findall(piece.text)) for piece in example.pieces),
    )


def _rendered(example: Example, tokenizer: FastTokenizer) -> tuple[Piece, ...]:
    """The messages as the model's template writes them: what it puts around an answer belongs to the question.

    A template writes each answer after the same words as without it, so the longer text begins with the shorter one. It
    is asked only for what stands before and after each answer: some refuse a system message alone.
    """
    messages = [{"role": piece.role, "content": piece.text} for piece in example.pieces]
    pieces: list[Piece] = []
    written = ""

    def add(role: str, until: int) -> None:
        nonlocal written
        asks = role == _GIVEN and until < len(messages)
        text = _render(messages[:until], tokenizer, example.name, add_generation_prompt=asks)
        pieces.append(Piece(role, _rest(text, written, example.name)))
        written = text

    for number, piece in enumerate(example.pieces):
        if piece.role in COUNTED:
            add(_GIVEN, number)
            add(piece.role, number + 1)
    if example.pieces[-1].role not in COUNTED:
        add(_GIVEN, len(messages))
    return tuple(piece for piece in pieces if piece.text)


def _render(
    messages: Sequence[Mapping[str, str]], tokenizer: FastTokenizer, name: str, *, add_generation_prompt: bool
) -> str:
    if not messages:
        return ""
    if not getattr(tokenizer, "chat_template", None):
        raise CistError(f"{name} is a chat, and this model has no chat template; give 'prompt' and 'response' as text.")
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt))
    except Exception as error:  # a template is a program that raises what it likes
        raise CistError(
            f"{name} cannot be written with this model's chat template ({error}); give 'prompt' and 'response' as text."
        ) from error


def _rest(text: str, beginning: str, name: str) -> str:
    if not text.startswith(beginning):
        raise CistError(
            f"{name}: this model's chat template changes earlier messages when more follow, so it does not show where "
            "an answer begins; give 'prompt' and 'response' as text."
        )
    return text[len(beginning) :]
