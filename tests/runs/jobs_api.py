"""A stand-in for Ray's Jobs API: a server that says of jobs what a test wants."""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class JobsApi:
    """Answers as Ray's Jobs API does, from what the test says of each job, and keeps what it was asked.

    With ``trains`` a job is run on this machine, to its end, before it is said to have been taken.
    """

    def __init__(self) -> None:
        self.trains = False
        self.jobs: dict[str, dict[str, object]] = {}
        self.asked: list[tuple[str, str, dict[str, object]]] = []
        self.fault: tuple[int, str] | None = None
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}"))

            def _answer(self, content: dict[str, object]) -> None:
                code, said = api.answer(self.command, self.path, content)
                body = (said if isinstance(said, str) else json.dumps(said)).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def answer(self, method: str, path: str, content: dict[str, object]) -> tuple[int, object]:
        self.asked.append((method, path, content))
        if self.fault is not None:
            return self.fault
        if path == "/api/version":
            return 200, {"version": "4"}
        if path == "/api/jobs/":
            self.jobs[str(content["submission_id"])] = self._train(content) if self.trains else {"status": "PENDING"}
            return 200, {"submission_id": content["submission_id"]}
        job, _, verb = path.removeprefix("/api/jobs/").partition("/")
        if job not in self.jobs:
            return 404, f"Job {job} does not exist"
        return 200, {"stopped": True} if verb else self.jobs[job]

    def _train(self, content: dict[str, Any]) -> dict[str, object]:
        environment = os.environ | content["runtime_env"]["env_vars"]
        code = subprocess.run(["sh", "-c", content["entrypoint"]], env=environment, check=False).returncode
        return {"status": "FAILED" if code else "SUCCEEDED", "driver_exit_code": code}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
