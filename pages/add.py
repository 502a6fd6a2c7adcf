"""Add: use mine: a teacher, data or logits of your own, in three steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.typing import UploadedFile

from app.catalogue import added_store, download_name, find_added, forget, my_added, remember
from app.forms import add as form
from app.forms.add import (
    DATA,
    LABELS,
    LOGITS,
    MODEL,
    NAME,
    PASTE,
    PREVIEW,
    SERVER,
    STUDENT,
    TEACHER,
    TEXT,
    TEXTS,
    UPLOAD,
)
from app.history import went_back
from app.links import say_unfollowed, unfollowed
from app.people import may_launch, may_read_server_paths, on_own_machine, require_sign_in, sign_in_configured
from app.sidebar import open_source
from app.widgets import loading_torch, page_head, plain, show_error
from cist_core.added import Added, AddedState, AddSpec, Preview, roots, under_roots
from cist_core.added.roots import HUB
from cist_core.data.loading import DATASETS, is_present
from cist_core.data.pictures import INTERPOLATIONS
from cist_core.errors import CistError
from cist_core.language.sources import LENGTH
from cist_core.logits.ensemble import ENSEMBLE
from cist_core.logits.logit_set import LogitSet
from cist_core.wording import byte_size

SECTION = "Look"
ORDER = 60
ICON = ":material/add_circle:"
NEEDS_SOURCE = False

POLL_SECONDS = 0.5
PICTURE = 84  # pixels of an image in the preview
RECOGNISED = "Recognised from the weights"

# What this page remembers beside the answers: the draft and those before it, rounds of its uploaders, preprocessing.
ADDING, GO, ROUND, CHANGED, OWN_PIXELS, PIXELS, FAULTS, BEGUN = (
    "_adding", "_add_go", "_add_round", "_add_changed", "_add_own_pixels", "_add_pixels", "_add_faults", "_add_begun",
)  # fmt: skip

places: dict[str, DeltaGenerator] = {}  # where the faults of each field are shown


# ---- the draft -------------------------------------------------------------------------------------------------------


def current() -> Added | None:
    """What this page works on: this session's, or the link's if it is this visitor's."""
    linked = st.query_params.get("adding")
    if went_back() and linked != st.session_state.get(ADDING):
        empty_form()
    if st.session_state.setdefault(ADDING, None) is None and (added := _mine(linked)) is not None:
        st.session_state[ADDING] = linked
        for key, value in form.restored(added).items():
            st.session_state[PIXELS if key == "preprocessing" else f"add_{key}"] = value
    added = _mine(st.session_state[ADDING])
    if added is None:
        st.session_state[ADDING] = None
        if linked:
            unfollowed(ADDING, form.gone(linked), while_shown=[None])
        if linked and (sign_in_configured() or find_added(linked) is None):
            st.query_params.pop("adding", None)  # else the browser may not have told its key yet
    elif st.query_params.get("adding") != added.id:
        st.query_params["adding"] = added.id
    return added


def _mine(added_id: str | None) -> Added | None:
    """What this visitor may change, asked anew at every click: a button may be older than the list of people."""
    try:
        return added_store().own_snapshot(added_id) if added_id else None
    except CistError:
        return None


def draft(title: str) -> Added:
    """What this page works on, begun if there is none."""
    added = _mine(st.session_state[ADDING])
    if added is None:
        added = added_store().draft(title=title)
        st.session_state[ADDING] = added.id
        remember(added.id)
        st.session_state.setdefault(BEGUN, []).append(added.id)
    return added


def empty_form() -> None:
    """Empty every field; what was added stays."""
    for key in [key for key in st.session_state if str(key).startswith("add_")]:
        del st.session_state[key]
    st.session_state.update({ADDING: None, PIXELS: None, OWN_PIXELS: None, FAULTS: {}})
    st.session_state[ROUND] = st.session_state.get(ROUND, 0) + 1


def start_another() -> None:
    """Turn to something else."""
    empty_form()
    st.query_params.pop("adding", None)


def fault(place: str, error: CistError) -> None:
    """Keep what stood against a callback, for the next run to show it in its place."""
    st.session_state.setdefault(FAULTS, {})[place] = str(error)


