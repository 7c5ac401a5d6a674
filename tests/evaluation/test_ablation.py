"""Parts of the memory taken away: what is measured at a switch, and a run that goes on where it was stopped."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gf_core.builtin import BUILTIN_FILES, BUILTIN_FOLDER
from gf_core.checkpoints.bundle import load_model
from gf_core.cli import main
from gf_core.cli.trainings import ablate
from gf_core.config import MemorySpec
from gf_core.errors import GroundedError
from gf_core.evaluation import ablation
from gf_core.evaluation.charts.ablation import COLOURS, draw
from gf_core.evaluation.film import spans_of
from gf_core.evaluation.measures import events
from gf_core.memory.checks import check
from gf_core.memory.presets import PRESETS
from gf_core.memory.store import DualMemory
from gf_core.text.vocabulary import Vocabulary
from gf_core.timeline import parse
from gf_core.train.recipes import chain
from gf_core.world.reader import load_reader
from gf_core.world.vocabulary import JUMP, STAND, Labels

from .test_metrics import FPS, reading


def span(start: int, stop: int, verb: str, action: int = STAND) -> events.Span:
    return events.Span(start, stop, verb, "", Labels(subject=0, colour=0, action=action))


def test_a_switch_tells_when_it_turns_who_flips_and_what_jumps() -> None:
    spans = [span(0, 64, "start"), span(64, 128, "then", JUMP)]
    later = np.arange(128) >= 64
    seen = reading(
        128, hat=2 * later, action=JUMP * (np.arange(128) >= 80), x=10.0 * later, scarf=np.arange(128) % 2
    )
    changes = np.where(np.abs(np.arange(127) - 64) < 8, 0.03, 0.01)
    (row,) = events.switches(seen, changes, spans, FPS)
    assert row["turn"] == 1.0 and row["jump"] == 10.0 - events.FASTEST
    assert row["flip"] == pytest.approx(1 / 5) and 2.5 < row["flicker"] <= 3
    (never,) = events.switches(reading(128), changes, spans, FPS)
    assert never["turn"] == 4.0 and never["flip"] == never["jump"] == 0
    assert events.switches(seen, changes, [spans[0], span(64, 128, "cut")], FPS) == []


def test_a_place_is_kept_within_its_shot() -> None:
    place = np.zeros(128, int)
    place[64:] = 3  # a cut may bring another place
    place[112:] = 1
    rows = events.place_kept(reading(128, place=place), [span(0, 64, "start"), span(64, 128, "cut")], FPS)
    assert [row["kept"] for row in rows] == [1, 1, 1, 1, 1, 0.5]  # the time of day stays
    place[80:] = 1  # all but a shot's first second is elsewhere
    rows = events.place_kept(reading(128, place=place), [span(64, 128, "start")], FPS)
    assert [row["kept"] for row in rows] == [0.5] * 3


def test_only_segments_that_move_are_asked_for_motion() -> None:
    changes = np.r_[np.full(64, 0.1), np.full(63, 0.5)]
    assert events.moved(changes, [span(0, 64, "start"), span(64, 128, "then", JUMP)], FPS) == [0.5]


@pytest.mark.parametrize(("kind", "verbs"), [("switches", "then"), ("returns", "cut"), ("one", None)])
def test_stories_are_fixed_and_of_one_shape(kind: str, verbs: str | None) -> None:
    text = ablation.story(kind, 1, 3)
    assert text == ablation.story(kind, 1, 3) != ablation.story(kind, 2, 3)
    spans, _ = spans_of(text)
    assert [s.verb for s in spans] == ["start", *([verbs] * 5 if verbs else [])]
    assert len({segment.seed for segment in parse(text).segments}) == len(spans)
    who = [(s.asked.subject, s.asked.colour) for s in spans]
    if kind == "returns":
        assert who[0] == who[2] == who[5] and who[1] == who[4] and len(set(who)) == 3
    else:
        assert len(set(who)) == 1


def test_each_variant_lacks_one_part_and_runs() -> None:
    found = ablation.variants(MemorySpec())
    assert set(found) == set(ablation.NAMES) and len(set(found.values())) == len(found)
    for memory in [*found.values(), *ablation.methods().values()]:
        check(memory)


def test_a_long_shot_is_looked_at_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A film is a few pictures shorter than asked for: its first latent frame makes one picture."""
    rows = [{"second": second, "hidden": second / 10} for second in range(5)]
    monkeypatch.setattr(ablation, "judge", lambda *given: ({"identity_by_second": rows}, None))
    found = ablation.measure_long(
        np.zeros((round(5 * FPS) - 3, 1, 1, 3), np.uint8), ablation.story("one", 0, 5), None
    )
    assert found["identity_5"] == [pytest.approx(0.35)] and found["drift_5"] == [0]
    assert "identity_60" not in found


