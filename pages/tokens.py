"""Tokens: how sure a language model is, word by word, and what a temperature makes of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from app.catalogue import Seen, recall, seen_added, why_not_here
from app.forms.run_tokens import titles_of, with_student
from app.forms.run_views import RunView
from app.links import asked_for, hidden_field, page_choice, say_unfollowed, unfollowed
from app.people import may_launch, run_store
from app.selection_bar import choose_rule, count_of, explanation_of
from app.settings import page_setting
from app.state import NO_STUDENT
from app.tokens.models import TextModel, added_models
from app.tokens.picture import picture_of
from app.tokens.ranking import in_order, lowest_temperature, ranking_of, values_in
from app.tokens.readings import (
    QUIET_SECONDS,
    Readers,
    Reading,
    forget_fault,
    read_anew,
    reading_of,
    stop,
    waiting,
)
from app.tokens.selection import SELECT, lift_stretch, measures_of, stretch_of, take_stretch, without_stretch
from app.tokens.texts import ADDED, MOST_CHARACTERS, AddedText, OwnText, Text, added_texts
from app.tokens.view import MODEL, RUN, TAUS, VIEW, Shown, code_of, scales_of, show_passage, table_of
from app.widgets import download_picture, download_table, page_head, plain, show_error
from cist_core.errors import CistError
from cist_core.language.gain import gain_over
from cist_core.language.known import known_language_models, lacking
from cist_core.language.passage import curves_of, rows_of
from cist_core.language.sources import LENGTH
from cist_core.language.token_set import TokenPair, TokenSet
from cist_core.samples.selection import Selection
from cist_core.wording import percent

SECTION = "Look"
ORDER = 55
ICON = ":material/short_text:"
NEEDS_SOURCE = False
OFFERS_SOURCE = False

QUESTION = "How sure is a language model, word by word?"
POLL_SECONDS = 0.5
MOST_IN_LINK = 1_000
"""Characters of one's own text that an address carries."""
SURE = 0.5  # nats
QUIET_SHOWN = 15
"""Seconds without a sign of work, from which on the page says so."""
STUDENT, TEXT, PROMPT, ORDER_OF, PASSAGE = (
    f"tokens_{name}" for name in ("student", "text", "prompt", "order", "passage")
)
BOX, PROMPT_BOX, BLANK, LONG, AGAIN, OF, ORDERED, OWN = (
    f"_tokens_{name}" for name in ("box", "prompt_box", "blank", "long", "again", "of", "ordered", "own")
)
TYPED = "typed"
"""In the address: a text that was typed here, or ours."""
SAMPLE = """To every thing there is a season, and a time to every purpose under the heaven:
A time to be born, and a time to die; a time to plant, and a time to pluck up that which is planted;
A time to kill, and a time to heal; a time to break down, and a time to build up;
A time to weep, and a time to laugh; a time to mourn, and a time to dance;
A time to cast away stones, and a time to gather stones together; \
a time to embrace, and a time to refrain from embracing;
A time to get, and a time to lose; a time to keep, and a time to cast away;
A time to rend, and a time to sew; a time to keep silence, and a time to speak;
A time to love, and a time to hate; a time of war, and a time of peace.
"""
"""Ecclesiastes 3:1-8, King James Bible."""


# ---- What is read, and by whom ---------------------------------------------------------------------------------------


class Choice(NamedTuple):
    """Who reads, and how that is written in code.

    Attributes:
        readers: of the text.
        models: one, or a teacher and a student; none of a run.
        run: the directory of a run, or None.
        hidden: where a run or a model of somebody else lies, which is nobody else's business, and what stands for it.
    """

    readers: Readers
    models: tuple[TextModel, ...] = ()
    run: str | None = None
    hidden: Mapping[str, str] = {}

    def explained(self, error: CistError) -> CistError:
        """What went wrong, in words that every visitor may read."""
        said = str(error)
        for place, name in self.hidden.items():
            said = said.replace(place, name)
        return CistError(said)