# ---- fields ----------------------------------------------------------------------------------------------------------


def field(name: str) -> dict[str, Any]:
    """An answer survives its field, which may be out of sight, and a look at another page."""
    return {"key": f"add_{name}", "persist_state": "session"}


def origin(place: str, options: Sequence[str]) -> str:
    """Where the file of a place comes from, asked only where there is a choice."""
    open_roots = roots() and may_read_server_paths()
    options = [option for option in options if option != SERVER or open_roots]
    if len(options) == 1:
        return options[0]
    if st.session_state.get(f"add_{place}_from") not in options:
        st.session_state.pop(f"add_{place}_from", None)
    return str(
        st.segmented_control(
            "From", options, default=options[0], required=True, label_visibility="collapsed", **field(f"{place}_from")
        )
    )


def file_field(place: str, label: str, types: Sequence[str], help_: str, *, several: bool = False) -> str | None:
    """Upload one file, or several; what was uploaded is named below, and stays until something else is."""
    key = f"_upload_{place}_{st.session_state.get(ROUND, 0)}"
    endings = ", ".join(f".{ending}" for ending in types)  # those beside the button are cut off
    help_ = f"{help_.rstrip('.')}. Endings: {endings}."
    st.file_uploader(label, types, several, key=key, help=help_, on_change=take_upload, args=(place, key))
    added = current()
    files = form.uploaded(added, place)
    for file in files:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":material/check: {plain(file.name)}, {byte_size(file.stat().st_size)}", width="stretch")
            st.button(
                "Remove", key=f"remove_{place}_{file.name}", type="tertiary", on_click=remove_upload, args=(file,)
            )
    return ENSEMBLE.join(map(str, files)) or None


def take_upload(place: str, key: str) -> None:
    """Put what arrived on the disk, and let go of it: a rerun should not carry it in memory."""
    sent = st.session_state.get(key)
    # A click that the browser sends before it has seen the new page brings the same files once more: already let go.
    files = [file for file in (sent if isinstance(sent, list) else [sent]) if isinstance(file, UploadedFile)]
    if not files:
        return
    st.session_state.get(FAULTS, {}).pop(place, None)
    try:
        for number, file in enumerate(files):
            added = draft(Path(file.name).stem)
            begun = st.session_state.get(BEGUN, [])
            form.keep_upload(added_store(), added, place, file.name, file, beside=number > 0, begun=begun)
    except CistError as error:
        fault(place, error)
    context = get_script_run_ctx()
    for file in files:
        if context is not None and hasattr(context.uploaded_file_mgr, "remove_file"):
            context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)
    st.session_state[ROUND] = st.session_state.get(ROUND, 0) + 1
    st.session_state[CHANGED] = True


def remove_upload(file: Path) -> None:
    added = _mine(st.session_state[ADDING])
    if added is not None and file.is_relative_to(added.uploads):
        file.unlink(missing_ok=True)
    st.session_state[CHANGED] = True


def path_field(place: str, label: str, help_: str) -> str | None:
    """A path below the roots, or several joined by a plus."""
    typed = st.text_input(label, help=help_, placeholder=f"{roots()[0]}/…", **field(f"{place}_path"))
    try:
        return ENSEMBLE.join(str(under_roots(part)) for part in (typed or "").split(ENSEMBLE) if part.strip())
    except CistError as error:
        st.session_state.setdefault(FAULTS, {})[place] = str(error)
        return None


def place_of_faults(place: str) -> None:
    places[place] = st.container()


# ---- step 1 ----------------------------------------------------------------------------------------------------------


