"""Distill: try it: choose a student, an objective and a recipe, and train in the background."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.forms.run_views import MOST_SELECTED, duration
from app.people import require_sign_in, run_store
from app.settings import page_setting
from app.state import current_view
from app.widgets import loading_torch, plain, show_error
from cist_core.compare.findings import floor_sentence
from cist_core.errors import CistError
from cist_core.temperature import Cist
from cist_core.wording import percent, three_digits

SECTION = "Train"
ORDER = 10
ICON = ":material/science:"

with loading_torch():
    from app.forms import distill as form
    from app.forms.distill_origin import find_origin
    from cist_core.objectives import create_objective, objective_specification
    from cist_core.runs import ensure_worker
    from cist_core.temperature.parameters import Choice, Number, Parameter, Switch
    from cist_core.training import PRESETS, RunConfig

view = current_view()
source = view.source


def keyed(key: str) -> dict[str, Any]:
    """Every field is in the address and the link."""
    return page_setting(key, keep=False)


def follow(key: str, value: float) -> None:
    """Keep a field at the sidebar's value until somebody gives it one of its own."""
    followed = st.session_state.setdefault("_followed", {})
    if key in st.session_state and st.session_state[key] == followed.get(key):
        st.session_state[key] = value
    followed[key] = value


def apply_preset() -> None:
    """Bring the fields of the third step to the chosen recipe."""
    st.session_state.update(form.recipe_answers(st.session_state["preset"]))


def start_anew() -> None:
    """Another teacher starts at its own student, other images at their own recipe: the answers before do not fit."""
    before = st.session_state.get("_distilled", (source.teacher, source.data))
    st.session_state["_distilled"] = (source.teacher, source.data)
    if before != (source.teacher, source.data):
        st.session_state["architecture"] = form.default_student(data, origin.architecture, origin.parameters)
    if before[1] != source.data:
        st.session_state["preset"] = form.preset_for(data)
        st.session_state["images"] = usual_images()
        apply_preset()


def usual_images() -> int | None:
    """How many training images the usual recipe takes, as far as there are so many."""
    images = form.preset_images(form.preset_for(data))
    return images if images is None or images < origin.training_images else None


def choose_networks() -> tuple[dict[str, Any], form.StudentChoice]:
    """Step 1: what is distilled, on what, into what."""
    st.subheader("1 · Teacher, data, student", anchor=False)
    right = "" if origin.accuracy is None else f", {percent(origin.accuracy)} right"
    st.markdown(
        f"**{plain(origin.name)}** ({plain(origin.architecture)}, {origin.parameters:,} parameters{right}) "
        f"on **{plain(source.data)}**",
        help="Choose another teacher or data set in the sidebar.",
    )
    offered = {student.name: student for student in form.students(data)}
    name = st.selectbox(
        "Student architecture",
        list(offered),
        index=list(offered).index(form.default_student(data, origin.architecture, origin.parameters)),
        accept_new_options=True,
        help="The architectures that take images of this size, the smallest first. Another can be typed: "
        f"{form.names_elsewhere()}, with `@pretrained` behind it to start from published weights.",
        **keyed("architecture"),
    )
    known = True
    try:
        student = form.student_named(name, data)
    except CistError as error:
        show_error(error)
        student, known = form.StudentChoice(name, None, ""), False
    size = "" if student.parameters is None else f"{student.parameters:,} parameters. "
    st.caption(plain(f"{size}{student.description}"))
    wanted: dict[str, Any] = {"architecture": name}
    if name not in offered:
        wanted["image_size"] = st.number_input(
            "Image size (pixels)",
            1,
            value=None,
            step=1,
            placeholder="the network's own",
            help="Height and width that the student reads; images of another size are resized to it.",
            **keyed("student_size"),
        )
    if form.may_fetch(name):
        wanted["download"] = st.toggle("Download what the student needs when the run starts", **keyed("student_fetch"))
    images = st.number_input(
        "Training images",
        value=usual_images(),
        step=100,
        placeholder=f"all {origin.training_images:,}",
        help="Train on this many images only, as many of each class; empty: on all.",
        **keyed("images"),
    )
    apart = [f"{data.splits[split]:,} for {split}" for split in ("validation", "test") if split in data.splits]
    missing = "" if len(apart) == 2 else "What the data do not set apart is cut from the training images."
    st.caption(f"{'Images: ' + ', '.join(apart) + '; none is shared. ' if apart else ''}{missing}")
    download = False
    if not origin.present:
        st.warning(f"{source.data} is not on this machine.", icon=":material/cloud_download:")
        download = st.toggle(f"Download {source.data} when the run starts", **keyed("download"))
    content = {
        "data": {**origin.data_fields, "train_samples": images, "download": download},
        "teacher": origin.teacher_fields,
        "student": wanted if known else None,
    }
    return content, student


