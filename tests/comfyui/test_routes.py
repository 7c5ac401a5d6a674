"""What the pack's routes answer to bodies and addresses of any kind: words and a 4xx, never an error of the server."""

from __future__ import annotations

import http.client
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from gf_core.editorial.others import understood
from gf_core.timeline import parse

from .server import Server

JSON = {"Content-Type": "application/json"}
BODIES = {
    "nothing": b"",
    "words": b"stop it",
    "half": b'{"node": "1',
    "latin-1": b'{"node": "\xfc"}',
    "a list": b"[1, 2]",
    "null": b"null",
    "no node": b"{}",
    "twice": b'{"node": "1", "node": "2"}',
    "an object": b'{"node": {"a": 1}}',
    "a fraction": b'{"node": 1.5}',
    "yes": b'{"node": true}',
    "a path": b'{"node": "../../etc"}',
    "a NUL": b'{"node": "1\\u0000"}',
    "half a character": b'{"node": "\\ud83d"}',
    "a long name": b'{"node": "' + b"1" * 100_000 + b'"}',
    "a huge number": b'{"node": ' + b"9" * 5000 + b"}",
    "infinity": b'{"node": Infinity}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
}
ADDRESSES = [
    "/grounded/live/x",
    "/grounded/live/%00",
    "/grounded/live/" + "9" * 6000,
    "/grounded/live/..%2f..%2fetc",
    "/grounded/thumb/1/x",
    "/grounded/thumb/1/-1",
    "/grounded/thumb/%ff/1",
    "/grounded/thumb/1/" + "9" * 6000,
    "/grounded/picture",
    "/grounded/picture?take=film&run=run-0001&frame=" + "9" * 6000,
    "/grounded/picture?take=..%2f..&run=..&frame=1",
    "/grounded/picture?take=%00&run=%00&frame=1",
]
TAKES = ["", "..%2f..%2fetc", "%00", "nul", "%ed%a0%bd", "x" * 300, "a%2f" * 1500, "run-0001"]


def ask(server: Server, method: str, path: str, body: bytes = b"", headers: Any = JSON) -> int:
    """The status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_stop_refuses_a_body_that_names_no_node(server: Server, body: bytes) -> None:
    assert ask(server, "POST", "/grounded/stop", body) == 400


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_stop_asks_for_json_by_name(server: Server, kind: str) -> None:
    assert ask(server, "POST", "/grounded/stop", b'{"node": "1"}', {"Content-Type": kind}) == 415


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "deflate"},
        {"Content-Type": "application/json; charset=\u2603"},
    ],
)
def test_stop_refuses_a_body_that_is_not_packed_as_it_says(server: Server, headers: dict[str, str]) -> None:
    plain = {name: value.encode("utf-8") for name, value in {**JSON, **headers}.items()}
    assert 400 <= ask(server, "POST", "/grounded/stop", b"stop it", plain) < 500


def test_a_body_that_does_not_come_is_not_waited_for(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/grounded/stop")
    for name, value in {**JSON, "Content-Length": "10"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 408
    connection.close()


def test_stop_reads_what_is_packed_and_answers_for_a_node_that_does_not_run(server: Server) -> None:
    packed = zlib.compress(b'{"node": "12"}')
    assert ask(server, "POST", "/grounded/stop", packed, {**JSON, "Content-Encoding": "deflate"}) == 200
    assert server.post("/grounded/stop", {"node": "5:2"}) == {"stopped": False}
    assert server.post("/grounded/stop", {"node": 12}) == {"stopped": False}


THEIRS = Path(__file__).parents[1] / "fixtures" / "others"
NONSENSE = {
    "nothing": {},
    "a number": {"text": 5},
    "words": {"text": "a fox runs"},
    "one of ours": {"text": "a fox | 2s\nthen: it runs | 1s"},
    "JSON of nobody": {"text": '{"a": 1}'},
    "half of it": {"text": '{"prompts": ["a fox"'},
    "a file": {"text": (THEIRS / "captions" / "list.csv").read_text()},
    "half a character": {"text": '{"prompts": ["\ud83d"]}'},
    "too long": {"text": '{"prompts": ["' + "a" * 4_000_000},
}


@pytest.mark.parametrize("asked", NONSENSE.values(), ids=NONSENSE.keys())
def test_what_is_no_storyboard_of_others_is_not_converted(server: Server, asked: dict[str, Any]) -> None:
    assert 400 <= ask(server, "POST", "/grounded/convert", json.dumps(asked).encode()) < 500


@pytest.mark.parametrize("name", ["multishot.txt", "director.json", "episode.json", "fizznodes.txt"])
def test_a_storyboard_of_others_comes_back_as_ours(server: Server, name: str) -> None:
    text = (THEIRS / name).read_text()
    answer = server.post("/grounded/convert", {"text": text})
    board, said = understood(text)
    assert parse(answer["text"]) == board and answer["said"] == said


@pytest.mark.parametrize("path", ADDRESSES, ids=lambda path: path[:24])
def test_an_address_of_nothing_is_not_found(server: Server, path: str) -> None:
    assert 400 <= ask(server, "GET", path) < 500


@pytest.mark.parametrize("name", TAKES, ids=lambda name: name[:12])
def test_a_take_that_cannot_be_shows_nothing(server: Server, name: str) -> None:
    assert ask(server, "GET", f"/grounded/take?take={name}") < 500