def choose_teacher() -> dict[str, Any]:
    """What is added, and what decides how it is read."""
    st.subheader("1 · Logits, a model or a text", anchor=False)
    kind = str(
        st.segmented_control(
            "What you have", [LOGITS, MODEL, TEXT], default=LOGITS, required=True, label_visibility="collapsed",
            **field("kind"),
        )
    )  # fmt: skip
    answers: dict[str, Any] = {"kind": kind}
    if kind == TEXT:
        answers[TEACHER] = choose_language_model()
        return answers
    if kind == LOGITS:
        answers["where"] = origin(TEACHER, (UPLOAD, SERVER))
        answers[TEACHER] = choose_file(
            TEACHER, "Logits of the teacher", form.logit_types(),
            "One row a sample, one column a class. What else the file holds is left out and listed",
            where=answers["where"],
        )  # fmt: skip
        answers["given_as"] = st.selectbox(
            "Values are", form.GIVEN_AS, format_func=lambda name: "detect automatically" if name == "auto" else name,
            help="Probabilities and log-probabilities make the same soft labels as logits. For both files.",
            **field("given_as"),
        )  # fmt: skip
    else:
        where = origin(TEACHER, (UPLOAD, SERVER, NAME))
        if where == NAME:
            answers[TEACHER] = st.text_input("Model", placeholder="torchvision:resnet18", **field("teacher_name"))
            st.caption(form.known_prefixes())
            place_of_faults(TEACHER)
        else:
            answers[TEACHER] = choose_file(
                TEACHER, "Checkpoint", form.checkpoint_types(),
                "Weights: no code in a file is run. Several at once are an ensemble: their logits are averaged",
                several=True, where=where,
            )  # fmt: skip
        answers["architecture"] = choose_architecture(answers)
        answers["weights"] = choose_weights(answers)
    say_what_opens_paths()
    return answers


def choose_language_model() -> str | None:
    """One that is known by name, of the hub, or a folder on the server."""
    try:
        titles = form.language_models()
    except CistError as error:  # the card of one that ships; others can be typed all the same
        show_error(error)
        titles = {}
    chosen = st.selectbox(
        "Language model", list(titles), index=None, placeholder="Choose, or type hf:OWNER/NAME",
        format_func=lambda name: titles.get(name, name), accept_new_options=True,
        help="A causal language model of transformers. A folder of one on the server can be typed where folders are "
        "open to visitors.", **field("lm"),
    )  # fmt: skip
    place_of_faults(TEACHER)
    if not titles:
        st.caption("No language model is on this machine; `cist models` says how to get one.")
    if chosen is None or chosen in titles or str(chosen).startswith(HUB):
        return None if chosen is None else str(chosen)
    try:
        if not may_read_server_paths():
            raise CistError("Folders on the server can be opened after signing in.")
        return str(under_roots(str(chosen)))
    except CistError as error:
        fault(TEACHER, error)
        return None


def choose_texts(answers: dict[str, Any]) -> dict[str, Any]:
    """What a language model is to predict."""
    st.subheader("2 · Text", anchor=False)
    where = origin(TEXTS, (UPLOAD, PASTE, SERVER))
    if where == PASTE:
        st.text_area(
            "Text", height=180, max_chars=form.MOST_CHARACTERS, key="add_pasted", persist_state="session",
            help="The first token of a text is predicted by nothing, so it does not count.",
        )  # fmt: skip
        st.button("Use this text", key="add-paste", icon=":material/content_paste:", on_click=take_paste)
        files = form.uploaded(current(), TEXTS)
        found = str(files[0]) if files else None
        if files:
            st.caption(plain(f"In use: {files[0].name}, {byte_size(files[0].stat().st_size)}."))
        place_of_faults(TEXTS)
    else:
        found = choose_file(TEXTS, "Text", form.TEXT_TYPES, form.texts_help(), where=where)
    length = st.number_input(
        "Tokens read at once", 2, None, None, 256, placeholder=f"{LENGTH:,}",
        help="Longer plain texts are read in parts, prompts with responses and chats are cut. Never more than the "
        "model reads.", **field("length"),
    )  # fmt: skip
    chosen: dict[str, Any] = {TEXTS: found, "length": length}
    return chosen | {"download": ask_for_download({**answers, **chosen})}


def take_paste() -> None:
    """Keep a text that was pasted as if it had been uploaded."""
    pasted = str(st.session_state.get("add_pasted") or "")
    try:
        if not pasted.strip():
            raise CistError("There is no text yet; paste some into the field.")
        content = io.BytesIO(pasted.encode("utf-8", "replace"))
        begun = st.session_state.get(BEGUN, [])
        form.keep_upload(added_store(), draft("text"), TEXTS, "pasted.txt", content, begun=begun)
    except CistError as error:
        fault(TEXTS, error)
    st.session_state[CHANGED] = True


