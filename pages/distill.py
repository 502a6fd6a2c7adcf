"""Distill: try it: CIST against a fixed temperature in one press, or a run of your own, in the background."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.forms.run_views import MOST_SELECTED
from app.history import went_back
from app.links import page_choice
from app.people import may_read_server_paths, on_own_machine, require_sign_in, run_store
from app.settings import page_setting
from app.sliders.bar import hide_source
from app.state import current_view
from app.widgets import loading_torch, page_head, plain, show_error
from cist_core.compare.findings import NO_FLOOR_IN_TRAINING, floor_sentence
from cist_core.errors import CistError
from cist_core.temperature import Cist
from cist_core.wording import percent

SECTION = "Train"
ORDER = 10
ICON = ":material/science:"

with loading_torch():
    from app.forms import distill as form
    from app.forms import distill_language as language
    from app.forms.distill_estimate import EstimateJob
    from app.forms.distill_experiment import Experiment, matched_experiment
    from app.forms.distill_origin import Origin, find_origin
    from cist_core.objectives import create_objective, objective_specification
    from cist_core.runs import ensure_worker
    from cist_core.temperature.parameters import Choice, Number, Parameter, Switch
    from cist_core.training import PRESETS, RunConfig
    from cist_core.training.objective_names import objective_name

QUESTION = "Which soft labels train the better student?"
ESTIMATE_POLL_SECONDS = 2
IMAGES, TEXTS = "Images", "Texts"

view = current_view()
source = view.source
origin: Origin  # of images alone


def keyed(key: str) -> dict[str, Any]:
    """Every field is in the address and the link."""
    return page_setting(key, keep=False)


def follow(key: str, value: float) -> None:
    """Keep a field at the sidebar's value until somebody gives it one of its own."""
    followed = st.session_state.setdefault("_followed", {})
    if key in st.session_state and st.session_state[key] == followed.get(key):
        st.session_state[key] = value
    followed[key] = value


def bring_to_recipe(name: str, answers: dict[str, Any]) -> None:
    """Bring the fields below to a recipe that was just chosen, anew until they have been drawn with its values.

    Not in a callback: what that sets is lost where the clock of the estimate, or a second change, asks for another run
    before the browser has it.
    """
    if arrived or went_back():
        st.session_state["_recipe"] = name  # the address says what stands in the fields
    if st.session_state["_recipe"] != name:
        st.session_state.update(answers)


def choose_task() -> str:
    """What is distilled: images, or texts where the language models that ship are here."""
    try:
        offered = language.recipes()
    except CistError as error:  # images need none of those models
        show_error(error)
        return IMAGES
    if not offered:
        return IMAGES
    usual = IMAGES if source.text is None else TEXTS
    if st.session_state.setdefault("_task_of_source", usual) != usual:  # the sidebar has turned to the other kind
        st.session_state["task"] = usual
    chosen = st.segmented_control(
        "Task", (IMAGES, TEXTS), default=usual, required=True, label_visibility="collapsed", **keyed("task")
    )
    st.session_state["_task_of_source"] = usual
    return str(chosen)


def start_anew() -> None:
    """Another teacher starts at its own student, other images at their own recipe: the answers before do not fit."""
    before = st.session_state.setdefault("_distilled", (source.teacher, source.data))
    if before != (source.teacher, source.data):
        st.session_state["architecture"] = form.default_student(data, origin.architecture, origin.parameters)
    if before[1] != source.data:
        st.session_state["preset"] = form.preset_for(data)
        st.session_state["images"] = usual_images()
        st.session_state["_recipe"] = None  # the fields are brought to it even if its name is that of the last one


def usual_images() -> int | None:
    """How many training images the usual recipe takes, as far as there are so many."""
    images = form.preset_images(form.preset_for(data))
    return images if images is None or images < origin.training_images else None


def choose_networks() -> tuple[dict[str, Any], form.StudentChoice]:
    """What is distilled, on what, into what."""
    st.subheader("Student and images", anchor=False)
    right = "" if origin.accuracy is None else f", accuracy {percent(origin.accuracy)}"
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
    st.caption(f"{'Images: ' + ', '.join(apart) + '; none is shared. ' if apart else ''}{form.splits_sentence(data)}")
    consented = origin.trains_on is None or consent_to_test_images(origin.trains_on)
    download = False
    if not origin.present:
        st.warning(f"{source.data} is not on this machine.", icon=":material/cloud_download:")
        download = st.toggle(f"Download {source.data} when the run starts", **keyed("download"))
    content = {
        "data": {**origin.data_fields, "train_samples": images, "download": download},
        "teacher": origin.teacher_fields,
        "student": wanted if known and consented else None,
    }
    return content, student


