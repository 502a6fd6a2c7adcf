"""The models that may read a text: those that are known by name, and those that texts were added with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.catalogue import Seen, find_added, is_mine, may_read, titles
from app.forms.references import known_as
from app.tokens.texts import ADDED
from app.tokens.view import MODEL
from cist_core.added import Added
from cist_core.added.roots import HUB
from cist_core.data.hub_repository import cached_folder
from cist_core.errors import CistError
from cist_core.files import own_folder
from cist_core.language.known import KnownLanguageModel, language_model_names
from cist_core.language.token_set import read_head
from cist_core.plain_text import written_out


@dataclass(frozen=True)
class TextModel:
    """A language model that may read a text.

    Attributes:
        name: in the address: that of a known one, or the id of a text that was added with it.
        title: for people.
        reference: for `cist_core.language.models.open_language_model`, on this machine.
        path: the folder or file; None where the hub's cache should have it and has not.
        vocabulary: how many classes; None where nobody has said so.
        vocabulary_sha256: see `cist_core.language.vocabulary.Vocabulary.sha256`; None likewise.
        role: ``"teacher"`` or ``"student"`` of one that ships; empty of one that was added.
        added: the text that it was added with; None of one that is known by name.
        own: whether it is the visitor's business where it lies.
    """

    name: str
    title: str
    reference: str
    path: Path | None
    vocabulary: int | None
    vocabulary_sha256: str | None
    role: str = ""
    added: Added | None = None
    own: bool = True

    @classmethod
    def of_known(cls, model: KnownLanguageModel) -> TextModel:
        """One that ships goes by its name, as on other pages."""
        title = model.name if model.card else model.title
        sizes = model.vocabulary, model.vocabulary_sha256
        return cls(model.name, title, model.name, model.path, *sizes, role=model.role)

    @property
    def written(self) -> str:
        """What code calls it: a folder or file that is not the visitor's to know of, or was uploaded, by its name."""
        return self.reference if self.added is None else known_as(self.reference, self.added.uploads, own=self.own)

    @property
    def hidden(self) -> dict[str, str]:
        """Where it lies, if that is nobody's business, and what stands for it; the longest places first."""
        if self.own or self.path is None:
            return {}
        cache = own_folder("CIST_CACHE", "cache")  # in which a model in GGUF lies converted
        places = {self.path: self.written, cache: "the cache"}
        if self.reference.startswith(HUB):
            places[self.path.parents[2]] = "the hub's cache"
        both = {str(each): said for place, said in places.items() for each in (place.resolve(), place)}
        return dict(sorted(both.items(), key=lambda item: -len(item[0])))

    def shares_vocabulary(self, other: TextModel) -> bool:
        """Whether both have one vocabulary, number by number; where one was added, or shipped, before that was
        recorded, whether they have as many classes: what reads the text then compares them, and says so.
        """
        if self.vocabulary_sha256 is not None and other.vocabulary_sha256 is not None:
            return self.vocabulary_sha256 == other.vocabulary_sha256
        return self.vocabulary is not None and self.vocabulary == other.vocabulary

    def check_there(self) -> None:
        """Refuse one whose files are gone, or may not be read any more.

        Raises:
            CistError: naming it and the text that it was added with.
        """
        if self.added is None:
            return
        called = f"The model {self.written}, with which “{self.added.title}” was added,"
        if self.reference.startswith(HUB):
            if self.path is None:
                raise CistError(
                    f"{called} is not in the hub's cache on the Studio's machine any more; add the text again, and let "
                    "the model be downloaded."
                )
        elif not may_read(self.added, self.reference):
            raise CistError(
                f"{called} is not on the Studio's machine any more, or not in a folder that may be read; put it back, "
                "or add the text again with a model that is there."
            )


def added_models(seen: Seen, asked: Sequence[str], *, known: Mapping[str, TextModel]) -> dict[str, TextModel]:
    """Those of the texts that the visitor may see, by the id of a text; a model of several texts once.

    Args:
        seen: what was added.
        asked: what the session, or its link, names models by: another visitor's text is offered if it may be looked at,
            and of several texts of one model it is that text by whose id the model goes, the first of these; else the
            earliest.
        known: those that are known by name, which are not among these.
    """
    by_model: dict[str, list[Added]] = {}
    place = {name: number for number, name in reversed(list(enumerate(asked)))}
    for added in sorted(seen.ready.values(), key=lambda each: (place.get(each.id, len(asked)), each.created_at)):
        if added.spec is not None and added.spec.language is not None:
            by_model.setdefault(added.spec.language.model, []).append(added)
    for name in language_model_names():
        by_model.pop(name, None)
    called = {reference: _called(reference) for reference in by_model}
    count = Counter([*called.values(), *(model.title for model in known.values())])
    texts = titles([texts[0].id for texts in by_model.values()], seen)
    found = {}
    for reference, (first, *others) in by_model.items():
        title = called[reference]
        if count[title] > 1:
            title = f"{title}, added with {texts[first.id]}"
        path = cached_folder(reference.removeprefix(HUB)) if reference.startswith(HUB) else Path(reference)
        own = any(added.id in seen.mine for added in (first, *others))
        found[first.id] = TextModel(first.id, title, reference, path, *_vocabulary(first, others), added=first, own=own)
    return found


def link_to_added(added_id: str) -> dict[str, str]:
    """The query parameters under which the page shows a text that was added, read by the model that it was added with;
    empty for what is none, or not there.
    """
    added = find_added(added_id)
    if added is None or added.spec is None or added.spec.language is None:
        return {}
    model, texts = added.spec.language.model, added.spec.language.texts
    link = {MODEL: model if model in language_model_names() else added_id}
    return link if texts.startswith(HUB) or not is_mine(added_id) else {**link, ADDED: added_id}


def _called(reference: str) -> str:
    return reference if reference.startswith(HUB) else written_out(Path(reference).name)


def _vocabulary(first: Added, others: Sequence[Added]) -> tuple[int | None, str | None]:
    """The size of the vocabulary and its digest, as the token set of one of the texts has them."""
    size = None
    for added in (first, *others):
        try:
            head = read_head(added.logit_file)
        except CistError:  # damaged, which the other pages say; what reads the text compares the vocabularies
            continue
        size = head.vocabulary_size if size is None else size
        if "vocabulary_sha256" in head.provenance:
            return head.vocabulary_size, head.provenance["vocabulary_sha256"]
    return size, None