def choose_file(
    place: str,
    label: str,
    types: Sequence[str],
    help_: str,
    *,
    where: str,
    several: bool = False,
) -> str | None:
    """A file by upload or by its path, and the place for what is wrong with it."""
    if where == SERVER:
        found = path_field(place, label, help_)
    else:
        found = file_field(place, label, types, help_, several=several)
    place_of_faults(place)
    return found


def choose_architecture(answers: dict[str, Any]) -> str | None:
    """Of a checkpoint, where the weights alone do not say it."""
    if not form.is_checkpoint(answers):
        return None
    with loading_torch():
        from cist_core.zoo.architectures import ARCHITECTURES
    chosen = st.selectbox(
        "Architecture",
        list(ARCHITECTURES),
        index=None,
        placeholder=RECOGNISED,
        accept_new_options=True,
        help="Choose one where the weights fit several or none; `torchvision:NAME` and `timm:NAME` can be typed.",
        **field("architecture"),
    )
    return None if chosen is None else str(chosen)


def choose_weights(answers: dict[str, Any]) -> str | None:
    """Of a checkpoint, once it has been found to hold several groups of them."""
    added = current()
    offered = None if added is None or not form.is_checkpoint(answers) else form.weights_offered(added)
    if offered is None:
        return None
    chosen = st.selectbox(
        "Weights",
        offered,
        index=None,
        placeholder="Choose" if added is not None and added.preview is None else "The usual ones",
        accept_new_options=True,
        help="The file holds several: a running average, a teacher beside a student, ... Choose or type a name.",
        **field("weights"),
    )
    return None if chosen is None else str(chosen)


def say_what_opens_paths() -> None:
    if not may_read_server_paths():
        st.caption("Files on the server can be opened after signing in.")
    elif not roots():
        st.caption("Files on the server can be opened once `CIST_ROOTS` names their folders.")


# ---- step 2 ----------------------------------------------------------------------------------------------------------


def choose_beside(where: str) -> dict[str, Any]:
    """What logits may have beside them."""
    st.subheader("2 · Labels and a student", anchor=False)
    st.caption("Both optional; labels inside the file are used automatically.")
    return {
        LABELS: choose_file(
            LABELS, "Labels", form.label_types(),
            "The right class of each sample, by number or name, or one-hot; -100 leaves a sample out", where=where,
        ),
        STUDENT: choose_file(
            STUDENT, "Logits of a student", form.logit_types(), "On the same samples, in the same order", where=where
        ),
        "class_map": choose_class_map("labels", "logits"),
    }  # fmt: skip


def choose_data(answers: dict[str, Any]) -> dict[str, Any]:
    """What a model is to answer, and how it sees it."""
    st.subheader("2 · Data", anchor=False)
    where = origin(DATA, (NAME, UPLOAD, SERVER))
    if where == NAME:
        data = st.selectbox(
            "Data set", list(DATASETS), index=None, placeholder="Choose, or type hf:OWNER/NAME",
            accept_new_options=True, **field("data_name"),
        )  # fmt: skip
        if data in DATASETS:
            st.caption(DATASETS[data].description)
        place_of_faults(DATA)
    else:
        help_ = form.data_path_help() if where == SERVER else form.data_help()
        data = choose_file(DATA, "Images and labels", form.data_types(), help_, where=where)
    found: dict[str, Any] = {DATA: data, "split": None}
    with st.grid(2, min_column_width=100, vertical_alignment="bottom"):
        if data:
            offered = list(DATASETS[data].splits) if data in DATASETS else list(form.SPLITS)
            found["split"] = st.selectbox(
                "Split", offered, index=offered.index("test"), accept_new_options=data not in DATASETS,
                help="Data without splits are taken whole.", **field("split"),
            )  # fmt: skip
        found["limit"] = st.number_input(
            "Samples", 1, None, None, 1_000, placeholder="all",
            help="Use this many only, as many of each class; empty: all.", **field("limit"),
        )  # fmt: skip
        if found["limit"] is not None:
            found["seed"] = st.number_input("Seed", 0, None, 0, 1, help="Draws the samples.", **field("seed"))
    found["download"] = ask_for_download({**answers, **found})
    found["preprocessing"] = choose_pixels(str(answers[TEACHER]))
    found["class_map"] = choose_class_map("data", "teacher")
    return found