def runs_with_student(notices: DeltaGenerator) -> dict[str, RunView]:
    """The visitor's runs that left a language model, and the one that a link names, by what the address calls them."""
    if not may_launch():  # nobody is signed in who would have to be: the models are there all the same
        return {}
    try:
        store = run_store()
        runs, asked = store.list_runs(), asked_for(MODEL)
        linked = asked.removeprefix(RUN)
        if linked != asked and linked not in {run.id for run in runs}:
            with suppress(CistError):  # deleted meanwhile; the choice says that it is not here
                runs = [*runs, store.get(linked)]
        return {f"{RUN}{run_id}": view for run_id, view in with_student(runs).items()}
    except CistError as error:
        notices.warning(plain(f"The runs cannot be offered beside the models: {error}"))
        return {}


def choose_model(models: Mapping[str, TextModel], runs: Mapping[str, str], notices: DeltaGenerator) -> str:
    """The name of a model or of a run, of which the titles are given."""
    titles = {name: model.title for name, model in models.items()} | dict(runs)
    return page_choice(
        st.selectbox,
        "Model",
        titles,
        key=MODEL,
        what="model",
        default=next((name for name, model in models.items() if model.role == "teacher"), None),
        why=why_not_here(asked_for(MODEL)),
        notices=notices,
    )


def choose_student(models: Mapping[str, TextModel], teacher: TextModel, notices: DeltaGenerator) -> TextModel | None:
    """Another model of the same vocabulary beside it; the one that ships as its student to begin with."""
    beside = {
        name: model for name, model in models.items() if name != teacher.name and model.shares_vocabulary(teacher)
    }
    if not beside:
        asked = st.query_params.get(STUDENT, NO_STUDENT)
        if asked != NO_STUDENT and STUDENT not in st.session_state:
            notices.warning(
                plain(f"No model here has the vocabulary of {teacher.title}, so “{asked[:80]}” is not beside it.")
            )
        return None
    titles = {NO_STUDENT: "None", **{name: model.title for name, model in beside.items()}}
    default = next(
        (name for name, model in beside.items() if (teacher.role, model.role) == ("teacher", "student")), None
    )
    name = page_choice(
        st.selectbox,
        "Student beside it",
        titles,
        key=STUDENT,
        what="student",
        default=default,
        depends=True,
        why=why_not_here(asked_for(STUDENT)),
        notices=notices,
    )
    return beside.get(name)


def choose_readers(models: Mapping[str, TextModel], runs: Mapping[str, RunView], notices: DeltaGenerator) -> Choice:
    titles = titles_of(runs)
    name = choose_model(models, titles, notices)
    if name in runs:
        run = runs[name].run
        readers = Readers.of_run(run, titles[name])
        if run_store().owns(run):
            return Choice(readers, run=str(run.directory.path))
        return Choice(readers, run=f"runs/{run.id}", hidden={str(run.directory.path.resolve()): f"runs/{run.id}"})
    student = choose_student(models, models[name], notices)
    chosen = [models[name]] if student is None else [models[name], student]
    hidden = {place: shown for model in chosen for place, shown in model.hidden.items()}
    return Choice(Readers.of_models(chosen), tuple(chosen), hidden=hidden)


def choose_text(seen: Seen, notices: DeltaGenerator) -> Text:
    """One that was added, or one's own, and beside it the form for another of one's own."""
    own, asked, texts = own_text(), asked_for(ADDED), added_texts(seen)
    chosen = TYPED
    if texts or asked not in ("", TYPED):
        titles = {TYPED: "Ecclesiastes 3" if own == OwnText(SAMPLE) else "Your own text"}
        chosen = page_choice(
            st.selectbox,
            "Text",
            titles | {added_id: text.title for added_id, text in texts.items()},
            key=ADDED,
            what="text",
            why="A text that was added is read here for whoever added it alone." if why_not_here(asked) else "",
            notices=notices,
        )
    offer_form(own)
    return texts.get(chosen, own)


def own_text() -> OwnText:
    """One's own text, perhaps with a prompt before it, which the address carries where they are short."""
    with st.container(key="address-tokens-own"):
        linked = [
            st.text_area(f"address-{key}", "", label_visibility="collapsed", **page_setting(key))
            for key in (TEXT, PROMPT)
        ]
    text, prompt = map(str, linked)
    found: OwnText = (
        OwnText(text or SAMPLE, prompt) if text or prompt else st.session_state.get(LONG) or OwnText(SAMPLE)
    )
    return found