def recipe_name() -> str:
    """The recipe that fields start at."""
    return str(st.session_state.get("lm_recipe", next(iter(language.recipes())))) if of_texts else form.preset_for(data)


def choose_language_networks() -> tuple[dict[str, Any], str]:
    """The same for texts, and the headline; a recipe fills in all of it."""
    st.subheader("Student and texts", anchor=False)
    recipes = language.recipes()
    name = st.selectbox(
        "Recipe", list(recipes),
        help="Brings models, texts, objective, epochs, learning rate and what stands under Advanced to its values.",
        **keyed("lm_recipe"),
    )  # fmt: skip
    st.caption(plain(recipes[name]))
    start = language.answers_of(name)
    bring_to_recipe(name, start)
    answers = dict(start)

    def named(label: str, key: str, offered: list[str], help_: str) -> None:
        known = list(dict.fromkeys([start[key], *offered, st.session_state.get(key, start[key])]))
        answers[key] = st.selectbox(label, known, accept_new_options=True, help=help_, **keyed(key)) or start[key]

    elsewhere = "Another can be typed: a folder of transformers, or `hf:OWNER/NAME`."
    named("Teacher", "lm_teacher", list(language.models()), elsewhere)
    st.caption(plain(language.words_on(answers["lm_teacher"])))
    offered = language.students(answers["lm_teacher"], start["lm_student"])
    named("Student", "lm_student", offered, f"With the teacher's vocabulary. {elsewhere}")
    st.caption(plain(language.words_on(answers["lm_student"])))
    named(
        "Texts", "lm_texts", language.texts(),
        "Another file can be typed: plain text, or `.jsonl` with `text`, `prompt` and `response`, or `messages`; or "
        "`hf:OWNER/NAME`.",
    )  # fmt: skip
    with st.grid(2, min_column_width=140, vertical_alignment="bottom"):
        for label, key in (("Validation texts", "lm_validation"), ("Test texts", "lm_test")):
            texts = answers["lm_texts"]
            usual = f"those of {texts}" if texts in language.texts() else "a tenth of the rows"
            answers[key] = st.text_input(label, start[key], placeholder=usual, **keyed(key))
        answers["lm_length"] = st.number_input(
            "Tokens a row, at most", 2, None, start["lm_length"], 1, **keyed("lm_length")
        )
        answers["lm_rows"] = st.number_input(
            "Training rows", 1, None, start["lm_rows"], 1, placeholder="all", help="Empty: all there are.",
            **keyed("lm_rows"),
        )  # fmt: skip
    download = language.may_fetch(answers) and st.toggle(
        "Download what is not here when the run starts", **keyed("lm_download")
    )
    headline = language.headline(answers["lm_teacher"], answers["lm_student"])
    try:
        checked = language.check_places(answers, may_read_paths=may_read_server_paths(), own_machine=on_own_machine())
    except CistError as error:
        show_error(error)
        return {**language.content(answers, download=download), "student": None}, headline
    return language.content(checked, download=download), headline


def consent_to_test_images(what: str) -> bool:
    """Whether somebody knows that the student will learn from images it should be tested on."""
    st.warning(
        f"These look like {plain(what)} images. A student that trains on them has seen the images that results are "
        "reported on: its accuracy says nothing about new images, and cannot be compared with published numbers.",
        icon=":material/warning:",
    )
    return st.checkbox(
        "Train on them all the same: test accuracy will come from a part cut out of these images",
        **keyed("train_on_test"),
    )


def choose_method() -> str:
    """An objective by its readable name, group by group."""
    titles = {name: "  ·  ".join(objective_name(name)) for name in form.methods()}
    key, default = ("lm_method", language.answers_of(recipe_name())["lm_method"]) if of_texts else ("method", None)
    return page_choice(
        st.selectbox,
        "Objective",
        titles,
        key=key,
        what="objective",
        default=default,
        help="Type to search: KD, CIST, DKD, ...",
    )