def test_a_run_goes_on_and_its_table_has_every_variant(tmp_path, monkeypatch) -> None:
    made: list[tuple[str, str]] = []
    measured = {"identity": [0.5, 1.0], "turn": [0.25], "identity_by_second": [[1, 0.5], [2, 1.0]]}
    monkeypatch.setattr(ablation, "measure", lambda frames, text, reader: measured)

    def rendering(name):
        return lambda text: made.append((name, text)) or np.zeros((4, 1, 1, 3), np.uint8)

    full, keep = (ablation.Variant(rendering(name), made) for name, made in (("full", "a"), ("keep", "b")))
    both = {"full": full, "keep": keep}
    given = {
        "seconds": 3,
        "reader": None,
        "out": tmp_path / "o" / "films.jsonl",
    }
    ablation.run({"full": full}, 1, **given)
    with given["out"].open("a") as file:
        file.write('{"variant": "fu')  # a kill
    given["out"].write_text(given["out"].read_text() + "\n")
    rows = ablation.run(both, 2, **given)
    assert len(made) == len(set(made)) == len(rows) == 8
    assert {row["set"] for row in ablation.run(both, 2, sets=["returns"], **given)} == {"returns"}
    assert len(made) == 8
    lines = ablation.table(rows, {name: ablation.COLUMNS[name] for name in ("identity", "turn", "place")})
    assert [line.split(" | ")[0] for line in lines] == [
        "| variant",
        "|---|---|---|---|",
        "| full",
        "| w/o APR: keep",
    ]
    films = [row | {"measures": {"recall_apart_far": [0.5, 1.0]}} for row in rows if row["variant"] == "keep"]
    told = ablation.table(films, ablation.COLUMNS)[-1]
    assert "| 75 (75 to 75) of 8 |" in told and "| – of 0 |" in told
    assert "75 (75 to 75)" in lines[2] and "0.25" in lines[2] and lines[2].endswith("| – |")
    (line,) = ablation.by_seed(rows, {"identity": ablation.COLUMNS["identity"]})
    assert line == "- ID % by seed: full 75 / 75; w/o APR: keep 75 / 75"
    draw(rows, ablation.COLUMNS, tmp_path / "chart.png")
    assert Image.open(tmp_path / "chart.png").width == 1200
    assert len(set(COLOURS)) >= len(ablation.NAMES) + len(ablation.METHODS)
    ablation.run(both | {"full": full._replace(made="other")}, 1, **given)  # other weights
    assert [name for name, _ in made[8:]] == ["full", "full"]
    given["out"].write_text(json.dumps({"a": 1}))
    with pytest.raises(GroundedError, match="no result of an ablation"):
        ablation.run(both, 1, **given)


