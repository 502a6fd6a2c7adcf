"""`cist studio`: what it starts, and what it says where it cannot."""

import importlib.util
import os
import socket
from pathlib import Path

import pytest
from command_line import run
from studio import free_port

from cist_core.cli import studio

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(monkeypatch):
    """The command and the environment of the server that would have been started."""
    calls = []
    monkeypatch.setattr(studio, "start", lambda command, environment: calls.append((command, environment)))
    return calls


def test_it_starts_the_app_on_this_machine_only_and_opens_a_browser(capsys, started) -> None:
    port = free_port()
    assert run(capsys, "studio", "--port", port) == (0, "", "")
    [(command, environment)] = started
    assert command[1:5] == ["-P", "-m", "streamlit", "run"]
    assert command[5] == str(ROOT / "app" / "server.py")
    assert {"--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=false"} <= set(command)
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)


def test_options(capsys, started) -> None:
    options = ("--port", free_port(), "--no-browser", "--base-path", "/studio/", "--", "--server.maxUploadSize=9")
    assert run(capsys, "studio", *options)[0] == 0
    command = started[0][0]
    assert {"--server.headless=true", "--server.baseUrlPath=studio"} <= set(command)
    assert command[-1] == "--server.maxUploadSize=9"


def test_another_address_is_said_to_be_open_to_others(capsys, started) -> None:
    code, _, err = run(capsys, "studio", "--address", "0.0.0.0", "--port", free_port(), "--no-browser")
    assert code == 0
    assert "may use the Studio, unless sign-in is set up" in err
    assert "--server.address=0.0.0.0" in started[0][0]


def test_a_port_in_use_is_refused_by_name_and_the_usual_one_is_replaced(capsys, started, monkeypatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = run(capsys, "studio", "--port", port)
        assert (code, out) == (2, "")
        assert err == f"cist: Port {port} of 127.0.0.1 is in use, or not allowed; choose another --port.\n"
        assert not started
        monkeypatch.setattr(studio, "PORT", port)
        code, _, err = run(capsys, "studio")
        assert code == 0
        taken_port = int(err.split()[-1].rstrip("."))
        assert err.startswith(f"Port {port} is in use, so the Studio takes ")
        assert f"--server.port={taken_port}" in started[0][0]
        monkeypatch.setattr(studio, "MORE_PORTS", 1)
        assert "are all in use" in run(capsys, "studio")[2]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--port", "0"), "Expected --port to be a number from 1 to 65535, but got 0"),
        (("--port", "many"), "invalid int value"),
        (("--address", "192.0.2.1"), "'192.0.2.1' is no address of this machine"),
        (("--address", "no such host"), "'no such host' is no address of this machine"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(capsys, started, option, sentence) -> None:
    code, out, err = run(capsys, "studio", *option)
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
    assert not started


def test_without_the_extra_it_says_what_to_install(capsys, started, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "streamlit" else find(name))
    code, out, err = run(capsys, "studio")
    assert (code, out) == (2, "")
    assert err.startswith("cist: The Studio needs Streamlit, which the library alone does not bring; ")
    assert err.endswith("pip install 'cist-studio[studio]'.\n")
    assert not started


def test_a_library_that_holds_no_studio_says_so(capsys, started, monkeypatch) -> None:
    monkeypatch.setattr(studio, "studio_folder", lambda: None)
    code, _, err = run(capsys, "studio")
    assert code == 2
    assert "holds no Studio" in err