def choose_objective() -> tuple[dict[str, Any] | None, bool, list[str]]:
    """Step 2: the loss and its parameters, None if they are wrong; whether it takes two views; objectives beside it."""
    st.subheader("2 · Objective", anchor=False)
    method = st.selectbox(
        "Method", form.methods(), help="A loss of `cist_core.objectives`, by its name.", **keyed("method")
    )
    specification = objective_specification(method)
    st.caption(specification.summary.replace("``", "`"))
    from_sidebar = [parameter.name for parameter in specification.parameters if parameter.name in form.FROM_SIDEBAR]
    values: dict[str, Any] = {}
    with st.grid(2, min_column_width=100, vertical_alignment="bottom"):
        for parameter in specification.parameters:
            values[parameter.name] = form.answer(parameter, parameter_field(method, parameter))
    if from_sidebar:
        st.caption(form.follows_sidebar(from_sidebar))
    two_views = "strong_student_logits" in specification.inputs
    objective: dict[str, Any] | None = {"name": method, "parameters": values}
    try:
        create_objective(method, **values)
    except CistError as error:
        show_error(error)
        objective = None
    if objective is not None and "floor" in values:
        share = float(Cist(values["rho"], values["floor"]).at_floor(source.curves).mean())
        st.caption(plain(f"{floor_sentence(values['floor'], share)} (teacher, {source.split} split)."))
    return objective, two_views, choose_beside(method)


def choose_beside(method: str) -> list[str]:
    """Objectives to be trained under the same recipe, for comparison."""
    offered = form.offered_beside(method)
    return st.multiselect(
        "Train beside it",
        offered,
        placeholder=", ".join([*offered[:3], "…"]),
        max_selections=MOST_SELECTED - 1,  # together with the form's they fit on the charts of Runs
        select_all=False,
        help="A run each under the same recipe and seeds, to be compared on Runs: without a teacher (ce), by KD, or by "
        "values that somebody published; `cist objectives` says whose.",
        **keyed("beside"),
    )


def parameter_field(method: str, parameter: Parameter) -> Any:
    """The widget for one hyper-parameter, from what its kind says of it."""
    kind, key = parameter.kind, f"{method}.{parameter.name}"
    start = form.start_of(parameter, tau=view.tau, rho=view.rho, floor=view.floor, mean_entropy=view.fixed.profile.mean)
    label, help_ = form.label(parameter), parameter.help
    if parameter.name in form.FROM_SIDEBAR:
        follow(key, start)
    if isinstance(kind, Choice):
        return st.selectbox(label, kind.options, index=kind.options.index(start), help=help_, **keyed(key))
    if isinstance(kind, Switch):
        return st.checkbox(label, value=start, help=help_, **keyed(key))
    if isinstance(kind, Number):
        low, high = form.bounds(kind)
        step = 0.1 if start < 10 else 1.0
        return st.number_input(label, low, high, float(start), step, format="%g", help=help_, **keyed(key))
    return st.text_input(label, value=start, help=f"{help_}; {kind.expected}", **keyed(key))


