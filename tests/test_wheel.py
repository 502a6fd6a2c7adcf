"""The wheel is a whole Studio: installed where nothing of the clone is, `cist studio` opens on the digits."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest
from studio import free_port

from cist_core.studio import WITH_A_CLONE

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 15_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of the programs of a fresh virtual environment: the wheel is new there, its requirements are ours."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, symlinks=os.name == "posix", with_pip=False)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip
    # A line of a .pth file adds the folder alone: the .pth files in it, of editable installs, are not followed.
    Path(packages, "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def carried(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_carries_the_studio_and_its_small_models_and_stays_small(wheel) -> None:
    inside = {name.removeprefix("cist_core/_studio/") for name in carried(wheel)}
    assert tracked("app", "pages") <= inside
    cards = {Path(name).parts[1] for name in tracked("sample_models") if name.endswith("card.json")}
    small = cards - set(WITH_A_CLONE)
    assert {"language", "mnist5k-cnn"} < small < cards
    assert tracked(*(f"sample_models/{name}" for name in small)) <= inside
    assert {Path(name).parts[1] for name in inside if name.startswith("sample_models/")} == small
    assert wheel.stat().st_size < MOST_BYTES


def test_the_wheel_puts_nothing_beside_the_library(wheel) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in carried(wheel)} == {"cist_core", "cist_studio"}
    assert not [name for name in carried(wheel) if "secrets" in name or "__pycache__" in name]


def test_the_clone_installs_for_development(tmp_path) -> None:
    built = tmp_path / "editable"
    done = subprocess.run(
        [sys.executable, "-c", f"from hatchling.build import build_editable; build_editable({str(built)!r})"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = zipfile.ZipFile(next(built.glob("*.whl")))
    pth = next(name for name in content.namelist() if name.endswith(".pth"))
    assert Path(content.read(pth).decode().strip()) == ROOT


def test_cist_studio_opens_on_the_digits_from_the_wheel_alone(installed, tmp_path) -> None:
    port, log = free_port(), tmp_path / "log.txt"
    own = {f"CIST_{name.upper()}": str(tmp_path / name) for name in ("runs", "cache", "added")}
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CIST_SAMPLE_MODELS")
    }
    with log.open("w") as stream:
        server = subprocess.Popen(
            [installed / "cist", "studio", "--port", str(port), "--no-browser"], cwd=tmp_path, stdout=stream,
            stderr=subprocess.STDOUT, env=environment | own | {"STREAMLIT_SERVER_ENABLE_AGENT_API": "true"},
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            assert answer(f"{address}/_stcore/health", server, log) == "ok"
            assert "<title>" in answer(address, server, log)
            page = json.loads(answer(f"{address}/_stcore/agent/interact", server, log, data=b"{}"))
        finally:
            server.terminate()
            server.wait(timeout=20)
    assert page["status"] == "ready", page
    shown = json.dumps(page, ensure_ascii=False)
    assert "mnist5k-cnn" in shown
    assert "cist_histogram" in shown, shown
    assert "Traceback" not in log.read_text(), log.read_text()


def test_the_theme_and_the_settings_come_along(installed, tmp_path) -> None:
    own = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    place = subprocess.run(
        [installed / "python", "-c", "from cist_core.studio import studio_folder; print(studio_folder())"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]},
    ).stdout.strip()  # fmt: skip
    assert not Path(place).is_relative_to(ROOT)
    assert tomllib.loads(Path(place, "app", ".streamlit", "config.toml").read_text(encoding="utf-8")) == own


def answer(address: str, server: subprocess.Popen[bytes], log: Path, *, data: bytes | None = None) -> str:
    """What the server says, as soon as it does."""
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    for _ in range(300):
        if server.poll() is not None:
            pytest.fail(f"The server stopped: {log.read_text()}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return str(response.read().decode())
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{address} did not answer: {log.read_text()}")
