"""What the container, the proxies' examples and docs/deploy.md say is what the code does."""

import asyncio
import contextlib
import http.server
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml
from load import studio, visitor
from whole_runs import TINY

from cist_core.added.__main__ import AT_ONCE
from cist_core.runs import RunState, RunStore

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
CONFIG = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, continued lines joined and comments left out."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def values(name: str) -> list[str]:
    return [value for instruction, value in instructions() if instruction == name]


def environment() -> dict[str, str]:
    return dict(part.split("=", 1) for value in values("ENV") for part in shlex.split(value))


def compose(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


# ---- environment variables -------------------------------------------------------------------------------------------


def test_the_guide_names_every_variable_that_the_code_reads_and_no_other():
    code = [path for folder in ("cist_core", "app", "pages") for path in (ROOT / folder).rglob("*.py")]
    read = set()
    for path in code:
        read |= set(
            re.findall(
                r"(?m)(?:environ(?:\.get\(|\[)|own_folder\(|^[A-Z_]+ = )[\"'](CIST_\w+)",
                path.read_text(encoding="utf-8"),
            )
        )
    read.remove("CIST_NO_CODE")  # one process of ours tells another
    table = GUIDE.partition("## Environment variables")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(CIST_\w+)`", table, re.MULTILINE)) == read
    assert set(re.findall(r"CIST_\w+", GUIDE + DOCKERFILE + (ROOT / "compose.yaml").read_text())) <= read


# ---- the image -------------------------------------------------------------------------------------------------------


def test_the_program_is_not_root_and_cannot_change_itself():
    order = [name for name, _ in instructions()]
    assert values("USER") == ["studio"]
    assert order.index("USER") > max(index for index, name in enumerate(order) if name in ("RUN", "COPY"))
    made = next(value for value in values("RUN") if "useradd" in value)
    assert "--uid 1000" in made
    assert re.search(r"chown -R studio:studio (\S+)$", made).group(1) == "/data"


def test_what_people_keep_is_in_volumes():
    volumes = yaml.safe_load(values("VOLUME")[0])
    folders = {name: environment()[name] for name in ("CIST_CACHE", "CIST_DATA", "CIST_RUNS", "CIST_ADDED")}
    assert set(folders.values()) == set(volumes)
    mounted = {volume.split(":")[1] for volume in compose("compose.yaml")["services"]["studio"]["volumes"]}
    assert set(volumes) <= mounted
    for name in ("NUMBA_CACHE_DIR", "HF_HOME", "TORCH_HOME"):  # else in the home folder, which is memory
        assert environment()[name].startswith(f"{folders['CIST_CACHE']}/")


def test_what_is_copied_is_there_and_sent_to_the_builder_and_nothing_else_is():
    sources = {word for value in values("COPY") for word in value.split()[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert "**/secrets.toml" in rules
    needed = {"cist_core", "app", "pages", "sample_models", "pyproject.toml"}
    assert needed <= sources


def test_the_extras_exist_and_each_variant_has_an_index():
    wanted = next(value.partition("=")[2] for value in values("ARG") if value.startswith("EXTRAS="))
    assert set(wanted.split(",")) <= set(EXTRAS)
    install = next(value for value in values("RUN") if "pip install --index-url" in value)
    choose = install.replace(
        'pip install --index-url "${TORCH_INDEX:-$index}" torch torchvision', 'echo "${TORCH_INDEX:-$index}"'
    )
    for variables, expected in (
        ({"VARIANT": "cpu"}, "https://download.pytorch.org/whl/cpu"),
        ({"VARIANT": "cuda"}, "https://pypi.org/simple"),
        ({"VARIANT": "cuda", "TORCH_INDEX": "https://example.org"}, "https://example.org"),
    ):
        done = subprocess.run(["sh", "-c", choose], env=variables, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
    assert (
        subprocess.run(["sh", "-c", choose], env={"VARIANT": "rocm"}, capture_output=True, check=False).returncode == 2
    )


# ---- compose ---------------------------------------------------------------------------------------------------------


def test_compose_publishes_on_this_machine_only_and_gives_no_rights():
    studio = compose("compose.yaml")["services"]["studio"]
    assert [re.sub(r"\$\{PORT:-(\d+)\}", r"\1", port) for port in studio["ports"]] == ["127.0.0.1:8501:8501"]
    assert (studio["read_only"], studio["cap_drop"]) == (True, ["ALL"])
    shared = next(volume for volume in studio["volumes"] if "/mnt/shared" in volume)
    assert shared.endswith(f"{studio['environment']['CIST_ROOTS']}:ro")
    named = {volume.split(":")[0] for volume in studio["volumes"] if not volume.startswith("$")}
    assert named == set(compose("compose.yaml")["volumes"])


def test_compose_bounds_the_memory_and_what_people_add_fits_into_it():
    studio = compose("compose.yaml")["services"]["studio"]
    limit = int(re.fullmatch(r"\$\{MEMORY:-(\d+)g\}", studio["mem_limit"]).group(1)) << 30
    added = int(re.fullmatch(r"\$\{ADDED_MEMORY:-(\d+)\}", studio["environment"]["CIST_ADDED_MEMORY"]).group(1))
    sizes = [re.fullmatch(r"/\S+:size=(\d+)([mg])", entry).groups() for entry in studio["tmpfs"]]
    in_memory = sum(int(number) << {"m": 20, "g": 30}[unit] for number, unit in sizes)
    assert AT_ONCE * added + in_memory <= limit / 1.5


def test_the_other_compose_files_add_a_gpu_and_the_secrets():
    cuda = compose("deploy/compose.cuda.yaml")["services"]["studio"]
    assert cuda["build"]["args"] == {"VARIANT": "cuda"}
    assert cuda["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    content = compose("deploy/compose.sign-in.yaml")
    (secret,) = content["services"]["studio"]["secrets"]
    assert secret["source"] in content["secrets"]
    assert secret["target"] == f"{values('WORKDIR')[0]}/.streamlit/secrets.toml"
    assert content["services"]["studio"]["environment"] == {"STREAMLIT_SECRETS_FILES": secret["target"]}


# ---- the proxies -----------------------------------------------------------------------------------------------------


def test_the_proxies_take_uploads_as_large_as_the_studio_does_and_little_more():
    limit = CONFIG["server"]["maxUploadSize"] * 2**20
    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    caddy = (ROOT / "deploy" / "Caddyfile").read_text()
    assert limit <= int(re.search(r"client_max_body_size (\d+)m;", nginx).group(1)) * 2**20 <= 1.5 * limit
    assert limit <= int(re.search(r"max_size (\d+)MB", caddy).group(1)) * 10**6 <= 1.5 * limit


@pytest.fixture
def backend():
    """What stands for the Studio: it answers everything, and says by a header that nobody may frame it."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"studio")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(command: list, port: int, log: Path, **variables: str) -> subprocess.Popen:
    """A proxy that listens, or the reason why it does not."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | variables)
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(log.read_text())


def check_what_a_proxy_lets_through(address: str) -> None:
    context = trusting()

    def ask(path: str):
        request = urllib.request.Request(address + path, headers={"Host": "studio.example.org"})
        try:
            with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers

    for path in ("/", "/_stcore/health", "/_stcore/metricsystem", "/studio/_stcore/health"):
        assert ask(path)[0] == 200
    for path in ("/_stcore/metrics", "/_stcore/metrics/", "/%5fstcore/metrics", "/studio/_stcore/metrics?x=1"):
        assert ask(path)[0] == 404, path
    for path in ("/", "/_stcore/metrics"):
        headers = ask(path)[1]
        assert headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
        assert headers.get_all("Content-Security-Policy") == ["frame-ancestors 'self'"]


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if found is None:
        pytest.skip(f"needs {name}")
    return found


@contextlib.contextmanager
def nginx_before(backends: list[int], folder: Path) -> Iterator[str]:
    """The address of an nginx with the example's site before servers at these ports."""
    nginx, openssl, port = program("nginx"), program("openssl"), free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=studio.example.org"]
    subprocess.run([openssl, *request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    servers = "".join(f"server 127.0.0.1:{backend};" for backend in backends)
    for pattern, value in (
        (r"(ssl_certificate +)\S+;", rf"\g<1>{certificate};"),
        (r"(ssl_certificate_key +)\S+;", rf"\g<1>{key};"),
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"listen 80;", f"listen 127.0.0.1:{free_port()};"),
        (r"(?m)^ *server 127.0.0.1:8501;", servers),
    ):
        site, count = re.subn(pattern, value, site)
        assert count == 1, pattern
    (folder / "site.conf").write_text(site)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; daemon off; master_process off; events {{}} "
        f"http {{ access_log off; {places} include {folder}/site.conf; }}"
    )
    command = [nginx, "-e", str(folder / "log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = started(command, port, folder / "output")
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def trusting() -> ssl.SSLContext:
    """What accepts a certificate that was made a moment ago."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_nginx_with_its_example_closes_the_metrics_and_lets_nobody_frame_the_app(tmp_path, backend):
    with nginx_before([backend], tmp_path) as address:
        check_what_a_proxy_lets_through(address)


def test_caddy_with_its_example_closes_the_metrics_and_lets_nobody_frame_the_app(tmp_path, backend):
    caddy, port = program("caddy"), free_port()
    site = (ROOT / "deploy" / "Caddyfile").read_text()
    assert "lb_policy cookie " in site
    for name, value in (("studio.example.org {", f"http://:{port} {{\nbind 127.0.0.1"), (":8501", f":{backend}")):
        assert site.count(name) == 1
        site = site.replace(name, value)
    (tmp_path / "Caddyfile").write_text(f"{{\nadmin off\n}}\n{site}")
    command = [caddy, "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    homes = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    process = started(command, port, tmp_path / "output", **homes)
    try:
        check_what_a_proxy_lets_through(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_of_two_servers_behind_nginx_a_visitor_stays_with_one_until_it_dies(tmp_path):
    """They share what they keep: a run that waits is trained once, a text that one has read the other shows at once."""
    pytest.importorskip("streamlit")
    folders = {name: str(tmp_path / name) for name in ("CIST_RUNS", "CIST_CACHE", "CIST_ADDED")}
    store = RunStore(Path(folders["CIST_RUNS"]))
    run = store.add(TINY, name="waits")
    first, second, proxy = (tmp_path / name for name in ("first", "second", "proxy"))
    for folder in (first, second, proxy):
        folder.mkdir()
    with studio(first, **folders) as (one, process), studio(second, **folders) as (other, other_process):
        ports = {
            int(address.rpartition(":")[2]): server for address, server in ((one, process), (other, other_process))
        }
        with nginx_before(list(ports), proxy) as address:
            with urllib.request.urlopen(address, context=trusting(), timeout=20) as answer:
                given = answer.headers.get_all("Set-Cookie")
            assert re.fullmatch(r"studio_browser=\w{32}; Path=/; HttpOnly; Secure; SameSite=Lax", given[-1])
            with ThreadPoolExecutor(1) as apart:  # Playwright, where it has run before, keeps a loop in this thread
                apart.submit(asyncio.run, _stay_until_it_dies(address, ports, Path(folders["CIST_CACHE"]))).result()
    for _ in range(600):
        if store.get(run.id).state.ended:
            break
        time.sleep(0.1)
    assert store.get(run.id).state is RunState.FINISHED
    assert [row["epoch"] for row in store.get(run.id).directory.metrics()] == [1, 2, 3, 4]
    assert "Traceback" not in (first / "log.txt").read_text() + (second / "log.txt").read_text()


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Those below a folder; whoever makes one anew changes at least one of the two numbers."""
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


async def _stay_until_it_dies(address: str, ports: dict[int, psutil.Process], cache: Path) -> None:
    def connected(port: int) -> int:
        """How many connections a server has."""
        server = ports[port]
        ends = server.net_connections("tcp") if server.is_running() else []
        return sum(end.status == psutil.CONN_ESTABLISHED and end.laddr.port == port for end in ends)

    async def come(name: str) -> int:
        """Look at the runs and move a slider, in a browser of this name; the port of who answered."""
        for _ in range(200):  # one that is just being closed would hide another
            if not any(map(connected, ports)):
                break
            await asyncio.sleep(0.05)
        before = {port: connected(port) for port in ports}
        headers = {"Cookie": f"studio_browser={name}"}
        async with visitor(address, ssl=trusting(), additional_headers=headers, origin=address) as person:
            await person.load("runs")
            (port,) = [port for port in ports if connected(port) > before[port]]
            await person.move("tau", 2.0)
            assert person.errors == []
        return port

    async def look_at_a_text(name: str) -> str:
        """Open the page Tokens, which has a text read by a child process of the server."""
        headers = {"Cookie": f"studio_browser={name}"}
        async with visitor(address, ssl=trusting(), additional_headers=headers, origin=address) as person:
            await person.load("tokens")
            assert person.errors == []
            return "it is shown" if "cist_tokens" in person.components else "it is being read"

    names: dict[int, str] = {}
    for number in range(40):  # names and ports decide, and the ports are those that were free
        names.setdefault(await come(f"browser-{number}"), f"browser-{number}")
        if len(names) == len(ports):
            break
    assert set(names) == set(ports)
    for port, name in names.items():
        assert await come(name) == port
    first, second = names.values()
    assert await look_at_a_text(first) == "it is being read"
    readings = cache / "readings"
    for _ in range(2400):
        if list(readings.glob("*/index.json")):
            break
        await asyncio.sleep(0.1)
    made = _files(readings)
    assert list(readings.glob("*/index.json")), [file.read_text() for file in readings.rglob("*.txt")]
    assert await look_at_a_text(second) == "it is shown"
    assert _files(readings) == made
    port, name = next(iter(names.items()))
    ports[port].kill()
    ports[port].wait(20)
    assert await come(name) == next(iter(set(ports) - {port}))


# ---- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "framed_by", "options"),
    [
        ("", "'self'", ["SAMEORIGIN"]),
        ("/studio", "'self' https://course.example.org", None),
        ("", "'none'", ["DENY"]),
    ],
)
def test_the_health_check_and_headers_of_the_image_are_those_of_a_server_started_by_its_command(
    base, framed_by, options, tmp_path
):
    pytest.importorskip("streamlit")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    variables = os.environ | {
        "PORT": port,
        "STREAMLIT_SERVER_BASE_URL_PATH": base,
        "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
        "CIST_RUNS": str(tmp_path),
        "CIST_FRAMED_BY": "" if framed_by == "'self'" else framed_by,
        "CIST_METRICS": "1" if options is None else "",
    }
    command = yaml.safe_load(values("CMD")[0])
    # The container's own network is the only one that may be bound to as a whole.
    assert "--server.address 0.0.0.0" in command[-1]
    command[-1] = command[-1].replace("0.0.0.0", "127.0.0.1")
    check = ["sh", "-c", re.search(r" CMD (.*)", values("HEALTHCHECK")[0]).group(1)]
    server = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{base}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, server.stdout.read()
                time.sleep(0.1)
        assert subprocess.run(check, env=variables, capture_output=True, check=False).returncode == 0
        for path in ("/", "/_stcore/health", "/_stcore/host-config"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{base}{path}", timeout=20) as answer:
                assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
                assert answer.headers.get_all("Content-Security-Policy") == [f"frame-ancestors {framed_by}"]
                assert answer.headers.get_all("X-Frame-Options") == options
        asked = f"http://127.0.0.1:{port}{base}/_stcore/metrics"
        if options is None:  # the one that is told to
            with urllib.request.urlopen(asked, timeout=20) as answer:
                assert b"# EOF" in answer.read()
        else:
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(asked, timeout=20)
            assert refused.value.code == 404
            assert refused.value.headers.get_all("X-Content-Type-Options") == ["nosniff"]
            refused.value.close()
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert subprocess.run(check, env=variables, capture_output=True, check=False).returncode != 0


def test_the_guide_names_files_that_are_there():
    for name in re.findall(r"`((?:deploy/|docs/|app/\.streamlit/config)[\w./-]+)`|\]\(([\w./-]+\.md)\)", GUIDE):
        path = name[0] or f"docs/{name[1]}"
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"-f (\S+\.yaml)", GUIDE):
        assert (ROOT / path).is_file(), path