def offer_form(passage: OwnText) -> None:
    """The fields in which somebody gives a text, filled with their own of before."""
    own = st.popover("Your own text", icon=":material/edit:", key=OWN, on_change="rerun")
    # Fields of their own for each text, as the browser has none to be changed before they are opened.
    boxes = [f"{name}_{zlib.crc32(passage.content)}" for name in (BOX, PROMPT_BOX)]
    with own, st.form("tokens_form", border=False):
        st.text_area(
            "Prompt (optional)", passage.prompt, height=90, key=boxes[1],
            help="Stands before the text with nothing between them. The model reads it, and its tokens do not count.",
        )  # fmt: skip
        # Without a limit of the field, which takes nothing of a longer text that is pasted, and does not say so.
        st.text_area("Text", passage.text, height=240, key=boxes[0])
        st.caption(
            f"Up to {MOST_CHARACTERS:,} characters are read, with the prompt. Up to {MOST_IN_LINK:,} stand in the link "
            "to this view; longer texts do not."
        )
        if st.session_state.pop(BLANK, False):
            st.error("Give a text: tokens of a prompt do not count, and blanks say nothing.")
        st.form_submit_button("Read it", icon=":material/visibility:", on_click=take_text, args=boxes)
    if passage != OwnText(SAMPLE):
        own.button("Ecclesiastes 3 again", icon=":material/undo:", type="tertiary", on_click=take, args=[SAMPLE, ""])


def take_text(text_box: str, prompt_box: str) -> None:
    text, prompt = st.session_state[text_box], st.session_state[prompt_box]
    if text.strip():
        take(text, prompt)
    else:
        st.session_state[BLANK] = True


def take(text: str, prompt: str) -> None:
    """Have a text read, and close the form over what comes of it."""
    in_link = OwnText("" if text == SAMPLE else text, prompt)
    short = in_link.characters <= MOST_IN_LINK
    st.session_state[TEXT], st.session_state[PROMPT] = in_link if short else ("", "")
    st.session_state[LONG] = None if short else OwnText(text, prompt)
    st.session_state[AGAIN] = True
    st.session_state[ADDED] = TYPED
    st.session_state[OWN] = False  # what comes of it is not covered


def choose_passage(reading: Reading, found: TokenSet | TokenPair, notices: DeltaGenerator) -> int:
    """Which stretch of the text is on the screen; asked only where there is more than one."""
    passages = reading.index["passages"]
    if len(passages) == 1 and PASSAGE not in st.query_params:
        return 0
    ranking = ranking_of(found, as_shown(asked_for(VIEW)) or Shown(), before=reading.before)
    values = values_in(ranking, found, passages)
    order = page_choice(
        st.selectbox,
        f"Passages by {ranking.words}",
        {"text": "In order", "mean": "Largest mean first", "largest": "Largest maximum first"},
        key=ORDER_OF,
        what="order",
        notices=notices,
        help="By what colours the text, over the tokens that count; the ρ that is matched to τ is so over all of it.",
    )
    titles = {f"{number + 1}": f"{number + 1}: {ranking.says(values[number])}" for number in in_order(values, order)}
    first, before = next(iter(titles)), st.session_state.get(ORDERED)
    if before != order and (before is not None or (order != "text" and not asked_for(PASSAGE))):
        st.session_state[PASSAGE] = first  # somebody looks for that of another order, or a link names an order alone
    st.session_state[ORDERED] = order
    chosen = page_choice(
        st.selectbox,
        "Passage",
        titles,
        key=PASSAGE,
        what="passage",
        default=first,
        unsaid="",  # a measure or a slider that moves makes another the first, and the address means this one
        depends=True,
        notices=notices,
    )
    return int(chosen) - 1


# ---- What is shown of it ---------------------------------------------------------------------------------------------