def choose_objective() -> tuple[str, dict[str, Any]]:
    """The loss, and the parameter that decides its soft labels; the others stand under Advanced."""
    st.subheader("Objective", anchor=False)
    method = choose_method()
    specification = objective_specification(method)
    st.caption(f"`{method}` · {specification.summary.replace('``', '`')}")
    main = [parameter for parameter in specification.parameters if form.is_main(parameter)]
    values: dict[str, Any] = {}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for parameter in main:
            with st.container(width=140):
                values[parameter.name] = form.answer(parameter, parameter_field(method, parameter))
    from_sidebar = [parameter.name for parameter in specification.parameters if parameter.name in form.FROM_SIDEBAR]
    if from_sidebar and not of_texts:
        st.caption(form.follows_sidebar(from_sidebar))
    elif starts := language.starts_caption(from_sidebar):
        st.caption(starts)
    return method, values


def choose_rest(method: str) -> dict[str, Any]:
    """Weighting, gradient, floor, lambdas, and what else an objective has."""
    parameters = [item for item in objective_specification(method).parameters if not form.is_main(item)]
    values = {}
    with st.grid(4, min_column_width=140, vertical_alignment="bottom"):
        for parameter in parameters:
            values[parameter.name] = form.answer(parameter, parameter_field(method, parameter))
    if not parameters:
        st.caption(f"{objective_name(method).title} has no further parameters.")
    return values


def checked_objective(method: str, values: dict[str, Any]) -> dict[str, Any] | None:
    """The objective, None if its parameters are wrong, which is said here; and on how many samples its floor holds."""
    try:
        objective = create_objective(method, **values)
        if of_texts:
            objective.check_by_chunks()
    except CistError as error:
        show_error(error)
        return None
    if of_texts and values.get("floor"):
        st.caption(language.floor_caption(values["rho"], values["floor"]))
    if "floor" in values and not of_texts:
        share = float(Cist(values["rho"], values["floor"]).at_floor(source.curves).mean())
        st.caption(plain(f"{floor_sentence(values['floor'], share)} (teacher, {source.split} split)."))
        if values["floor"] == 0 and values.get("gradient") == "constant":
            st.warning(f"{NO_FLOOR_IN_TRAINING}.", icon=":material/warning:")
    return {"name": method, "parameters": values}


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
        "values that somebody published; `cist objectives --json` says whose.",
        **keyed("beside"),
    )


def parameter_field(method: str, parameter: Parameter) -> Any:
    """The widget for one hyper-parameter, from what its kind says of it."""
    kind, key = parameter.kind, f"{method}.{parameter.name}"
    label, help_ = form.label(parameter), parameter.help
    if of_texts:
        key, start = language.parameter_key(method, parameter.name), form.start_of(parameter, **language.STARTS)
    else:
        start = form.start_of(
            parameter, tau=view.tau, rho=view.rho, floor=view.floor, mean_entropy=view.fixed.profile.mean
        )
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


