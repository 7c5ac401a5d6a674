"""A real ComfyUI process on a free port, driven over HTTP the way the browser does it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .hosts import Host, make_base
from .listener import Listener

START_SECONDS = 240
"""a busy two-core machine needs about a minute"""


class PromptRefused(Exception):
    """POST /prompt was answered with an error; `.answer` is the JSON the browser would show."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer, indent=1)[:4000])
        self.answer = answer


@dataclass(frozen=True)
class Result:
    """One finished prompt, from /history."""

    status: str
    """"success", "error" or "interrupted" """
    outputs: dict[str, Any]
    """node id -> what its ui showed"""
    messages: list[Any]
    """(event, data) pairs the host noted"""
    seconds: float
    """wall time from the request until it was noticed as finished"""

    @property
    def error(self) -> str:
        """The exception text of the failed node, "" when none failed."""
        found = [data for event, data in self.messages if event == "execution_error"]
        return found[0].get("exception_message", "") if found else ""

    @property
    def cached(self) -> list[str]:
        """Node ids that were not run because nothing about them had changed."""
        return [
            node for event, data in self.messages if event == "execution_cached" for node in data["nodes"]
        ]


class Server:
    """ComfyUI on the CPU with a base directory of its own; a context manager."""

    def __init__(self, host: Host, folder: Path, *options: str, front_end: Path | None = None) -> None:
        """Nothing is started yet. `folder` becomes the base directory; `options` go to main.py as they are."""
        self.host = host
        self.base = make_base(folder)
        self.options = list(options)
        front_end = front_end or (
            Path(os.environ["GROUNDED_FRONTEND"]) if "GROUNDED_FRONTEND" in os.environ else None
        )
        if front_end:
            self.options += ["--front-end-root", str(front_end)]
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = self.base / "server.log"
        self.client_id = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Everything the process has written so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start main.py and wait until it answers; RuntimeError with the log's end when it does not."""
        command = [str(self.host.python), str(self.host.path / "main.py"), "--cpu", "--port", str(self.port)]
        command += ["--base-directory", str(self.base), "--disable-api-nodes"]
        command += ["--database-url", f"sqlite:///{self.base / 'comfy.db'}", *self.options]
        with self.log_file.open("ab") as log:
            env = {**os.environ, "PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.base, env=env)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.host.name} did not start:\n{self.log[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"{self.host.name} did not answer within {START_SECONDS} s:\n{self.log[-4000:]}")

    def stop(self) -> None:
        """End the process; harmless when it is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)

    def kill(self) -> None:
        """End the process as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)

    def read(self, path: str, timeout: float = 60) -> bytes:
        """The body of GET `path` ("/view?..."); urllib.error.HTTPError when the host refuses."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        """GET `path` as JSON."""
        return json.loads(self.read(path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST JSON to `path`; the answer as JSON, None when it is empty."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def object_info(self) -> dict[str, Any]:
        """Every node's schema as the browser gets it."""
        return self.get("/object_info")

    def submit(self, prompt: Mapping[str, Any], workflow: Mapping[str, Any] | None = None) -> str:
        """Queue an API-format prompt; its id. Raises PromptRefused when it does not validate."""
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            answer = self.post("/prompt", body)
        except urllib.error.HTTPError as err:
            raise PromptRefused(json.loads(err.read())) from err
        if answer.get("node_errors"):
            raise PromptRefused(answer)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 280) -> Result:
        """Wait until a queued prompt has ended, whichever way."""
        start = time.monotonic()
        while time.monotonic() < start + timeout:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status"):
                return _result(entry, time.monotonic() - start)
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"{self.host.name} ended while working:\n{self.log[-4000:]}")
            time.sleep(0.2)
        raise TimeoutError(f"prompt {prompt_id} took over {timeout} s:\n{self.log[-4000:]}")

    def queue(
        self, prompt: Mapping[str, Any], timeout: float = 280, workflow: Mapping[str, Any] | None = None
    ) -> Result:
        """Queue an API-format prompt and wait for its end."""
        return self.wait(self.submit(prompt, workflow), timeout)

    def make(self, prompt: Mapping[str, Any], timeout: float = 280, **more: Any) -> Result:
        """The same of one that must come to a good end."""
        result = self.queue(prompt, timeout, **more)
        assert result.status == "success", result.error
        return result

    def interrupt(self) -> None:
        """What the browser's Cancel does."""
        self.post("/interrupt", {})

    def listen(self) -> Listener:
        """A context manager that collects the websocket's messages for this client while it is open."""
        return Listener("127.0.0.1", self.port, f"/ws?clientId={self.client_id}")

    def rss(self) -> int:
        """Bytes of memory the process holds now; NotImplementedError where /proc is missing."""
        return self._memory("VmRSS")

    def peak(self) -> int:
        """The most bytes of memory the process has held since it started, or since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Let `peak` begin anew at what the process holds now."""
        self._proc("clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", self._proc("status").read_text())
        return int(found[1]) * 1024 if found else 0

    def _proc(self, name: str) -> Path:
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/{name}")
        if not path.exists():
            raise NotImplementedError("the host's memory is read from /proc, which this system does not have")
        return path


def _result(entry: Mapping[str, Any], seconds: float) -> Result:
    status, messages = entry["status"], entry["status"].get("messages", [])
    names = {event for event, _ in messages}
    ended = "interrupted" if "execution_interrupted" in names else status.get("status_str", "error")
    return Result(ended, entry.get("outputs", {}), messages, seconds)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
