"""A websocket client of just the size the tests need: it reads, answers pings, and never sends anything else."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Listener:
    """Collects the JSON messages of a ComfyUI websocket in `messages`, as (type, data, seconds since open)."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._address, self._path = (host, port), path
        self.messages: list[tuple[str, Any, float]] = []
        self.binary = 0
        """how many binary messages (preview pictures) came"""
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Listener:
        self._socket = socket.create_connection(self._address, timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {self._path} HTTP/1.1",
            f"Host: {self._address[0]}:{self._address[1]}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._stream = self._socket.makefile("rb")
        if b" 101 " not in self._stream.readline():
            raise ConnectionError("the host did not open a websocket")
        while self._stream.readline().strip():
            pass
        self._socket.settimeout(None)
        self._opened = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._socket is not None and self._thread is not None
        with contextlib.suppress(OSError):  # the other side may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def of(self, name: str) -> list[Any]:
        """The data of every message of one type, in order."""
        return [data for kind, data, _ in list(self.messages) if kind == name]

    def wait_for(self, name: str, timeout: float = 120) -> Any:
        """The data of the first message of that type; TimeoutError naming what came instead."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            found = self.of(name)
            if found:
                return found[0]
            time.sleep(0.05)
        raise TimeoutError(f"no {name} within {timeout} s; came: {sorted({k for k, _, _ in self.messages})}")

    def _read(self) -> None:
        kept, kind = b"", 0
        try:
            while True:
                final, opcode, body = self._frame()
                if opcode == CLOSE:
                    return
                if opcode == PING:
                    self._pong(body)
                if opcode > BINARY:
                    continue
                kept, kind = kept + body, opcode or kind
                if final:
                    self._keep(kind, kept)
                    kept = b""
        except (OSError, ValueError):
            return  # closed under us: the end of listening

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        return bool(first & 0x80), first & 0x0F, self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise ValueError("the stream ended")
        return data

    def _pong(self, body: bytes) -> None:
        assert self._socket is not None
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
        self._socket.sendall(bytes([0x80 | PONG, 0x80 | len(body)]) + mask + masked)

    def _keep(self, kind: int, body: bytes) -> None:
        if kind == BINARY:
            self.binary += 1
            return
        message = json.loads(body)
        self.messages.append((message["type"], message.get("data"), time.monotonic() - self._opened))