class Recipe:
    """How long and how fast: the fields that are asked first, and those under Advanced."""

    def __init__(self, two_views: bool) -> None:
        self.two_views = two_views
        self.answers: dict[str, Any] = {}

    def number(self, label: str, key: str, step: float, help_: str = "") -> None:
        """Without bounds: a widget that refuses a value keeps the one before, and would launch that."""
        format_ = "%g" if isinstance(step, float) else None
        self.answers[key] = st.number_input(
            label, None, None, self.start[key], step, format=format_, help=help_ or None, placeholder="none",
            **keyed(key),
        )  # fmt: skip

    def choice(self, label: str, key: str, options: tuple[str, ...], help_: str = "") -> None:
        self.answers[key] = st.selectbox(
            label, options, options.index(self.start[key]), help=help_ or None, **keyed(key)
        )

    def ask(self) -> str:
        """Recipe, epochs, learning rate and seeds; the seeds as they were written."""
        name = recipe_name()
        if not of_texts:
            names = list(PRESETS)
            name = st.selectbox(
                "Recipe", names, index=names.index(form.preset_for(data)),
                help="Brings epochs, learning rate and what stands under Advanced to its values.", **keyed("preset"),
            )  # fmt: skip
            st.caption(PRESETS[name][0])
        self.name, self.start = name, form.recipe_answers(name)
        bring_to_recipe(name, self.start)
        with st.grid(3, min_column_width=100, vertical_alignment="bottom"):
            self.number("Epochs", "epochs", 1)
            self.number("Learning rate", "lr", 0.01, "The largest of the schedule.")
            seeds = st.text_input("Seeds", "0", help="Several, such as 0, 1, 2, make a run each.", **keyed("seeds"))
        return str(seeds)

    def ask_augmentation(self) -> None:
        """How training images are changed."""
        self.number("Shift (pixels)", "shift", 1, "Shift every training image by up to this many pixels.")
        self.number("Cut out from (share)", "cut", 0.01, "Train on a part of each image, at least so large.")
        self.answers["mirror"] = st.checkbox(
            "Mirror", self.start["mirror"], help="Mirror half of the images. Digits and letters do not survive it.",
            **keyed("mirror"),
        )  # fmt: skip
        self.answers["strong"] = self.two_views and st.checkbox(
            "Second view", self.start["strong"], help="A strongly changed copy of every image, for this method.",
            **keyed("strong"),
        )  # fmt: skip

    def ask_rest(self) -> None:
        """What few people change."""
        unit = "Rows" if of_texts else "Images"
        with st.grid(4, min_column_width=140, vertical_alignment="bottom"):
            self.number("Batch size", "batch", 1, f"{unit} a step.")
            if of_texts:
                self.choice(
                    "Reduction", "reduction", ("token", "sequence"),
                    "What the loss is a mean over: all counted tokens of a step, or first those of each row.",
                )  # fmt: skip
            else:
                self.ask_augmentation()
            self.choice("Optimiser", "optimiser", ("sgd", "adamw"))
            self.number("Weight decay", "decay", 0.0001)
            if self.answers["optimiser"] == "sgd":
                self.number("Momentum", "momentum", 0.05)
                self.answers["nesterov"] = st.checkbox("Nesterov", self.start["nesterov"], **keyed("nesterov"))
            self.choice("Schedule", "schedule", ("constant", "cosine", "multistep"))
            self.number("Warm-up (epochs)", "warmup", 1.0, "Linear growth of the learning rate at the start.")
            if self.answers["schedule"] == "multistep":
                self.answers["milestones"] = st.text_input(
                    "Milestones (epochs)", self.start["milestones"],
                    help="Epochs after which the learning rate shrinks.", **keyed("milestones"),
                )  # fmt: skip
                self.number("Factor", "factor", 0.05, "What the learning rate is multiplied by there.")
            self.number("Longest gradient", "clip", 1.0, "A longer one is shortened to this norm; empty: any.")
            self.number("Checkpoint every (steps)", "checkpoint", 100, "Empty: after every epoch only.")
            self.number("CPU threads", "threads", 1, "Empty: torch's choice. For small students 1 is often quickest.")
            self.number(
                "Micro-batch", "micro", 1,
                f"{unit} at a time, if a batch does not fit into the memory; empty: all of it.",
            )  # fmt: skip
            self.choice(
                "Precision", "precision", ("float32", "bfloat16", "float16"), "Half precision pays on GPUs only."
            )
            self.choice("Device", "device", ("auto", "cpu", "cuda", "mps"))


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


def show_estimate(configs: list[RunConfig], may_measure: bool) -> None:
    """How long the runs take: at once from measured steps, then from steps of this very run, taken meanwhile."""
    job = EstimateJob.of(st.session_state.setdefault("_estimates", {}), configs[0])
    waiting = may_measure and not job.ended

    def show() -> None:
        quick = None if of_texts else form.quick_estimate(configs[0], origin)
        if may_measure:
            job.go_on()
        st.caption(form.estimate_sentence(quick, job.found, job.fault, count=len(configs), measuring=may_measure))
        if job.ended and waiting:
            st.rerun()  # once more, without a clock

    st.fragment(show, run_every=ESTIMATE_POLL_SECONDS if waiting else None)()


def launch(configs: list[RunConfig], name: str, group: str | None = None) -> None:
    """Queue the runs, and leave the confirmation standing until the form changes."""
    store = run_store()
    group = group or (form.group_name(configs) if len(configs) > 1 else None)
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
    label = "Watch it on Runs" if len(ids) == 1 else "Watch them on Runs"
    st.page_link("../pages/runs.py", label=label, icon=":material/monitoring:")


def check(
    content: dict[str, Any], answers: dict[str, Any], seeds: str, beside: list[str], faults: DeltaGenerator
) -> list[RunConfig]:
    """A config for each seed and objective; none if anything is wrong, which is said in its own step."""
    if content["objective"] is None or content["student"] is None:
        return []
    try:
        configs = form.make_configs({**content, **form.recipe(answers)}, form.read_seeds(seeds), beside)
        if not of_texts:
            origin.check(configs[0])
        return configs
    except CistError as error:
        with faults:
            show_error(error)
        return []