def choose_class_map(of: str, to: str) -> str | None:
    """Which class of the one is which of the other, where neither names nor numbers say it."""
    with st.expander("Classes that differ", icon=":material/translate:"):
        written = st.text_area(
            "Class map", placeholder="automobile = car\n3 = cat\nboat =", height=100,
            help=f"One line a class: the name or number in the {of}, then that of the {to}; nothing leaves its samples "
            "out. Classes of the same name need no line.", **field("class_map"),
        )  # fmt: skip
        place_of_faults("class_map")
    return None if written is None else str(written)


def ask_for_download(answers: dict[str, Any]) -> bool:
    if not form.may_need_download(answers):
        return False
    data = answers.get(DATA)
    if data in DATASETS and not is_present(data):
        st.caption(f"{data} is not on this machine.")
    return st.toggle("Download what is not here", **field("download"))


def choose_pixels(teacher: str) -> dict[str, Any] | None:
    """The preprocessing of the teacher, or what somebody has made of it; None for the teacher's own."""
    of, own = st.session_state.get(OWN_PIXELS) or (None, None)
    changed = st.session_state.get(PIXELS)
    if changed is not None and of not in (None, teacher):
        changed = st.session_state[PIXELS] = None  # it was another teacher's
    with st.expander("Preprocessing", icon=":material/tune:"):
        place_of_faults("preprocessing")
        if own is None or of != teacher:
            st.caption("Taken from the teacher; its numbers stand here after the preview.")
            return changed
        shown = {**own, **(changed or {})}
        edit_pixels(shown)
        st.button(
            "Back to the teacher's", icon=":material/undo:", key="add-own-pixels", disabled=changed is None,
            on_click=set_pixels, args=(None,),
        )  # fmt: skip
    if changed is not None:
        st.caption("The preprocessing is not the teacher's own.")
    return changed


def edit_pixels(shown: dict[str, Any]) -> None:
    """The fields of a preprocessing; other values to begin with make new fields."""
    key = f"_pixels_{hash(repr(sorted(shown.items())))}"
    with st.form(f"form{key}", border=False), st.grid(2, min_column_width=110, vertical_alignment="bottom"):
        mean = st.text_input("Mean", form.write_channels(shown["mean"]), key=f"{key}_mean", help="0 to 1, by channel")
        std = st.text_input("Deviation", form.write_channels(shown["std"]), key=f"{key}_std", help="0 to 1, by channel")
        size = st.number_input("Size (pixels)", 1, None, shown["image_size"], 1, key=f"{key}_size")
        crop = st.number_input(
            "Centre (share)", 0.01, 1.0, float(shown["crop"]), 0.025, format="%g", key=f"{key}_crop",
            help="How much of the shorter side is cut out of the centre of an image before it is scaled.",
        )  # fmt: skip
        way = st.selectbox("Scaling", INTERPOLATIONS, INTERPOLATIONS.index(shown["interpolation"]), key=f"{key}_way")
        resize = st.checkbox("Resize images", shown["resize"], key=f"{key}_resize")
        grey = st.checkbox("Grey to colour", shown["grey_to_colour"], key=f"{key}_grey")
        sent = st.form_submit_button("Use these", key=f"{key}_use")
    if sent:
        try:
            means, deviations = form.read_channels(mean, "the mean"), form.read_channels(std, "the deviation")
        except CistError as error:
            with places["preprocessing"]:
                show_error(error)
            return
        fields = {"mean": means, "std": deviations, "image_size": size, "resize": resize, "grey_to_colour": grey}
        set_pixels({**fields, "crop": crop, "interpolation": way})
        st.rerun()


def set_pixels(fields: dict[str, Any] | None) -> None:
    st.session_state[PIXELS] = fields


def change_pixels(**fields: Any) -> None:
    """Change some of the teacher's own."""
    st.session_state[PIXELS] = {**(st.session_state.get(PIXELS) or {}), **fields}


