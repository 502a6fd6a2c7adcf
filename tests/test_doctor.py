"""`cist doctor`: what it finds in order, what it finds broken, and what it never prints."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import run

from cist_core import doctor
from cist_core.doctor import Check, State, examine, is_usable

SECRETS = """
[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "a-cookie-secret-of-more-than-32-characters"
client_id = "studio"
client_secret = "hush-hush"
server_metadata_url = "https://id.example.org/.well-known/openid-configuration"
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A home, folders and an environment of this test alone."""
    for name in ("CACHE", "DATA", "RUNS", "ADDED"):
        monkeypatch.setenv(f"CIST_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CIST_ROOTS", "CIST_SAMPLE_MODELS", "STREAMLIT_SECRETS_FILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def only(monkeypatch):
    """``only("Cache")`` makes that check the only one and returns what it finds."""

    def choose(name: str) -> Check:
        monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name]})
        return next(examine())

    return choose


def test_a_machine_that_works(capsys):
    code, out, err = run(capsys, "doctor", "--json")
    record = json.loads(out)
    found = {check["name"]: check for check in record["checks"]}
    assert err == ""
    assert (code, record["usable"]) == (0, True), out
    assert {"Python", "Packages", "Device", "Kernels", "Cache", "Data", "Runs", "Worker", "Added", "Server paths",
            "Sample models", "Sign-in"} <= set(found)  # fmt: skip
    assert all(check["state"] in ("ok", "note") for check in found.values())
    assert found["Kernels"]["state"] == "ok"
    assert re.search(r"numpy \d", found["Packages"]["sentence"])
    assert all(check["sentence"].endswith(".") for check in found.values())


def test_text_and_the_exit_code(capsys, monkeypatch):
    def failing(name):
        raise RuntimeError("no\nidea")

    monkeypatch.setattr(doctor, "CHECKS", {"Python": doctor.CHECKS["Python"], "Moon": failing})
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert re.search(r"^ok +Python +3\.", out, re.MULTILINE)
    assert re.search(r"^broken +Moon +This could not be looked at \(RuntimeError: no\)\.$", out, re.MULTILINE)
    assert out.endswith("1 thing is broken.\n")
    monkeypatch.setattr(doctor, "CHECKS", {"Python": doctor.CHECKS["Python"]})
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert out.endswith("What is needed works.\n")


@pytest.mark.parametrize(("name", "variable"), [("Cache", "CIST_CACHE"), ("Data", "CIST_DATA"), ("Runs", "CIST_RUNS")])
def test_a_folder_that_cannot_be_made(only, monkeypatch, tmp_path, name, variable):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(variable, str(tmp_path / "file" / "below"))
    found = only(name)
    assert found.state is State.BROKEN
    assert str(tmp_path / "file") in found.sentence
    assert f"set {variable} to another" in found.sentence


@pytest.mark.parametrize(("free", "state"), [(5 << 30, State.OK), (1 << 30, State.NOTE), (1 << 20, State.BROKEN)])
def test_free_space(only, monkeypatch, free, state):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    found = only("Cache")
    assert found.state is state
    assert ("make room" in found.sentence) == (state is not State.OK)


def test_looking_leaves_nothing_in_the_cache(only, tmp_path):
    assert only("Cache").state is State.OK
    assert not (tmp_path / "cache").exists()


def test_server_paths(only, monkeypatch, tmp_path):
    assert "No folder of this machine is open" in only("Server paths").sentence
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("CIST_ROOTS", str(tmp_path / "shared"))
    assert next(examine()) == Check("Server paths", State.OK, f"Open to visitors: {tmp_path / 'shared'}.")
    monkeypatch.setenv("CIST_ROOTS", os.pathsep.join([str(tmp_path / "shared"), str(tmp_path / "gone")]))
    found = next(examine())
    assert found.state is State.NOTE
    assert f"also names {tmp_path / 'gone'}" in found.sentence


def test_sample_models(only, monkeypatch, tmp_path):
    assert only("Sample models").state is State.OK
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path / "none"))
    assert next(examine()).state is State.NOTE
    folder = tmp_path / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{")
    monkeypatch.setenv("CIST_SAMPLE_MODELS", str(tmp_path / "models"))
    found = next(examine())
    assert found.state is State.BROKEN
    assert "card.json cannot be read" in found.sentence


def test_kernels_that_compute_something_else(only, monkeypatch):
    from cist_core import kernels

    usual = kernels.first_pass
    monkeypatch.setattr(kernels, "first_pass", lambda *a, **k: (None, usual(*a, **k)[1] + 0.01))
    found = only("Kernels")
    assert found.state is State.BROKEN
    assert "differ from NumPy's by 0.01 nats" in found.sentence


def test_a_worker_and_waiting_runs(monkeypatch):
    from cist_core.runs import RunStore
    from cist_core.training import preset

    monkeypatch.setattr(doctor, "CHECKS", {"Runs": doctor.CHECKS["Runs"]})
    assert list(examine())[1].state is State.OK
    store = RunStore()
    store.add(preset("demo"))
    waiting = list(examine())[1]
    assert waiting.state is State.NOTE
    assert "runs wait; start 'cist worker'" in waiting.sentence
    with store.worker_lock():
        assert list(examine())[1] == Check("Worker", State.OK, "A worker lives; 0 runs in progress.")


# ---- packages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def requirements(monkeypatch):
    """What the distribution says that it requires, as a test sets it."""
    usual = doctor.metadata.requires

    def set_(*texts):
        monkeypatch.setattr(
            doctor.metadata, "requires", lambda name: [*texts] if name == "cist-studio" else usual(name)
        )

    return set_


def test_packages_that_are_missing_or_old(only, requirements):
    requirements("numpy>=2.0", "pandas>=99", "no-such-package", 'timm-of-nobody; extra == "timm"')
    found = only("Packages")
    assert found.state is State.BROKEN
    assert re.match(r"pandas is [\d.]+, but >=99 is needed; no-such-package is missing: .*pip install", found.sentence)


def test_an_extra_that_is_not_installed(only, requirements, monkeypatch):
    requirements("numpy>=2.0", 'no-such-package; extra == "timm"', 'numpy>=2.0; extra == "studio"')
    monkeypatch.setattr(doctor, "EXTRAS", {"studio": "the app", "timm": "teachers from timm"})
    only("Extras")
    installed, missing = examine()
    assert installed == Check("Extra studio", State.OK, "Installed: the app.")
    assert missing.state is State.NOTE
    assert "pip install 'cist-studio[timm]' (no-such-package is missing)" in missing.sentence
    assert is_usable([installed, missing])


# ---- sign-in ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path) -> Path:
    file = tmp_path / ".streamlit" / "secrets.toml"
    file.parent.mkdir()
    file.write_text(SECRETS)
    file.chmod(0o600)
    return file


def test_no_sign_in(only):
    assert only("Sign-in").sentence.startswith("Not set up")


def test_sign_in_without_its_secrets(only, secrets):
    pytest.importorskip("authlib")
    found = only("Sign-in")
    assert found.state is State.OK
    assert "Set up in" in found.sentence
    secrets.chmod(0o644)
    assert next(examine()).state is State.NOTE
    for text in (SECRETS.replace("client_id", "client"), SECRETS + "[auth", SECRETS.replace("client_secret = ", "")):
        secrets.write_text(text)
        broken = next(examine())
        assert broken.state is State.BROKEN
        assert "hush-hush" not in broken.sentence
        assert "a-cookie-secret" not in broken.sentence


def test_sign_in_is_judged_as_streamlit_reads_it(only, secrets, tmp_path, monkeypatch):
    pytest.importorskip("authlib")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".streamlit").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    there = elsewhere / ".streamlit" / "secrets.toml"
    there.write_text("[cist]\nallowed = []\n")
    there.chmod(0o600)
    nobody = only("Sign-in")
    assert (nobody.state, "nobody may" in nobody.sentence) == (State.NOTE, True)
    there.write_text('[auth]\nclient_id = "another"\n')  # sections are replaced, not mixed
    assert "lacks redirect_uri" in next(examine()).sentence


def test_named_secrets_are_relied_on_and_the_usual_ones_left_alone(only, secrets, tmp_path, monkeypatch):
    named = tmp_path / "studio.toml"
    monkeypatch.setenv("STREAMLIT_SECRETS_FILES", str(named))
    missing = only("Sign-in")
    assert (missing.state, f"The secrets {named} are named" in missing.sentence) == (State.BROKEN, True)
    named.touch()
    assert next(examine()).sentence == f"Not set up in {named}: whoever reaches the app may use it."


def test_sign_in_without_authlib(only, secrets, monkeypatch):
    monkeypatch.setattr("cist_core.sign_in.find_spec", lambda name: None)
    assert "pip install 'cist-studio[auth]'" in only("Sign-in").sentence