def choose_recipe(two_views: bool) -> tuple[dict[str, Any], str, DeltaGenerator]:
    """Step 3: how long and how fast; the seeds, as they were written; and the place for what is wrong with them."""
    st.subheader("3 · Recipe", anchor=False)
    names = list(PRESETS)
    name = st.selectbox(
        "Recipe",
        names,
        index=names.index(form.preset_for(data)),
        on_change=apply_preset,
        help="Brings the fields below to the values of the recipe.",
        **keyed("preset"),
    )
    st.caption(PRESETS[name][0])
    start = form.recipe_answers(name)
    answers: dict[str, Any] = {}

    def number(label: str, key: str, step: float, help_: str = "") -> None:
        """Without bounds: a widget that refuses a value keeps the one before, and would launch that."""
        value = start[key]
        format_ = "%g" if isinstance(step, float) else None
        answers[key] = st.number_input(
            label, None, None, value, step, format=format_, help=help_ or None, placeholder="none", **keyed(key)
        )

    def choice(label: str, key: str, options: tuple[str, ...], help_: str = "") -> None:
        answers[key] = st.selectbox(label, options, options.index(start[key]), help=help_ or None, **keyed(key))

    with st.grid(2, min_column_width=100, vertical_alignment="bottom"):
        number("Epochs", "epochs", 1)
        number("Learning rate", "lr", 0.01, "The largest of the schedule.")
        number("Batch size", "batch", 1, "Images a step.")
        seeds = st.text_input("Seeds", "0", help="Several, such as 0, 1, 2, make a run each.", **keyed("seeds"))
        number("Shift (pixels)", "shift", 1, "Shift every training image by up to this many pixels.")
        answers["mirror"] = st.checkbox(
            "Mirror", start["mirror"], help="Mirror half of the images. Digits and letters do not survive it.",
            **keyed("mirror"),
        )  # fmt: skip
        answers["strong"] = two_views and st.checkbox(
            "Second view", start["strong"], help="A strongly changed copy of every image, for this method.",
            **keyed("strong"),
        )  # fmt: skip
    faults = st.container()
    with st.expander("Advanced", icon=":material/tune:"), st.grid(2, min_column_width=100, vertical_alignment="bottom"):
        choice("Optimiser", "optimiser", ("sgd", "adamw"))
        number("Weight decay", "decay", 0.0001)
        if answers["optimiser"] == "sgd":
            number("Momentum", "momentum", 0.05)
            answers["nesterov"] = st.checkbox("Nesterov", start["nesterov"], **keyed("nesterov"))
        choice("Schedule", "schedule", ("constant", "cosine", "multistep"))
        number("Warm-up (epochs)", "warmup", 1.0, "Linear growth of the learning rate at the start.")
        if answers["schedule"] == "multistep":
            answers["milestones"] = st.text_input(
                "Milestones (epochs)", start["milestones"], help="Epochs after which the learning rate shrinks.",
                **keyed("milestones"),
            )  # fmt: skip
            number("Factor", "factor", 0.05, "What the learning rate is multiplied by there.")
        number("Cut out from (share)", "cut", 0.01, "Train on a part of each image, at least so large.")
        number("Longest gradient", "clip", 1.0, "A longer one is shortened to this norm; empty: any.")
        number("Checkpoint every (steps)", "checkpoint", 100, "Empty: after every epoch only.")
        number("CPU threads", "threads", 1, "Empty: torch's choice. For small students 1 is often quickest.")
        number(
            "Micro-batch", "micro", 1, "Images at a time, if a batch does not fit into the memory; empty: all of it."
        )
        choice("Precision", "precision", ("float32", "bfloat16", "float16"), "Half precision pays on GPUs only.")
        choice("Device", "device", ("auto", "cpu", "cuda", "mps"))
    return answers, seeds, faults


def export(configs: list[RunConfig]) -> None:
    """The way out: the command line, and the config it takes."""
    text = configs[0].model_dump_json(indent=2) + "\n"
    with st.popover("Export", icon=":material/ios_share:"):
        st.caption("Command line")
        st.code(form.commands(configs), language="bash", wrap_lines=True)
        st.download_button(
            "config.json", text, file_name="config.json", mime="application/json", icon=":material/download:",
            key="distill-config", on_click="ignore", width="stretch",
        )  # fmt: skip
        st.code(text, language="json", height=360)