def current(passage: str, count: int) -> Shown:
    """Where the controls stand, as a field that nobody sees keeps it for the address.

    Args:
        passage: its name; what is pinned in another is not here, nor is a stretch of it.
        count: of its tokens.
    """
    start = Shown()
    before = st.session_state.get(VIEW)
    if before is not None:
        known = as_shown(before, count=count)
        if st.session_state.get(OF) not in (None, passage):
            known = replace(as_shown(before) or start, pinned=None)
            lift_stretch()
        mended = (known or start).as_link()
        if mended != before:
            st.session_state[VIEW] = mended
    st.session_state[OF] = passage
    asked = hidden_field(None, start.as_link(), page_setting(VIEW))  # a link or the Back button may have changed it
    found = as_shown(asked, count=count)
    if found is None:
        sentence = (
            f"The link asks to show “{asked[:80]}” of the tokens, which cannot be; shown is what the page starts at."
        )
        unfollowed(VIEW, sentence, while_shown=[start.as_link(), asked])
    return found or start


def as_shown(text: str, *, count: int | None = None) -> Shown | None:
    """What a link says; None for what cannot be, in a passage of so many tokens."""
    try:
        found = Shown.from_link(text)
    except ValueError:
        return None
    return found if count is None or found.fits(count) else None


def last_turn() -> int:
    """The number of what the browser said last; 0 where it said nothing."""
    said = getattr(st.session_state.get("tokens"), "shown", None) or {}
    turn = said.get("turn", 0)
    return turn if isinstance(turn, int) else 0


def take_over() -> None:
    """What a hand has set in the browser."""
    before, told = as_shown(st.session_state[VIEW]) or Shown(), st.session_state["tokens"].shown
    st.session_state[VIEW] = before.told(told).as_link()
    if "between" in told:
        take_stretch(told["between"])


def finding_of(found: TokenSet | TokenPair, told: NDArray[np.int64], *, selected: bool, part: bool) -> str:
    """What the models expected of some tokens, in one sentence.

    Args:
        found: what was read.
        told: the numbers of the tokens in it.
        selected: whether these were selected from those that count.
        part: whether they are of a passage of a longer text.
    """
    teacher, *students = found.models
    if not len(told):
        whole = "passage" if part else "text"
        return "No token of this passage is selected" if selected else f"No token of this {whole} counts"
    tokens = f"{len(told):,} {'selected ' if selected else ''}token{'' if len(told) == 1 else 's'}"
    if part and not selected:
        tokens = f"the {tokens} of this passage"
    right = percent(float(np.mean(teacher.rank[told] == 1)))
    sure = percent(float(np.mean(teacher.entropy[told] < SURE)))
    whose = "The teacher" if students else "The model"
    student = "".join(f", the student's at {percent(float(np.mean(each.rank[told] == 1)))}" for each in students)
    return (
        f"{whose}'s first choice is the next token at {right} of {tokens}{student}; "
        f"{whose.lower()} is nearly certain (below {SURE:g} nats) at {sure}"
    )


class Selected(NamedTuple):
    """Which tokens of a passage are selected.

    Attributes:
        rule: that they fulfil.
        rows: their numbers in what was read; None where nothing is selected.
        others: whether each token of the passage fulfils the rule but for its stretch; None where that is all of it.
    """

    rule: Selection = Selection()
    rows: NDArray[np.int64] | None = None
    others: list[bool] | None = None


def choose_tokens(
    passage: dict[str, Any], found: TokenSet | TokenPair, counted: NDArray[np.int64], shown: Shown
) -> Selected:
    """The field above the passage in which the rule stands, and how many tokens fulfil it."""
    bar = st.container(horizontal=True, vertical_alignment="center", key="tokens-selection-bar")
    words = bar.container()
    written = choose_rule(bar, "tokens", page_setting(SELECT), example="surprisal=4.. & token_type=word start")
    samples = measures_of(passage, found, counted, shown) if len(counted) else None
    chosen, mask = Selected(), None
    try:
        rule = Selection.parse(written)
        if rule and samples is None:
            chosen = Selected(rule, counted)
        elif rule and samples is not None:
            mask, other = rule.mask(samples), without_stretch(rule)
            at = set(samples.column("position")[other.mask(samples)].tolist())
            others = [token["position"] in at for token in passage["tokens"]]
            chosen = Selected(rule, counted[mask], others if other else None)
    except CistError as error:
        show_error(error)
    if samples is None:
        words.markdown("No token of this passage counts")
        return chosen
    words.markdown(count_of(mask, samples, "tokens"), help=explanation_of(chosen.rule, samples, None))
    return chosen