# ---- step 3 ----------------------------------------------------------------------------------------------------------


def look(spec: AddSpec | None, lacking: str | None) -> None:
    """Let the child process look at what is complete and new, and show what it has found."""
    st.subheader("3 · Preview", anchor=False)
    place_of_faults(PREVIEW)
    if spec is None:
        if lacking is not None:
            st.caption(f"{lacking} You will see a few predictions here first.")
        return
    added = _mine(st.session_state[ADDING])
    if added is None:
        begin_preview(spec)
        return
    state, preview = added.state, added.preview
    fresh = form.same_but_for_the_title(added.spec, spec) and not st.session_state.get(CHANGED, False)
    if state.at_work:
        if not fresh:
            added_store().cancel(added.id)
        wait(added.id)
    elif not fresh or state is AddedState.DRAFT or (state is AddedState.CANCELLED and preview is None):
        begin_preview(spec)
    else:
        if state is AddedState.FAILED:
            show_failure(added, spec, adding=preview is not None)
        if preview is not None:
            show_preview(added, spec, preview, cancelled=state is AddedState.CANCELLED)


def begin_preview(spec: AddSpec) -> None:
    try:
        added = draft(spec.title)
        added_store().start_preview(added.id, spec, server_paths=may_read_server_paths())
    except CistError as error:
        put_fault(PREVIEW, error)
        return
    st.session_state[CHANGED] = False
    wait(added.id)


def wait(added_id: str) -> None:
    """Grey shapes where the preview will be, until the child process is done."""

    def poll() -> None:
        watch(added_id)
        st.caption("Opening the files, and letting the teacher answer a sample.")
        st.skeleton(height=120)
        st.skeleton(height=220)

    st.fragment(poll, run_every=POLL_SECONDS)()


def watch(added_id: str) -> Added:
    """What is at work, read anew; the whole page runs again when it no longer is."""
    store = added_store()
    store.reap()
    added = store.snapshot(added_id)
    if not added.state.at_work:
        st.rerun()
    return added


def put_fault(place: str, error: CistError, **button: Any) -> None:
    with places.get(place, places[PREVIEW]):
        show_error(error, **button)


def show_failure(added: Added, spec: AddSpec, *, adding: bool) -> None:
    """Why it could not be read, under the field that caused it, and what helps."""
    reason = added.reason or ""
    place = form.blame(reason, spec, added.uploads)
    error = CistError(form.in_own_words(reason, added.uploads))
    if "resize=True" in reason:
        put_fault(place, error, action="Resize the images", on_click=lambda: change_pixels(resize=True))
    elif "grey_to_colour=True" in reason:
        put_fault(place, error, action="Repeat the grey channel", on_click=lambda: change_pixels(grey_to_colour=True))
    else:
        put_fault(place, error)
    if not adding:
        with places[PREVIEW]:
            if place != PREVIEW:
                st.caption("There is no preview: see the remark beside the field on what stands against it.")
            st.button("Try again", icon=":material/refresh:", key="add-again", on_click=look_again)


def look_again() -> None:
    st.session_state[CHANGED] = True


def show_preview(added: Added, spec: AddSpec, preview: Preview, *, cancelled: bool) -> None:
    """What was found, a few answers, and the button that adds all of it."""
    if spec.model is not None and spec.model.preprocessing is None and preview.preprocessing is not None:
        known = (spec.model.teacher, preview.preprocessing)
        if st.session_state.get(OWN_PIXELS) != known:
            st.session_state[OWN_PIXELS] = known
            st.rerun()  # its fields stand above
    st.markdown(plain(form.facts_line(preview, of_text=added.of_text)))
    for remark in preview.remarks:
        st.caption(plain(remark))
    for warning in preview.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    if preview.class_map is not None:
        st.button(
            "Use the class map that explains it", icon=":material/translate:", key="add-class-map",
            on_click=use_class_map, args=(preview.class_map,),
        )  # fmt: skip
    show_images(preview)
    if cancelled:
        st.info("It was cancelled; nothing is lost but the time.", icon=":material/stop_circle:")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name", placeholder=spec.title, key="add_title", persist_state="session", max_chars=80, width=210)
        st.button(
            "Add", icon=":material/add:", type="primary", key="add-start", disabled=not may_launch(),
            on_click=add, args=(added.id, spec),
        )  # fmt: skip
        if preview.facts:
            with st.popover("Facts", icon=":material/info:"):
                show_facts(preview.facts)
        show_code(spec, added)