@pytest.mark.parametrize("count", [6, 18, 40])
def test_no_words_of_the_chart_lie_over_others(count, tmp_path, monkeypatch):
    boxes, write = list[tuple[float, ...]](), ImageDraw.ImageDraw.text

    def seen(pen, place, words, font, **rest):
        boxes.append(pen.textbbox(place, words, font=font))
        write(pen, place, words, font=font, **rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", seen)
    names = [f"w/o APR: full recache, context teacher, {number}" for number in range(count)]
    rows = [
        {
            "variant": name,
            "measures": {"identity": [0.5], "identity_by_second": [(0, 0.5), (9, (n % 7) / 99)]},
        }
        for n, name in enumerate(names)
    ]
    draw(rows, {"identity": ("ID %", 100)}, tmp_path / "chart.png")
    wide, high = Image.open(tmp_path / "chart.png").size
    assert len(boxes) > 4 * count
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    assert all(box[0] >= 0 and box[2] <= wide and box[3] <= high for box in boxes)


def test_a_film_is_measured_in_all_columns() -> None:
    """Noise in place of a film: what is read is nothing, and every column that applies has its numbers."""
    frames = np.random.default_rng(0).integers(0, 255, (69, 64, 96, 3), dtype=np.uint8)
    for kind, absent in (
        ("switches", {"recall_near", "recall_far", "apart", "another"}),
        ("returns", {"turn", "jump", "flicker", "loud"}),
    ):
        found = ablation.measure(frames, ablation.story(kind, 0, 0.75), load_reader())
        assert {name for name in ablation.COLUMNS if not found[name]} - {
            "flip",
            "motion",
            "identity",
            "recall_apart_near",
            "recall_apart_far",
        } >= absent
        assert len(found["action"]) == 6


def test_a_published_memory_tells_the_stories_of_the_variants(tmp_path, monkeypatch, capsys) -> None:
    """Its sink and bank stay at a cut, its recent frames leave; what is asked for without names is what it was."""
    seen: list[tuple[list[int], list[int], int]] = []
    real = DualMemory.cut

    def cut(memory: DualMemory) -> None:
        real(memory)
        sizes = [len(bank) for bank in memory.ledger.banks]
        seen.append((memory.ledger.numbers()[:3], sizes, len(memory.ledger.recent)))
        assert memory.spec == PRESETS["context_forcing"]

    monkeypatch.setattr(DualMemory, "cut", cut)
    out = ["--seeds", "1", "--seconds", "1", "--out", str(tmp_path)]
    assert main(["train", "ablate", "--variants", "context_forcing", "--sets", "switches,returns", *out]) == 0
    assert [(sink, recent) for sink, _, recent in seen] == [([0, 1, 2], 0)] * 5
    assert sum(seen[-1][1]) > sum(seen[1][1]) > 0
    rows = [json.loads(line) for line in (tmp_path / "films.jsonl").read_text().splitlines()]
    assert [(row["variant"], row["set"]) for row in rows] == [
        ("context_forcing", "switches"),
        ("context_forcing", "returns"),
    ]
    assert rows[1]["measures"]["recall_far"] and len(rows[1]["measures"]["apart"]) == 9
    assert "| context_forcing |" in capsys.readouterr().out
    asked: list[str] = []
    monkeypatch.setattr(ablation, "run", lambda variants, *given, **more: asked.extend(variants) or rows)
    assert main(["train", "ablate", *out]) == 0 and asked == list(ablation.NAMES)


def test_a_model_without_words_of_the_stories_is_refused_before_a_training(
    tmp_path, monkeypatch, refused
) -> None:
    bundle = load_model("builtin")
    words = [word for word in bundle.text.words if word != "fox"]
    monkeypatch.setattr(ablate, "load_model", lambda name: replace(bundle, text=Vocabulary(words, 40)))
    monkeypatch.setattr(ablate, "_trained", lambda *given: pytest.fail("it was trained"))
    command = ["train", "ablate", "--further", "a", "--seeds", "9", "--out", str(tmp_path / "o")]
    assert "does not know: fox" in refused(*command)


def test_what_cannot_be_ablated_is_said(tmp_path, refused) -> None:
    ablated = partial(refused, "train", "ablate", "--out", str(tmp_path / "o"))
    assert "no variant called 'soup'" in ablated("--variants", "soup")
    assert "no set called 'one'\n  fix: choose from switches, returns" in ablated("--sets", "returns,one")
    assert "--methods is one long shot" in ablated("--sets", "returns", "--methods")
    assert "no judge called 'soup'" in ablated("--judges", "short,soup", "--further", "a")
    assert "give --further TEACHER" in ablated("--judges", "context")
    assert "--stage all --size tiny" in ablated("--retrain", str(tmp_path), "--size", "tiny")
    said = ablated("--methods", "--further", "a")  # before anything is trained
    assert "rolling_forcing cannot be trained: films whose chunks are denoised" in said
    assert "not allowed with" in ablated("--retrain", str(tmp_path), "--further", str(tmp_path))
    assert "no folder like the built-in model's" in ablated("--further", str(tmp_path))
    for name in BUILTIN_FILES:
        (tmp_path / name).write_bytes(b"another")
    assert "another codec" in ablated("--further", str(tmp_path))


def test_a_memory_that_no_gradient_goes_through_is_not_trained(tmp_path, monkeypatch, refused) -> None:
    monkeypatch.setattr(ablation, "METHODS", ("wave_forcing",))
    command = ["train", "ablate", "--variants", "wave_forcing", "--further", "a", "--out", str(tmp_path)]
    assert "wave_forcing cannot be trained: gradients do not go" in refused(*command)


def test_films_are_told_apart_by_weights_and_memory_and_trainings_by_their_folder(
    tmp_path, monkeypatch
) -> None:
    made, folders = [], []

    def run(variants, *given, **more):
        made.append([variant.made for variant in variants.values()])
        raise GroundedError("that is enough")

    def train(model, teacher, memory, out, folder, judge, seed):
        folders.append((folder.name, seed))
        return BUILTIN_FOLDER

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr(chain, "train_further", train)
    command = ["train", "ablate", "--variants", "full,absolute", "--out", str(tmp_path)]
    assert main(command) == main([*command, "--further", "a", "--trainings", "2"]) == 2
    assert len(set(made[0])) == 2 and set(made[1]) == set(made[0])
    assert folders == [("full", 0), ("full_short_1", 1), ("absolute", 0), ("absolute_short_1", 1)]


@pytest.mark.slow
def test_variants_are_trained_again_through_the_long_stage(tmp_path, monkeypatch) -> None:
    """Every variant from the chain's short films on, under its own memory."""
    monkeypatch.setattr("gf_core.train.recipes.matching.set_up_log", lambda *a: None)
    steps = dict.fromkeys(chain.BEGINS, 1)
    size = replace(chain.SIZES["tiny"], stories=2, steps=steps)
    monkeypatch.setitem(chain.SIZES, "tiny", size)
    model = chain.run_chain(tmp_path / "tiny", size)
    command = f"train ablate --retrain {tmp_path} --size tiny --model {model} --seeds 1 --seconds 1"
    assert main([*command.split(), "--variants", "full,absolute", "--out", str(tmp_path / "out")]) == 0
    assert "w/o DR-RoPE" in (tmp_path / "out" / "table.md").read_text()
    full, absolute = (
        load_model(tmp_path / "tiny" / "ablation" / name / "student") for name in ("full", "absolute")
    )
    assert (full.recipe.memory.positions, absolute.recipe.memory.positions) == ("relative", "absolute")
    assert full.fingerprint == load_model(model).fingerprint != absolute.fingerprint


@pytest.mark.slow
def test_variants_are_trained_further_from_a_finished_model(tmp_path, monkeypatch, refused) -> None:
    """Each from the weights of --model under its own memory; none of them stays what it was."""
    monkeypatch.setattr("gf_core.train.recipes.matching.set_up_log", lambda *a: None)
    steps = {"teacher": 1, "context": 1, "long": 1}
    monkeypatch.setattr(chain, "FURTHER", replace(chain.FURTHER, stories=1, ahead=0, steps=steps))
    names = ("full", "absolute", "context_forcing")
    command = f"train ablate --further {BUILTIN_FOLDER} --seeds 1 --seconds 1 --variants {','.join(names)}"
    assert main([*command.split(), "--out", str(tmp_path)]) == 0
    full, absolute, slow_fast = (load_model(tmp_path / name / "student") for name in names)
    assert (full.recipe.memory.positions, absolute.recipe.memory.positions) == ("relative", "absolute")
    assert (full.recipe.memory.bank, slow_fast.recipe.memory.bank) == (0, 12)
    assert len({model.fingerprint for model in (full, absolute, slow_fast, load_model("builtin"))}) == 4
    made = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".pt", ".safetensors")}
    other = tmp_path / "other"
    shutil.copytree(BUILTIN_FOLDER, other)
    copy = {name: 1.01 * value for name, value in load_file(other / "model.safetensors").items()}
    with safe_open(other / "model.safetensors", "pt") as file:
        save_file(copy, other / "model.safetensors", file.metadata())
    again = command.replace(str(BUILTIN_FOLDER), str(other))
    assert "made of another teacher" in refused(*again.split(), "--out", str(tmp_path))
    assert all(path.read_bytes() == held for path, held in made.items())