def show(reading: Reading, found: TokenSet | TokenPair, number: int, text: Text, choice: Choice) -> str:
    """The passage, and what is left to say of it; the finding."""
    teacher, before = found.models[0], reading.before
    passages = reading.index["passages"]
    where, sent, part = passages[number], reading.passage(number), len(passages) > 1
    passage = json.loads(sent)
    rows = rows_of(teacher, where["sequence"], where["start"])
    reach = [curves_of(tokens, rows) for tokens in (*found.models, *(before.models[1:] if before else ()))]
    lowest = lowest_temperature(reach)
    counted = rows[teacher.facts.counted[rows]]
    name = f"{reading.folder.name}-{number}"
    asked = current(name, len(passage["tokens"]))
    matched_over = counted if len(counted) else rows
    shown = replace(asked, tau=max(asked.tau, lowest)).with_partner(
        curves_of(teacher, matched_over) if len(matched_over) else None
    )
    say_unfollowed(st.container(), VIEW)
    said = list(reading.index["remarks"])
    if not len(counted):
        why = "Tokens of a prompt do not count, nor does the first of a text, which nothing predicts."
        st.info(plain(" ".join([why, *said])))
        said = []
    selected = choose_tokens(passage, found, counted, shown)
    show_passage(
        sent,
        shown,
        lowest=lowest,
        turn=last_turn(),
        name=name,
        further=where["sequence"] > 0,  # a part of a text that is longer than the model reads at once
        between=stretch_of(selected.rule),
        others=selected.others,
        scales=scales_of(passage["classes"]),
        on_change=take_over,
    )
    told = counted if selected.rows is None else selected.rows
    if before is not None and isinstance(found, TokenPair) and len(told):
        finding = gain_in(before, found, told, passage, selected=selected.rows is not None)
    else:
        finding = finding_of(found, told, selected=selected.rows is not None, part=part)
    said = [f"{each['title']}: {each['precision']}." for each in reading.index["models"]] + said
    if lowest > TAUS[0]:
        said.append(f"τ begins at {lowest:g} here: below, the ratio of a token is beyond the tables.")
    if isinstance(text, AddedText) and text.length not in (None, LENGTH):
        said.append(
            f"It was added in rows of {text.length:,} tokens, which the other pages show; here they may be longer."
        )
    if text == st.session_state.get(LONG):
        said.append(f"The text has more than {MOST_IN_LINK:,} characters and is not in the link, which shows ours.")
    below = st.container(horizontal=True, vertical_alignment="top")
    below.container().caption(plain(" ".join(said)))
    positions = None if selected.rows is None else teacher.facts.positions[selected.rows]
    with below.popover("Export", icon=":material/ios_share:", type="tertiary", key="export-tokens", help="Export"):
        offer_code(choice, text, shown)
        notes = []
        if part:
            matched = ", over which this ρ is matched" if shown.matched else ""
            notes.append(f"Picture and table are of passage {number + 1} of {len(passages)}{matched}.")
        if positions is not None:
            notes.append("The table says which tokens are selected.")
        if notes:
            st.caption(" ".join(["Command line and Python read the whole text.", *notes]))
        called = f"tokens-passage-{number + 1}" if part else "tokens"
        shown_here = (passage, found, rows, shown)
        download_picture(partial(picture_of, *shown_here, title=finding, before=before, selected=positions), called)
        table = partial(table_of, *shown_here, before=before, selected=positions, number=number + 1 if part else None)
        download_table(table, called)
    return finding