def use_class_map(mapping: dict[str, str]) -> None:
    st.session_state["add_class_map"] = form.write_class_map(mapping)


def show_images(preview: Preview) -> None:
    """Cards with the label and the answer; a wrong one says so."""
    if not preview.images:
        return
    with st.grid("auto", min_column_width=PICTURE, gap="small") as grid:
        for number, image in enumerate(preview.images):
            words, right = form.card(image)
            with grid.cell(), st.container(gap="xxsmall"):
                st.image(image.uri, width=PICTURE, alt=f"Image {number + 1}: {words}")
                st.caption(plain(words) if right else f"**{plain(words)}**")


def show_facts(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        st.caption(plain(name[:1].upper() + name[1:]))
        st.markdown(plain(str(value)))


def show_code(spec: AddSpec, added: Added) -> None:
    preview = added.preview
    found = form.code(spec, added.uploads, None if preview is None else preview.split)
    with st.popover("Show code", icon=":material/code:"):
        st.caption("Command line")
        st.code(found.command, language="bash", wrap_lines=True)
        st.caption("Python")
        st.code(found.python, language="python", wrap_lines=True)


def add(added_id: str, spec: AddSpec) -> None:
    """Begin the long work."""
    title = (st.session_state.get("add_title") or "").strip()
    try:
        if not may_launch():
            raise CistError("Whoever adds something has to be signed in; sign in, and add it again.")
        named = spec.model_copy(update={"title": title}) if title else spec
        added_store().start(added_id, named, server_paths=may_read_server_paths())
        remember(added_id)
    except CistError as error:
        fault(PREVIEW, error)


def cancel(added_id: str) -> None:
    try:
        added_store().cancel(added_id)
    except CistError as error:
        fault(PREVIEW, error)


# ---- afterwards ------------------------------------------------------------------------------------------------------


def show_progress(added: Added) -> None:
    """How far the child process is; a fragment while it works, so that nothing else is drawn again."""

    def poll() -> None:
        share, words = form.progress_words(watch(added.id).progress, of_text=added.of_text)
        st.progress(share, words)

    st.title(plain(f"{added.title} is being added"), anchor=False)
    st.fragment(poll, run_every=POLL_SECONDS)()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Cancel", icon=":material/stop:", key="add-cancel", on_click=cancel, args=(added.id,))
        st.caption("You may leave this page and come back.", width="stretch")
    show_found(added)


def show_found(added: Added) -> None:
    """What the preview found, while more is on its way."""
    preview = added.preview
    if preview is not None:
        st.markdown(plain(form.facts_line(preview, of_text=added.of_text)))
        for remark in preview.remarks:
            st.caption(plain(remark))
        for warning in preview.warnings:
            st.warning(plain(warning), icon=":material/warning:")
        show_images(preview)


@st.cache_data(max_entries=64, show_spinner=False)
def read_size(file: str, changed_at: float) -> tuple[int, float | None]:
    """Samples and accuracy of a file of logits."""
    logit_set = LogitSet.load(file)
    return logit_set.num_samples, logit_set.accuracy


def size_in_words(added: Added) -> str:
    """How much there is, and how good it is."""
    if added.of_text:
        counted = 0 if added.preview is None else added.preview.num_samples
        return f"{counted:,} tokens"
    samples, accuracy = read_size(str(added.logit_file), added.logit_file.stat().st_mtime)
    return f"{samples:,} samples" + ("" if accuracy is None else f", accuracy {form.accuracy(accuracy, samples)}")


def show_ready(added: Added) -> None:
    """It is there: what it is, and the way to look at it."""
    remember(added.id)
    st.title(plain(f"{added.title} is ready: {size_in_words(added)}"), anchor=False)
    spec = added.spec
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Look at it", icon=":material/visibility:", type="primary", key="add-look",
            on_click=look_at, args=(added.id,),
        )  # fmt: skip
        st.button("Add another", icon=":material/add:", key="add-another", on_click=start_another)
        st.download_button(
            f"{'Tokens' if added.of_text else 'Logits'} (safetensors)",
            lambda: added.logit_file.read_bytes(), file_name=download_name(added),
            mime="application/octet-stream", icon=":material/download:", key="add-download", on_click="ignore",
        )  # fmt: skip
        if spec is not None:
            show_code(spec, added)
    show_found(added)


