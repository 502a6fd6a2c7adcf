"""``cist studio``: start the app, from a clone or from the wheel."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from cist_core import CistError
from cist_core.cli.output import remark
from cist_core.installing import pip_install
from cist_core.processes import PYTHON
from cist_core.studio import studio_folder

HERE, PORT, MORE_PORTS = "127.0.0.1", 8501, 20
NEEDED = {"streamlit": "Streamlit", "PIL": "Pillow"}
EXAMPLES = """\
examples:
  cist studio                              on http://127.0.0.1:8501, in a new tab of the browser
  cist studio --port 8600 --no-browser
  cist studio -- --server.maxUploadSize 1000      what follows a lone -- goes to Streamlit

The Studio comes with `pip install "cist-studio[studio]"`. Without --port, the first free one from 8501 on is taken. On
another address than 127.0.0.1 whoever reaches this machine may use the Studio, unless sign-in is set up
(.streamlit/secrets.toml in the current folder; see docs/sign-in.md).
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "studio",
        help="start the app in the browser",
        description="Start CIST Studio, the app, on this machine, and open it in the browser.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=int, metavar="N", help=f"port to listen on (default: {PORT}, or the next free)")
    parser.add_argument(
        "--address", default=HERE, metavar="A", help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser; for servers and scripts")
    parser.add_argument(
        "--base-path", default="", metavar="P", help="the path below which a proxy offers the Studio, such as /studio"
    )
    parser.add_argument("streamlit", nargs="*", metavar="-- OPTION", help="further options of `streamlit run`")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    app = find_app()
    port = choose_port(options.address, options.port)
    if not is_loopback(options.address):
        remark(
            f"Whoever reaches port {port} of this machine may use the Studio, unless sign-in is set up "
            "(docs/sign-in.md)."
        )
    command = [
        *PYTHON, "-m", "streamlit", "run", str(app),
        f"--server.address={options.address}", f"--server.port={port}",
        f"--server.headless={str(options.no_browser).lower()}", "--server.showEmailPrompt=false",
        *([f"--server.baseUrlPath={options.base_path.strip('/')}"] if options.base_path else []),
        *options.streamlit,
    ]  # fmt: skip
    start(command, {**os.environ, "PYTHONPATH": _first_on_path(app.parents[1])})


def find_app() -> Path:
    """The file that Streamlit runs.

    Raises:
        CistError: if what the Studio needs is not installed.
    """
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise CistError(
            f"The Studio needs {' and '.join(missing)}, which the library alone does not bring; "
            f"{pip_install('studio')}."
        )
    folder = studio_folder()
    if folder is None or not (folder / "app" / "server.py").is_file():
        raise CistError(
            "This installation of the library holds no Studio; pip install --force-reinstall --no-deps cist-studio, or "
            "run 'make run' in a clone."
        )
    return folder / "app" / "server.py"


def choose_port(address: str, wanted: int | None) -> int:
    """The port that is asked for, or the first free one from 8501 on.

    Raises:
        CistError: if it is in use, is none, or the address is not of this machine.
    """
    if wanted is not None:
        if not 1 <= wanted <= 65535:
            raise CistError(f"Expected --port to be a number from 1 to 65535, but got {wanted}.")
        if not is_free(address, wanted):
            raise CistError(f"Port {wanted} of {address} is in use, or not allowed; choose another --port.")
        return wanted
    last = PORT + MORE_PORTS - 1
    found = next((port for port in range(PORT, last + 1) if is_free(address, port)), None)
    if found is None:
        raise CistError(f"The ports {PORT} to {last} of {address} are all in use; choose another with --port.")
    if found != PORT:
        remark(f"Port {PORT} is in use, so the Studio takes {found}.")
    return found


def is_free(address: str, port: int) -> bool:
    """Whether a server can listen there.

    Raises:
        CistError: if the address is not of this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CistError(
            f"'{address}' is no address of this machine ({error.strerror or error}); use {HERE}."
        ) from error
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # a port that a server left a moment ago is free, as it is for the Studio's
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise CistError(
                    f"'{address}' is no address of this machine; use {HERE}, or 0.0.0.0 for all."
                ) from error
            return False
    return True


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server on that address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def start(command: list[str], environment: dict[str, str]) -> None:
    """Become the server: signals then reach it, and it ends with the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(command[0], command, environment)
    raise SystemExit(subprocess.call(command, env=environment))


def _first_on_path(folder: Path) -> str:
    """The value of PYTHONPATH with which `app` is found in a folder, whatever else goes by that name."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