def show_estimate(configs: list[RunConfig], wanted: bool) -> None:
    """Time the first config if asked to, and keep the answer while the form stands."""
    kept: dict[str, form.Estimate] = st.session_state.setdefault("_estimates", {})
    key = configs[0].model_dump_json(exclude={"seed"})
    if wanted and key not in kept:
        with st.spinner("Timing a few steps"):
            kept[key] = form.estimate(configs[0])
    if key in kept:
        found = kept[key]
        whole = found.seconds * len(configs)
        each = "" if len(configs) == 1 else f"for {len(configs)} runs of {duration(found.seconds)}, "
        st.info(
            f"About **{duration(whole)}**: {each}{found.steps:,} steps of "
            f"{three_digits(found.seconds_per_step * 1000)} ms and {duration(found.teacher_seconds)} "
            f"for the teacher's logits, on {found.device}.",
            icon=":material/schedule:",
        )


def launch(configs: list[RunConfig], name: str) -> None:
    """Queue the runs, and leave the confirmation standing until the form changes."""
    store = run_store()
    group = form.group_name(configs) if len(configs) > 1 else None
    names = form.run_names(configs, name)
    runs = store.add_all(list(zip(names, configs, strict=True)), group=group)
    ensure_worker(store)
    ahead = store.count_active() - len(runs)
    st.session_state["_launched"] = ([config.model_dump_json() for config in configs], [run.id for run in runs], ahead)
    st.session_state["run"] = [run.id for run in runs]  # what Runs opens on


def show_confirmation(configs: list[RunConfig]) -> None:
    launched, ids, ahead = st.session_state.get("_launched", ([], [], 0))
    if launched != [config.model_dump_json() for config in configs]:
        return
    count = "The run is" if len(ids) == 1 else f"{len(ids)} runs are"
    behind = "" if ahead == 0 else " behind 1 other" if ahead == 1 else f" behind {ahead} others"
    st.success(f"{count} in the queue{behind}. You may leave this page, or close it.", icon=":material/check_circle:")
    st.page_link("../pages/runs.py", label="Watch it on Runs", icon=":material/monitoring:")


def check(
    content: dict[str, Any], answers: dict[str, Any], seeds: str, beside: list[str], faults: DeltaGenerator
) -> list[RunConfig]:
    """A config for each seed and objective; none if anything is wrong, which is said in its own step."""
    if content["objective"] is None or content["student"] is None:
        return []
    try:
        configs = form.make_configs({**content, **form.recipe(answers)}, form.read_seeds(seeds), beside)
        origin.check(configs[0])
        return configs
    except CistError as error:
        with faults:
            show_error(error)
        return []


def finish(content: dict[str, Any], configs: list[RunConfig]) -> None:
    """Offer what can be done with the form."""
    may = require_sign_in("launch runs")
    ready = may and bool(configs) and (origin.present or content["data"]["download"])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        usual = ", ".join(dict.fromkeys(form.run_names(configs, "")))
        name = st.text_input("Name", placeholder=usual, key="run-name", persist_state="session", width=260)
        timed = st.button("Estimate time", icon=":material/schedule:", key="estimate-time", disabled=not ready)
        label = "Launch" if len(configs) < 2 else f"Launch {len(configs)} runs"
        launched = st.button(label, icon=":material/play_arrow:", type="primary", key="launch", disabled=not ready)
        if configs:
            export(configs)
    try:
        if launched:
            launch(configs, name)
        if configs:
            show_estimate(configs, timed)
            show_confirmation(configs)
    except CistError as error:
        show_error(error)


try:
    origin = find_origin(source)
    data = origin.data
    if not form.students(data):
        height, width, channels = data.image_shape
        raise CistError(f"No student here reads images of {height}x{width}x{channels}; use smaller ones.")
except CistError as error:
    st.title("Distillation needs the teacher's network and the images", anchor=False)
    st.info(plain(str(error)), icon=":material/info:")
    with st.container(horizontal=True):
        st.page_link("../pages/add.py", label="Add a model", icon=":material/add_circle:")
        st.page_link("../pages/rho.py", label="Choose ρ", icon=":material/target:")
else:
    start_anew()
    title = st.container()  # filled at the end; what stood there stays until then
    first, second, third = st.columns(3, border=True)
    with first:
        content, student = choose_networks()
    with second:
        objective, two_views, beside = choose_objective()
    with third:
        answers, seeds, faults = choose_recipe(two_views)
    title.title(plain(form.headline(origin.name, origin.parameters, student)), anchor=False)
    content["objective"] = objective
    finish(content, check(content, answers, seeds, beside, faults))
