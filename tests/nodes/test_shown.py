"""What a page asks of a Take that somebody has changed: words, never an error of the server."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import gf_core.engine.report
import gf_core.take.shelf  # noqa: F401  (what the page's answers are made with)
from gf_core.errors import TakeError
from gf_core.take.journal import decode_record, encode_record

ROOT = Path(__file__).resolve().parents[2]
TAKE = ROOT / "tests" / "fixtures" / "made_before" / "film.take"


@pytest.fixture
def shown(tmp_path) -> Iterator[ModuleType]:
    """`nodes.shown` over a host that has an output folder and nothing else, in which a Take `t` lies."""
    pack, nodes, host = (
        ModuleType(name) for name in ("shown_alone", "shown_alone.nodes", "shown_alone.nodes.host")
    )
    pack.__path__, nodes.__path__ = [str(ROOT)], [str(ROOT / "nodes")]
    there = {
        "log": logging.getLogger("grounded"), "TAKES": "takes",
        "output_folder": lambda: tmp_path, "take_folder": lambda name: tmp_path / "takes" / name,
    }  # fmt: skip
    vars(host).update(there)
    nodes.host = host  # type: ignore[attr-defined]
    # The library is the one that is imported already, under the name that it has below the pack.
    library = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "gf_core"}
    sys.modules.update({f"shown_alone.{name}": module for name, module in library.items()})
    sys.modules.update({module.__name__: module for module in (pack, nodes, host)})
    shutil.copytree(TAKE, tmp_path / "takes" / "t")
    module = importlib.import_module("shown_alone.nodes.shown")
    yield module
    for name in [name for name in sys.modules if name.startswith("shown_alone")]:
        del sys.modules[name]


def _change(path: Path, name: str, value: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))


def _journal_without(run: Path, field: str) -> None:
    path, written = run / "journal.jsonl", []
    for line in path.read_bytes().splitlines(True):
        record = decode_record(line) or {}
        written.append(
            encode_record({key: value for key, value in record.items() if key not in ("sum", field)})
        )
    path.write_bytes(b"".join(written))


def _report(run: Path, **changed: object) -> None:
    whole = {
        "film": {"seconds": 1, "frames": 9, "width": 96, "height": 64, "fps": 16, "cancelled": False, "segments": 3},
        "seconds": {"first chunk": 0, "total": 1}, "speed": {"fps": 0}, "memory": {"peak card bytes": 0},
        "machine": {"dtype": "float32", "device": "cpu"}, "model": {"name": "x", "fingerprint": "y"},
        "reuse": {"chunks": 0}, "anchors": [],
    }  # fmt: skip
    (run / "report.json").write_text(json.dumps({**whole, **changed}))


def _shown(run: Path, facts: list[object]) -> None:
    (run / "shown").mkdir()
    film = (run / "film.mp4").stat()
    told = {"film": [film.st_size, film.st_mtime_ns], "facts": facts}
    (run / "shown" / "GF_TakeDrift.json").write_text(json.dumps(told))


CHANGES = {
    "a journal of another version": lambda run: _journal_without(run, "first_frame"),
    "another film's settings": lambda run: _change(run / "settings.json", "segments", []),
    "no speed": lambda run: _change(run / "settings.json", "video", {"fps": 0}),
    "nothing": _report,
    "a report of numbers": lambda run: _report(run, anchors=[1, 2]),
    "a report without seconds": lambda run: _report(run, film={"seconds": None}),
    "what was shown is none": lambda run: _shown(
        run, [1, "of", {"of": {}, "path": {}}, {"of": {}, "text": "x"}]
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_shown_of_a_changed_take(shown, tmp_path, name):
    for run in (tmp_path / "takes" / "t").glob("run-*"):
        CHANGES[name](run)
    try:
        facts = shown.facts_of("t")
    except TakeError as error:
        assert error.fix and name != "nothing"
    else:
        assert bool(facts[shown.REPORT]) == (name == "nothing")
        assert facts[shown.SAMPLER] and facts.get("GF_TakeDrift", []) in ([], [{"of": {}, "text": "x"}])


def test_of_many_facts_the_oldest_go(shown, tmp_path):
    """And the same widget values stand for what was shown for them before."""
    (run,) = shown.runs_in(tmp_path / "takes" / "t")
    for number in range(shown.KEPT + 3):
        shown.keep(run, "GF_TakeDrift", {"text": str(number)}, segment=number)
    shown.keep(run, "GF_TakeDrift", {"text": "again"}, segment=7)
    told = [facts["text"] for facts in shown.facts_of("t")["GF_TakeDrift"]]
    last = [str(number) for number in range(3, shown.KEPT + 3) if number != 7]
    assert told == [*last, "again"] and len(told) == shown.KEPT


def test_what_was_shown_of_a_film_that_went_on_is_not_shown_of_the_longer_one(shown, tmp_path):
    (run,) = shown.runs_in(tmp_path / "takes" / "t")
    shown.keep(run, "GF_TakeDrift", {"text": "steady"})
    assert [facts["text"] for facts in shown.facts_of("t")["GF_TakeDrift"]] == ["steady"]
    with run.film.open("ab") as film:
        film.write(b"more")
    assert shown.facts_of("t")["GF_TakeDrift"] == []


def test_what_was_shown_cannot_be_listed(shown, tmp_path, unlisted):
    (run,) = shown.runs_in(tmp_path / "takes" / "t")
    shown.keep(run, "GF_TakeDrift", {"text": "steady"})
    unlisted(run.folder / "shown")
    with pytest.raises(TakeError, match="shown cannot be listed: Input/output error"):
        shown.facts_of("t")


def test_a_film_with_a_start_is_no_more_than_whole(shown, tmp_path):
    """The pictures that it begins with were not planned."""
    (run,) = shown.runs_in(tmp_path / "takes" / "t")
    settings = json.loads(run.settings.read_text())
    frames = shown.sampler_facts(run)["frames"]
    whole = frames / settings["video"]["fps"] / len(settings["segments"])
    for share, wanted in ((0.5, 1.0), (2.0, 0.5)):
        segments = [{**segment, "seconds": whole * share} for segment in settings["segments"]]
        _change(run.settings, "segments", segments)
        assert shown.sampler_facts(run)["share"] == pytest.approx(wanted)


def test_a_film_that_is_being_rendered_is_not_said_to_have_stopped(shown, tmp_path):
    (run,) = shown.runs_in(tmp_path / "takes" / "t")
    run.report.unlink(missing_ok=True)
    assert shown.facts_of("t")["GF_StreamSampler"][0]["text"] == shown.SO_FAR
    shown.busy.add(tmp_path / "takes" / "t")
    assert shown.facts_of("t")["GF_StreamSampler"][0]["text"] == shown.GOING_ON