def look_at(added_id: str) -> None:
    open_source(added_id)
    st.session_state[GO] = True  # a callback cannot turn pages


def show_added(but: Added | None) -> None:
    """What was added so far: by this person, in this browser, or, on one's own machine, by anybody."""
    listed = [added for added in my_added() if added.spec is not None and (but is None or added.id != but.id)]
    if not listed:
        return
    st.subheader("Yours", anchor=False)
    st.caption(form.whose(signed_in=sign_in_configured(), own_machine=on_own_machine()))
    for added in listed:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"added-{added.id}"):
            st.markdown(f"**{plain(added.title)}** {plain(describe(added))}", width="stretch")
            if added.state is AddedState.READY:
                st.button(
                    "Open", icon=":material/visibility:", key=f"open-{added.id}", on_click=look_at, args=(added.id,)
                )
            else:
                st.button("Continue", key=f"continue-{added.id}", on_click=go_on, args=(added.id,))
            with st.popover("Delete", icon=":material/delete:", key=f"delete-menu-{added.id}"):
                kept = "tokens" if added.of_text else "logits"
                st.markdown(f"The {kept} and the uploaded files are removed.")
                st.button("Delete it", key=f"delete-{added.id}", type="primary", on_click=delete, args=(added.id,))


def go_on(added_id: str) -> None:
    st.session_state[ADDING] = added_id


def describe(added: Added) -> str:
    if added.state is not AddedState.READY:
        return f"· {added.state} · {byte_size(added.size)}"
    return f"· {size_in_words(added).replace(', accuracy', ' · accuracy')} · {byte_size(added.size)}"


def delete(added_id: str) -> None:
    try:
        added_store().delete(added_id)
        forget(added_id)
    except CistError as error:
        fault(PREVIEW, error)


def fill_form(added: Added | None) -> None:
    """The three steps: two to answer, one that shows what the answers lead to."""
    title = st.container()  # filled at the end; what stood there stays until then
    left, right = st.columns([2, 3], gap="medium")
    with left.container(border=True):
        answers = choose_teacher()
    with left.container(border=True):
        if answers["kind"] == TEXT:
            answers |= choose_texts(answers)
        else:
            answers |= choose_beside(answers.pop("where")) if answers["kind"] == LOGITS else choose_data(answers)
    answers["title"] = ""
    faults: dict[str, str] = st.session_state.pop(FAULTS, {})
    lacking = form.missing(answers) if not faults else None
    spec = None
    if lacking is None and not faults:
        try:
            spec = form.make_spec(answers)
        except CistError as error:
            faults["class_map"] = str(error)
    with right.container(border=True):
        look(spec, lacking)
    for place, reason in faults.items():
        put_fault(place, CistError(reason))
    found = "Add a teacher, data or logits of your own"
    if added is not None and spec is not None and form.same_but_for_the_title(added.spec, spec):
        preview = added.preview
        of_text = spec.language is not None
        found = found if preview is None else form.headline(preview, spec.title, of_text=of_text)
    title.title(plain(found), anchor=False)


if st.session_state.pop(GO, False):
    # Without a word on the parameters it would refuse to clear those of the sidebar, which come back by themselves.
    st.switch_page("../pages/overview.py", query_params={})
try:
    if not may_launch():
        page_head("Add a teacher, data or logits of your own")
        require_sign_in("add something of your own")
    else:
        adding = current()
        if adding is not None and adding.state is AddedState.RUNNING:
            show_progress(adding)
        elif adding is not None and adding.state is AddedState.READY:
            show_ready(adding)
        else:
            say_unfollowed(st.container(), ADDING)
            fill_form(adding)
        show_added(adding)
except CistError as error:
    show_error(error)
