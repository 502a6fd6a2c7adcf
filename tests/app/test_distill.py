"""The Distill page and the form behind it: its fields make the config that a run is trained with."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from example_runs import ExampleStore
from streamlit.testing.v1 import AppTest

from app.forms import distill as form
from app.forms import distill_estimate
from app.forms.distill_estimate import Estimate, EstimateJob
from app.forms.distill_origin import find_origin, held_out_name
from cist_core import cli
from cist_core.compare.recommendation import rho_outcome
from cist_core.data.loading import DATASETS
from cist_core.errors import CistError
from cist_core.objectives import objective_names, objective_specification
from cist_core.runs import expand_sweep
from cist_core.training import PRESETS, RunConfig, parse_config, preset
from cist_core.training.objective_names import OBJECTIVE_NAMES, objective_name
from cist_core.training.step_times import QuickEstimate
from cist_core.zoo.architectures import ARCHITECTURES, create_model

ROOT = Path(__file__).resolve().parents[2]
SIDEBAR = {"tau": 2.0, "rho": 3.0, "floor": 0.5, "mean_entropy": 0.6}


@pytest.fixture
def store(tmp_path, monkeypatch) -> ExampleStore:
    """The store that the page puts runs in."""
    example = ExampleStore(tmp_path)
    monkeypatch.setattr("cist_core.runs.RunStore", lambda: example)
    monkeypatch.setattr("cist_core.runs.ensure_worker", lambda store: example.asked.append(("worker",)))
    return example


def open_distill(**query: str | list[str]) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    app.run()
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page("../pages/distill.py").run()
    assert not app.exception
    return app


def config_of(app: AppTest) -> RunConfig:
    """The config that the page exports."""
    text = next(code.value for code in app.main.code if code.language == "json")
    return parse_config(json.loads(text))


# The form


@pytest.mark.parametrize("name", ["mnist-5k", "cifar100"])
def test_students_fit_the_images_and_are_counted_rightly(name: str) -> None:
    data = DATASETS[name]
    offered = form.students(data)
    assert offered
    assert [student.parameters for student in offered] == sorted(student.parameters for student in offered)
    for student in offered[:3]:
        architecture = ARCHITECTURES[student.name]
        assert (architecture.image_size, architecture.channels) == (data.image_shape[0], data.image_shape[2])
        model = create_model(student.name, num_classes=data.classes)
        assert student.parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("data", "teacher", "student"),
    [
        ("mnist-5k", "cnn_32_64", "cnn_16_32"),
        ("mnist-5k", "mlp_14x14", "mlp_14x14"),
        ("cifar100", "resnet20", "resnet8"),
        ("cifar100", "vgg13", "vgg8"),
    ],
)
def test_the_student_is_smaller_where_there_is_a_smaller_one(data: str, teacher: str, student: str) -> None:
    info = DATASETS[data]
    assert form.default_student(info, teacher, form.count_parameters(teacher, info.classes)) == student
    assert form.default_student(info, "one that nobody knows", 10**9) == form.students(info)[-1].name


def test_a_student_from_elsewhere_can_be_named_but_no_code_and_no_folder(tmp_path) -> None:
    data = DATASETS["mnist-5k"]
    assert form.student_named("cnn_16_32", data) in form.students(data)
    named = form.student_named("torchvision:resnet18@pretrained", data)
    assert named.parameters == 11_181_642  # 11,176,512 without the head, and 10 rows of 513
    assert form.student_named("hf:somebody/nothing-here", data).parameters is None
    assert form.headline("t", 10**6, form.StudentChoice("hf:a/b", None, "")) == "Distill t into hf:a/b"
    assert [form.may_fetch(name) for name in ("torchvision:resnet18", named.name, "hf:a/b")] == [False, True, True]
    (tmp_path / "config.json").write_text("{}")
    for name, told in (
        (str(tmp_path), "There is no student"),
        ("my_nets:build", "would run code of its own"),
        ("resne8", "or type torchvision:NAME"),
        ("torchvision:resne8", "no classifier 'resne8'"),
    ):
        with pytest.raises(CistError, match=told):
            form.student_named(name, data)
    content = preset("demo").model_dump(mode="json")
    with pytest.raises(CistError, match="There is no student"):
        form.make_configs({**content, "student": {"architecture": str(tmp_path)}}, [0])


def test_every_recipe_survives_its_way_through_the_form() -> None:
    for name in PRESETS:
        config = preset(name)
        made = config.changed(**form.recipe(form.recipe_answers(name)))
        assert made.model_dump() == config.model_dump()


def test_what_an_optimiser_or_schedule_ignores_is_left_out() -> None:
    answers = form.recipe_answers("cifar-240") | {"optimiser": "adamw", "schedule": "cosine"}
    made = form.recipe(answers)
    assert "momentum" not in made["optimiser"]
    assert "milestones" not in made["schedule"]


def test_milestones_that_are_no_numbers_are_named() -> None:
    with pytest.raises(CistError, match=r"milestones .* got 'soon'"):
        form.recipe(form.recipe_answers("cifar-240") | {"milestones": "soon"})


@pytest.mark.parametrize(("text", "seeds"), [("0", [0]), ("0, 1,2", [0, 1, 2]), ("7 7 3", [7, 3])])
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert form.read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "one", "-1", "1.5", "0;1"])
def test_other_seeds_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(CistError, match="such as 0, 1, 2"):
        form.read_seeds(text)


def test_every_objective_starts_at_values_that_it_accepts() -> None:
    content = preset("demo").model_dump(mode="json")
    for method in form.methods():
        parameters = objective_specification(method).parameters
        values = {
            parameter.name: form.answer(parameter, form.start_of(parameter, **SIDEBAR)) for parameter in parameters
        }
        config = form.make_configs({**content, "objective": {"name": method, "parameters": values}}, [0])[0]
        made = config.objective.parameters
        assert made.get("tau", 2.0) == 2.0
        assert made.get("rho", 3.0) == 3.0
        assert made.get("floor", 0.5) == 0.5
        defaults = {p.name: p.default for p in parameters if not p.required and p.name not in form.FROM_SIDEBAR}
        assert {name: made[name] for name in defaults} == defaults


def test_the_command_trains_what_the_form_says() -> None:
    config = preset("demo")
    assert form.commands([config]) == "cist distill config.json"
    several = [config.changed(seed=seed) for seed in (0, 4)]
    assert form.commands(several) == "cist sweep config.json --seeds 0 4"


def test_objectives_beside_the_forms_are_runs_of_the_same_recipe_seed_by_seed() -> None:
    content = preset("demo").model_dump(mode="json")
    configs = form.make_configs(content, [0, 4], ["ce", "cist-authors", "ce"])
    assert [(config.objective.label, config.seed) for config in configs] == [
        ("cist:rho=4", 0), ("ce", 0), ("cist-authors", 0), ("cist:rho=4", 4), ("ce", 4), ("cist-authors", 4)
    ]  # fmt: skip
    assert {config.changed(objective="kd", seed=0).model_dump_json() for config in configs} == {
        preset("demo").changed(objective="kd").model_dump_json()
    }
    command = form.commands(configs)
    assert command == "cist sweep config.json --objective cist:rho=4 ce cist-authors --seeds 0 4"
    options = cli.build_parser().parse_args(shlex.split(command)[1:])
    entries = expand_sweep(preset("demo"), objectives=options.objective, seeds=options.seeds)
    assert {entry.config.model_dump_json() for entry in entries} == {config.model_dump_json() for config in configs}
    assert form.run_names(configs, "")[:3] == ["cist:rho=4", "ce", "cist-authors"]
    assert form.run_names(configs, "mine")[:2] == ["mine, cist:rho=4", "mine, ce"]
    assert form.run_names(configs[:1], "mine") == ["mine"]
    assert form.group_name(configs).startswith("cist:rho=4 and ce and cist-authors, cnn_16_32, ")


def test_an_objective_beside_itself_is_left_out() -> None:
    content = preset("demo").changed(objective="kd").model_dump(mode="json")
    assert [config.objective.label for config in form.make_configs(content, [0], ["kd-hinton", "ce"])] == ["kd", "ce"]


def test_beside_a_method_stand_the_usual_comparison_and_everything_that_needs_no_value() -> None:
    offered = form.offered_beside("cist")
    assert offered[:3] == ["ce", "kd-hinton", "cist-authors"]
    assert len(set(offered)) == len(offered)
    assert "cist" not in form.offered_beside("kd")  # it needs rho
    assert "ce" not in form.offered_beside("ce")
    for name in offered:
        preset("demo").changed(objective=name)


ANSWER = {
    "seconds_per_step": 0.01, "steps": 200, "steps_per_epoch": 5, "epochs": 40, "seconds": 3.0,
    "teacher_seconds": 0.4, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def engine(monkeypatch):
    """A stand-in for the process that times steps: `code` is what it runs, `started` the configs it was given."""
    monkeypatch.setattr(distill_estimate, "REST_SECONDS", 0.0)
    stand_in = SimpleNamespace(code=f"print({json.dumps(ANSWER)!r})", started=[], processes=[])
    start_process = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen[str]:
        assert command[-1] == "--estimate"
        stand_in.started.append(json.loads(Path(command[-2]).read_text()))
        stand_in.processes.append(start_process([sys.executable, "-c", stand_in.code], **options))
        return stand_in.processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return stand_in


def wait(job: EstimateJob) -> None:
    end = time.monotonic() + 30
    while not job.ended:
        assert time.monotonic() < end
        job.go_on()
        time.sleep(0.02)


def test_an_estimate_is_read_from_the_engine(engine) -> None:
    jobs: dict[str, EstimateJob] = {}
    job = EstimateJob.of(jobs, preset("demo"))
    wait(job)
    assert (job.found.seconds, job.found.steps, job.found.device) == (3.0, 200, "cpu")
    assert EstimateJob.of(jobs, preset("demo").changed(seed=3)) is job
    assert [config["epochs"] for config in engine.started] == [40]


def test_an_engine_that_refuses_is_quoted(engine) -> None:
    engine.code = "import sys; sys.exit('starting\\ncist: The images are too small; choose others.')"
    job = EstimateJob.of({}, preset("demo"))
    wait(job)
    assert job.fault == "The images are too small; choose others."


def test_a_form_that_changes_stops_the_timing_of_the_one_before(engine) -> None:
    engine.code = "import time; time.sleep(60)"
    jobs: dict[str, EstimateJob] = {}
    before = EstimateJob.of(jobs, preset("demo"))
    before.go_on()
    (process,) = engine.processes
    assert process.poll() is None
    after = EstimateJob.of(jobs, preset("demo").changed(epochs=3))
    assert after is not before
    assert process.poll() is not None


def test_timing_that_takes_too_long_is_ended_with_advice(engine, monkeypatch) -> None:
    engine.code = "import time; time.sleep(60)"
    monkeypatch.setattr(distill_estimate, "MOST_SECONDS", 0.0)
    job = EstimateJob.of({}, preset("demo"))
    wait(job)
    assert "Choose smaller ones, or fewer images" in job.fault


QUICK = QuickEstimate(seconds=30.0, steps=200, seconds_per_step=0.1, teacher_seconds=1.0)
FOUND = Estimate(seconds=75.0, steps=240, seconds_per_step=0.31, teacher_seconds=1.2, device="cpu")


@pytest.mark.parametrize(
    ("quick", "found", "fault", "measuring", "words"),
    [
        (QUICK, None, None, False, "About **1 min** for 2 runs, one after the other, from a table of measured steps."),
        (
            QUICK, None, None, True,
            "About **1 min** for 2 runs, one after the other, from a table of measured steps. Timing a few steps of "
            "this run …",
        ),
        (None, None, None, True, "Timing a few steps of this run …"),
        (None, None, None, False, "How long it takes is not known before it is timed."),
        (
            QUICK, FOUND, None, True,
            "About **2 min 30 s** for 2 runs, one after the other: 240 steps of 310 ms and 1 s for the teacher "
            "in each run, timed here on cpu.",
        ),
        (None, None, "No room.", True, "It could not be timed here: No room."),
    ],
)  # fmt: skip
def test_the_estimate_says_where_it_is_from(quick, found, fault, measuring: bool, words: str) -> None:
    assert form.estimate_sentence(quick, found, fault, count=2, measuring=measuring) == words


def test_the_table_estimates_at_once_what_it_knows_and_nothing_else() -> None:
    origin = find_origin(SimpleNamespace(teacher="mnist5k-cnn", data="mnist-5k"))
    found = form.quick_estimate(preset("demo").changed(machine={"device": "cpu"}), origin)
    assert found.steps == 40 * 5
    twice = form.quick_estimate(preset("demo").changed(epochs=80, machine={"device": "cpu"}), origin)
    assert found.seconds < twice.seconds < 2 * found.seconds
    assert form.quick_estimate(preset("demo").changed(machine={"device": "cuda"}), origin) is None
    elsewhere = preset("demo").changed(student={"architecture": "torchvision:resnet18", "image_size": 32})
    assert form.quick_estimate(elsewhere, origin) is None


@pytest.mark.parametrize(
    ("data", "splits", "held_out"),
    [
        ("imagenet/val", {"all": 50_000}, "validation"),
        ("/data/cifar-test.npz", {"all": 10_000}, "test"),
        ("C:\\images\\Test", {"all": 10}, "test"),
        ("photos", {"test": 10}, "test"),
        ("photos/contest", {"all": 10}, None),
        ("photos/test", {"train": 10, "test": 10}, None),
        ("tests/of/photos", {"all": 10}, None),
    ],
)
def test_images_that_are_held_out_are_known_by_their_name(data: str, splits: dict[str, int], held_out) -> None:
    assert held_out_name(data, splits) == held_out


def test_data_say_where_validation_and_test_come_from() -> None:
    data = DATASETS["mnist-5k"]
    assert form.splits_sentence(data) == ""
    assert form.splits_sentence(replace(data, splits={"all": 10})) == (
        "No validation or test split found: both will be taken from these images."
    )
    assert form.splits_sentence(replace(data, splits={"train": 10, "test": 3})) == (
        "No validation split found: it will be taken from the training images."
    )


# The page


def test_the_first_view_distills_the_teacher_of_the_sidebar(store) -> None:
    app = open_distill()
    config = config_of(app)
    assert app.title[0].value == "Which soft labels train the better student?"
    assert app.main.subheader[0].value == "Distill mnist5k-cnn into cnn_16_32, 3.98 times smaller"
    assert (config.teacher.name, config.data.name, config.data.train_samples) == ("mnist5k-cnn", "mnist-5k", 100)
    assert config.student.architecture == "cnn_16_32"
    assert config.objective.parameters["rho"] == app.slider(key="rho").value
    assert (config.epochs, config.optimiser) == (40, preset("demo").optimiser)
    assert not app.error


def test_a_typed_student_is_in_the_config_and_a_wrong_one_is_named_once(store) -> None:
    app = open_distill(architecture="torchvision:mobilenet_v3_small", student_size="32")
    student = config_of(app).student
    assert (student.architecture, student.image_size) == ("torchvision:mobilenet_v3_small", 32)
    assert "torchvision:mobilenet_v3_small" in app.main.subheader[0].value.replace("\\", "")
    assert not app.error
    app = open_distill(architecture="torchvision:mobilenet_v3_smal")
    assert [error.value for error in app.error if "no classifier" in error.value]
    assert len(app.error) == 1
    assert app.button(key="launch").disabled


def test_rho_follows_the_sidebar_until_it_is_changed_here(store) -> None:
    app = open_distill()
    app.slider(key="rho").set_value(3.0).run()
    assert config_of(app).objective.parameters["rho"] == 3.0
    app.number_input(key="cist.rho").set_value(5.5).run()
    app.slider(key="rho").set_value(2.0).run()
    assert config_of(app).objective.parameters["rho"] == 5.5


def test_the_floor_follows_the_sidebar_until_it_is_changed_here_and_says_what_it_holds(store) -> None:
    app = open_distill()
    assert config_of(app).objective.parameters["floor"] == 1.0
    app.number_input(key="floor").set_value(2.0).run()
    assert config_of(app).objective.parameters["floor"] == 2.0
    app.number_input(key="cist.floor").set_value(3.0).run()
    app.number_input(key="cist.rho").set_value(5.0).run()
    curves = app.session_state["_view"].source.curves
    share = float(np.mean(curves.statistics.maximum / 5.0 < 3.0))
    assert 0.1 < share < 0.9
    assert any(
        f"The floor of 3 holds on {share * 100:.1f} % of the samples" in caption.value
        and "(teacher, test split)" in caption.value
        for caption in app.main.caption
    )
    app.number_input(key="floor").set_value(0.0).run()
    assert config_of(app).objective.parameters["floor"] == 3.0


def test_a_method_without_cist_has_no_floor(store) -> None:
    app = open_distill(method="kd")
    assert "floor" not in config_of(app).objective.parameters
    assert not any("floor" in caption.value for caption in app.main.caption)


@pytest.mark.parametrize("method", form.methods())
def test_every_method_shows_its_own_fields_and_makes_a_config(store, method: str) -> None:
    app = open_distill(method=method)
    fields = {
        str(widget.key).removeprefix(f"{method}.")
        for widget in [*app.main.number_input, *app.main.selectbox, *app.main.checkbox, *app.main.text_input]
        if widget.key and str(widget.key).startswith(f"{method}.")
    }
    assert fields == {parameter.name for parameter in objective_specification(method).parameters}
    assert config_of(app).objective.name == method


def test_a_recipe_brings_its_values(store) -> None:
    app = open_distill()
    app.selectbox(key="preset").select("cifar-240").run()
    config = config_of(app)
    assert config.schedule == preset("cifar-240").schedule
    assert (config.epochs, config.batch_size, config.augmentation.crop_padding) == (240, 64, 4)


def test_a_recipe_brings_its_values_though_the_run_that_was_told_of_it_was_stopped(store) -> None:
    """As the clock of the estimate does it: a run that knows the new recipe, and draws none of the fields."""
    app = open_distill(epochs="50")
    app.session_state["preset"] = "cifar-240"  # known to the session, and no callback is called for it any more
    app.run()
    assert config_of(app).epochs == 240


def test_a_link_with_a_recipe_keeps_the_values_that_it_names(store) -> None:
    app = open_distill(preset="cifar-240", epochs="50")
    app.run()
    config = config_of(app)
    assert (config.epochs, config.batch_size) == (50, 64)


def test_images_and_texts_start_at_their_own_recipe_each_time(store) -> None:
    app = open_distill(epochs="50")
    app.get_by_key("task").set_value("Texts").run()
    assert config_of(app).epochs == preset("demo-language").epochs
    app.number_input(key="epochs").set_value(7).run()
    app.get_by_key("task").set_value("Images").run()
    assert config_of(app).epochs == 40


def test_another_data_set_starts_at_its_own_student_and_recipe(store) -> None:
    app = open_distill()
    app.number_input(key="epochs").set_value(3).run()
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    assert not app.exception
    assert app.selectbox(key="architecture").value == "resnet8"
    assert app.number_input(key="epochs").value == 240


def test_another_teacher_starts_at_its_own_student_and_leaves_the_recipe(store) -> None:
    app = open_distill(architecture="cnn_16_32")
    app.number_input(key="epochs").set_value(3).run()
    app.selectbox(key="teacher_box").select("mnist5k-cnn-small").run()
    assert app.selectbox(key="architecture").value == "mlp_14x14"
    assert app.number_input(key="epochs").value == 3


def test_data_that_are_not_there_wait_for_permission(store, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path / "none"))
    app = open_distill()
    app.selectbox(key="teacher_box").select("cifar100-resnet20").run()
    assert "cifar100 is not on this machine" in app.main.warning[0].value
    assert app.button(key="launch").disabled
    app.toggle(key="download").set_value(True).run()
    assert not app.button(key="launch").disabled
    assert config_of(app).data.download is True


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seeds", "a, b", "such as 0, 1, 2"),
        ("cist.rho", 0.0, "Expected rho of the objective 'cist' to be a positive number"),
        ("lr", 0.0, "optimiser.learning_rate"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_can_be_launched(store, key: str, value: object, words: str) -> None:
    app = open_distill()
    app.get_by_key(key).set_value(value).run()
    assert not app.exception
    assert words in app.error[0].value
    assert app.button(key="launch").disabled
    assert app.button(key="experiment").disabled == (key == "lr")


def test_launching_queues_the_run_and_says_where_to_watch_it(store) -> None:
    app = open_distill()
    app.number_input(key="epochs").set_value(2).run()
    app.text_input(key="run-name").set_value("my first").run()
    app.button(key="launch").click().run()
    (run,) = store.list_runs()
    assert run.name == "my first"
    assert run.group is None
    assert run.directory.config() == config_of(app)
    assert ("worker",) in store.asked
    assert "The run is in the queue" in app.success[0].value
    assert app.session_state["run"] == [run.id]
    app.number_input(key="epochs").set_value(3).run()
    assert not app.success


def test_several_seeds_are_several_runs_of_one_group(store) -> None:
    app = open_distill(seeds="0, 1")
    assert app.button(key="launch").label == "Launch 2 runs"
    app.button(key="launch").click().run()
    runs = store.list_runs()
    assert {run.directory.config().seed for run in runs} == {0, 1}
    assert len({run.group for run in runs}) == 1
    assert runs[0].group
    assert "2 runs are in the queue" in app.success[0].value


def test_objectives_beside_it_are_launched_together_and_told_apart_by_name(store) -> None:
    app = open_distill(beside=["ce", "cist-authors"], seeds="0, 1")
    assert app.multiselect(key="beside").value == ["ce", "cist-authors"]
    assert app.button(key="launch").label == "Launch 6 runs"
    app.button(key="launch").click().run()
    runs = store.list_runs()[::-1]
    rho = app.slider(key="rho").value
    assert [run.name for run in runs] == [f"cist:rho={rho:g}", "ce", "cist-authors"] * 2
    assert [run.directory.config().seed for run in runs] == [0, 0, 0, 1, 1, 1]
    assert len({run.group for run in runs}) == 1


def test_a_store_that_refuses_is_quoted(store, monkeypatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise CistError("The queue holds 1,000 runs; wait for some to end.")

    monkeypatch.setattr(store, "add_all", full)
    app = open_distill()
    app.button(key="launch").click().run()
    assert app.error[0].value == "The queue holds 1,000 runs; wait for some to end."


def test_one_press_queues_cist_against_the_matched_temperature_over_three_seeds(store) -> None:
    app = open_distill(tau="4")
    app.number_input(key="epochs").set_value(5).run()
    rho = app.slider(key="rho").value
    curves = app.session_state["_view"].source.curves
    tau = float(f"{rho_outcome(curves, rho, floor=1.0).matched_tau:.3g}")
    assert f"**CIST ρ = {rho:.3g} against KD τ = {tau:.3g}, three seeds**" in [text.value for text in app.main.markdown]
    words = [caption.value.replace("\\", "") for caption in app.main.caption]
    assert any(caption.startswith("6 runs of cnn_16_32 on 100 images, 5 epochs, seeds 0, 1 and 2") for caption in words)
    app.button(key="experiment").click().run()
    runs = store.list_runs()[::-1]
    configs = [run.directory.config() for run in runs]
    assert [(config.objective.name, config.seed) for config in configs] == [
        (name, seed) for seed in range(3) for name in ("cist", "kd")
    ]
    assert {config.objective.parameters["tau"] for config in configs[1::2]} == {tau}
    assert {config.objective.parameters["rho"] for config in configs[::2]} == {rho}
    assert {config.epochs for config in configs} == {5}
    assert len({run.group for run in runs}) == 1
    assert "6 runs are in the queue" in app.success[0].value
    assert app.session_state["run"] == [run.id for run in runs]


def test_the_experiment_runs_whatever_objective_the_form_has(store) -> None:
    app = open_distill(method="mlkd", strong="true")
    app.button(key="experiment").click().run()
    assert not app.exception
    assert {run.directory.config().objective.name for run in store.list_runs()} == {"cist", "kd"}


def test_training_on_test_images_needs_a_word_of_consent(store, monkeypatch) -> None:
    find = find_origin
    monkeypatch.setattr("app.forms.distill_origin.find_origin", lambda source: replace(find(source), trains_on="test"))
    app = open_distill()
    assert "These look like test images" in app.main.warning[0].value
    assert app.button(key="launch").disabled
    assert app.button(key="experiment").disabled
    app.checkbox(key="train_on_test").check().run()
    assert not app.button(key="launch").disabled
    assert not app.button(key="experiment").disabled


def test_objectives_stand_in_groups_by_readable_names_and_the_link_has_the_registrys(store) -> None:
    app = open_distill(method="cist+dkd")
    assert app.selectbox(key="method_box").options[0] == "CIST  ·  Soft labels, sample by sample"
    assert app.selectbox(key="method_box").value == "cist+dkd"
    assert any(caption.value.startswith("`cist+dkd` · ") for caption in app.main.caption)
    app = open_distill(method="nonsense")
    warning = app.main.warning[0].value
    assert "asks for the objective “nonsense”, which is not here; shown is CIST  ·  Soft labels, sample" in warning


def test_every_objective_has_a_readable_name_of_its_own() -> None:
    assert set(OBJECTIVE_NAMES) == set(objective_names())
    titles = [objective_name(name).title for name in form.methods()]
    assert len(set(titles)) == len(titles)


def test_the_link_opens_the_same_form(store) -> None:
    app = open_distill(method="mlkd", **{"mlkd.temperatures": "4/2", "architecture": "mlp_14x14", "images": ""})
    app.context = {"url": "http://127.0.0.1/distill"}
    app.number_input(key="lr").set_value(0.3).run()
    query = {key: values[0] for key, values in parse_qs(urlsplit(app.sidebar.code[-1].value).query).items()}
    assert query["mlkd.temperatures"] == "4/2"
    assert query["mirror"] == "false"
    again = open_distill(**query)
    assert config_of(again) == config_of(app)
    assert config_of(again).objective.parameters["temperatures"] == (4.0, 2.0)


def test_choices_are_there_after_a_look_at_another_page(store) -> None:
    app = open_distill()
    app.number_input(key="epochs").set_value(5).run()
    app.selectbox(key="method_box").select("dkd").run()
    app.number_input(key="dkd.beta").set_value(2.0).run()
    app.switch_page("../pages/ratio.py").run()
    app.switch_page("../pages/distill.py").run()
    config = config_of(app)
    assert (config.epochs, config.objective.name, config.objective.parameters["beta"]) == (5, "dkd", 2.0)


def test_more_images_a_step_than_there_are_is_refused_before_anything_is_queued() -> None:
    origin = find_origin(SimpleNamespace(teacher="mnist5k-cnn", data="mnist-5k"))
    config = preset("demo")
    origin.check(config)
    with pytest.raises(CistError, match="batch size of at most 100, the number of training images, but got 5,000"):
        origin.check(config.changed(batch_size=5000))
    with pytest.raises(CistError, match="at most 3,500 training images"):
        origin.check(config.changed(data={"train_samples": 4000}))