def show_experiment(experiment: Experiment | None, configs: list[RunConfig], may: bool) -> None:
    """The comparison that most people come for, as one press: what will run, and how long."""
    with st.container(border=True):
        if experiment is None:
            st.markdown("**CIST against a fixed temperature of the same mean entropy**")
            st.caption(f"No fixed temperature has the mean entropy of CIST ρ = {view.rho:g} here; move ρ.")
            return
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.markdown(f"**{plain(experiment.title)}**")
        left.caption(plain(experiment.sentence(configs[0]) if configs else "Correct the form below first."))
        if view.floor == 0:
            left.caption(f":material/warning: {NO_FLOOR_IN_TRAINING}.")
        pressed = right.button(
            f"Run all {experiment.runs}", icon=":material/play_arrow:", type="primary", key="experiment",
            disabled=not (may and configs), width="stretch",
            help="Queues them; Runs shows means, intervals and whether the tests tell the two apart.",
        )  # fmt: skip
        if not configs:
            return
        try:
            if pressed:
                launch(configs, "", experiment.group_name())
            quick = form.quick_estimate(configs[0], origin)
            if quick is not None:
                left.caption(form.estimate_sentence(quick, None, None, count=len(configs), measuring=False))
            show_confirmation(configs)
        except CistError as error:
            show_error(error)


def finish(configs: list[RunConfig], may: bool) -> None:
    """Offer what can be done with the form."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        usual = ", ".join(dict.fromkeys(form.run_names(configs, "")))
        name = st.text_input("Name", placeholder=usual, key="run-name", persist_state="session", width=260)
        label = "Launch" if len(configs) < 2 else f"Launch {len(configs)} runs"
        launched = st.button(
            label, icon=":material/play_arrow:", key="launch", disabled=not (may and bool(configs))
        )  # fmt: skip
        if configs:
            export(configs)
    try:
        if launched:
            launch(configs, name)
        if configs:
            show_estimate(configs, may)
            show_confirmation(configs)
    except CistError as error:
        show_error(error)


def show_missing(error: CistError) -> None:
    """What the sidebar's source lacks, and where else to go."""
    st.subheader("Distillation needs the teacher's network and the images", anchor=False)
    st.info(plain(str(error)), icon=":material/info:")
    with st.container(horizontal=True):
        st.page_link("../pages/add.py", label="Add a model", icon=":material/add_circle:")
        st.page_link("../pages/rho.py", label="Choose ρ", icon=":material/target:")


def show_form() -> None:
    """The two columns, what is under Advanced, and what is done with the answers."""
    # Filled at the end; what stood there stays until then.
    finding, one_press, signed_in = st.container(), st.container(), st.container()
    with signed_in:
        may = require_sign_in("launch runs")
    left, right = st.columns(2, gap="large")
    with left:
        if of_texts:
            content, told = choose_language_networks()
        else:
            content, student = choose_networks()
            told = form.headline(origin.name, origin.parameters, student)
    with right:
        method, values = choose_objective()
        recipe = Recipe("strong_student_logits" in objective_specification(method).inputs)
        seeds = recipe.ask()
        faults = st.container()
    with st.expander("Advanced", icon=":material/tune:", key="distill-advanced"):
        st.markdown(f"**Objective: {objective_name(method).title}**")
        values |= choose_rest(method)
        beside = choose_beside(method)
        st.markdown("**Recipe and machine**")
        recipe.ask_rest()
    st.session_state["_recipe"] = recipe.name
    if not of_texts:
        st.session_state["_distilled"] = (source.teacher, source.data)
    with faults:
        content["objective"] = checked_objective(method, values)
    configs = check(content, recipe.answers, seeds, beside, faults)
    finding.subheader(plain(told), anchor=False)
    if not of_texts:
        may = may and (origin.present or content["data"]["download"])
        experiment = matched_experiment(source.curves, rho=view.rho, floor=view.floor)
        with one_press:
            chosen = experiment.configs(content, recipe.answers, check_origin=origin.check) if experiment else []
            show_experiment(experiment, chosen, may)
    finish(configs, may)


page_head(QUESTION)
arrived = "epochs" not in st.session_state  # the fields hold nothing yet but what the address says
of_texts = choose_task() == TEXTS
if of_texts:
    hide_source()  # its teacher, texts and temperatures are chosen here
try:
    if not of_texts:
        origin = find_origin(source)
        data = origin.data
        if not form.students(data):
            height, width, channels = data.image_shape
            raise CistError(f"No student here reads images of {height}x{width}x{channels}; use smaller ones.")
except CistError as error:
    show_missing(error)
else:
    if not of_texts:
        start_anew()
    show_form()