def offer_code(choice: Choice, text: Text, shown: Shown) -> None:
    """What reads the same text without the app, and the text."""
    code = code_of([model.written for model in choice.models], shown, text.file_name, run=choice.run)
    st.caption("Command line")
    st.code(code.command, language="bash", wrap_lines=True)
    st.caption("Python")
    st.code(code.python, language="python", wrap_lines=True)
    for model in choice.models:
        if model.written != model.reference:
            st.caption(plain(f"{model.written} stands for the folder or file of that model, wherever you have it."))
    st.download_button(
        f"Text ({text.file_name})",
        lambda: text.content,
        file_name=text.file_name,
        on_click="ignore",
        width="stretch",
    )


def gain_in(
    before: TokenPair, found: TokenPair, told: NDArray[np.int64], passage: Mapping[str, Any], *, selected: bool
) -> str:
    """What the student of a run expects otherwise than before, in one sentence; arguments as `finding_of`."""
    at = set(found.teacher.facts.positions[told].tolist())
    size = sum(token["bytes"] for token in passage["tokens"] if token["position"] in at)
    which = "selected token" if selected else "token"
    return gain_over(before, found, told, size).sentence(f"a {which} of this passage")


def wait(readers: Readers, text: Text) -> None:
    """Until the text is read: what goes on, and a way to end it."""
    longest = "some minutes" if readers.converts else "a minute"

    def poll() -> None:
        try:
            done = reading_of(readers, text) is not None
        except CistError:  # the page says it
            done = True
        if done:
            st.rerun()
        going = waiting(readers, text)
        said = f"Reading the text with {' and '.join(readers.titles)}: some seconds, up to {longest} the first time."
        if going is not None:
            said += f" {going.seconds:.0f} s so far."
            if going.quiet > QUIET_SHOWN:
                said += f" It has not worked for {going.quiet:.0f} s, and is ended after {QUIET_SECONDS:.0f} s of that."
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(plain(said))
            if may_launch():
                st.button(
                    "Stop",
                    icon=":material/stop:",
                    key="tokens-stop",
                    on_click=stop,
                    args=(readers, text),
                    help="Ends it for everybody who waits for this text.",
                )
        st.skeleton(height=320)

    st.fragment(poll, run_every=POLL_SECONDS)()


def show_page() -> str:
    """Everything below the question; the finding, empty where there is none yet."""
    if (missing := lacking()) is not None:
        st.info(plain(missing))
        return ""
    known = known_language_models()
    notices = st.container()
    models = {model.name: TextModel.of_known(model) for model in known if model.path is not None}
    recall()
    asked = [asked_for(MODEL), asked_for(STUDENT)]
    seen = seen_added(linked=asked)
    models |= added_models(seen, asked, known=models)
    runs = runs_with_student(notices)
    if not models and not runs:
        ways = " ".join(f"{model.title}: {model.missing}" for model in known if model.missing)
        st.info(plain(f"No language model is on this machine. {ways}"))
        return ""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        choice = choose_readers(models, runs, notices)
        text = choose_text(seen, notices)
        if isinstance(text, OwnText):
            text.check()  # here, as no other try makes it another text
        if st.session_state.pop(AGAIN, False):
            forget_fault(choice.readers, text)
    reading = None
    try:
        for model in choice.models:
            model.check_there()
        reading = reading_of(choice.readers, text, may_begin=text == OwnText(SAMPLE) or may_launch())
        if reading is None:
            wait(choice.readers, text)
            return ""
        found = reading.found
        with st.container(horizontal=True, vertical_alignment="bottom"):  # a row of its own, as its labels are long
            number = choose_passage(reading, found, notices)
        return show(reading, found, number, text, choice)
    except CistError as error:
        show_error(choice.explained(error))
        # One that is there and cannot be shown is cleared away for everybody.
        again = forget_fault if reading is None or not may_launch() else read_anew
        st.button(
            "Try again",
            icon=":material/replay:",
            key="tokens-again",
            on_click=again,
            args=(choice.readers, text),
            help="The text and all choices stay as they are.",
        )
        return ""


head, finding = st.container(), ""
try:
    finding = show_page()
except CistError as error:
    show_error(error)
with head:  # last, as it says what was found
    page_head(QUESTION, finding)