@pytest.mark.slow
def test_a_model_is_trained_further_under_either_judge(tmp_path, monkeypatch) -> None:
    """Both are made of the teacher that is given, with the model's words; the one that knows a past is shown it."""
    monkeypatch.setattr("gf_core.train.recipes.matching.set_up_log", lambda *a: None)
    # Of the critic in the last: a film's second piece is the first with a past.
    steps = {"teacher": 2, "context": 2, "long": 4}
    monkeypatch.setattr(chain, "FURTHER", replace(chain.FURTHER, stories=1, ahead=0, steps=steps))
    shown, real = [], chain._run

    def run(options):
        past = options.stage.film.past
        shown.append((options.name, past is not None, Path(options.teacher or options.model).parts[-2:]))
        return real(options)

    monkeypatch.setattr(chain, "_run", run)
    teacher = tmp_path / "teacher"
    shutil.copytree(BUILTIN_FOLDER, teacher)
    (teacher / "text.safetensors").write_bytes(b"words that the model does not know")
    out = tmp_path / "out"
    command = f"train ablate --further {teacher} --seeds 1 --seconds 1 --variants full --judges short,context"
    assert main([*command.split(), "--out", str(out)]) == 0
    given = ("out", "given")
    assert shown == [
        ("short", False, given),
        ("further", False, ("short", "student")),
        ("context", True, given),
        ("further", True, ("context", "student")),
    ]
    assert (out / "given" / "text.safetensors").read_bytes() == (
        BUILTIN_FOLDER / "text.safetensors"
    ).read_bytes()
    folders = [out / name / "student" for name in ("short", "context", "full_short_0", "full_context_0")]
    assert len({load_model(folder).fingerprint for folder in [*folders, "builtin"]}) == 5
    told = (out / "table.md").read_text()
    assert "| full, short teacher |" in told and "| full, context teacher |" in told
    assert main([*command.split(), "--out", str(out)]) == 0  # all that was made is there
    assert (out / "table.md").read_text() == told
