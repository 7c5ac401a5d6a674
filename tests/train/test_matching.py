"""Published trainings are values over one trainer, which ranks, shards and stops do not change."""

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from gf_core.cli import main
from gf_core.config import MemorySpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.train.draws import SampleDraws
from gf_core.train.objectives import CPU
from gf_core.train.order import Order
from gf_core.train.ranks import Ranks, launch
from gf_core.train.recipes import matching
from gf_core.train.recipes.matching import RECIPES, Options, stages_of
from gf_core.train.recipes.prompted import Films, Texts
from gf_core.train.recipes.stage import OPEN, Stage, Verbs
from gf_core.train.recipes.turns import film_figures
from gf_core.train.sources.base import Sample
from gf_core.train.sources.encoded import write_clip
from gf_core.train.state import gathered, learned
from gf_core.train.streaming import StreamSpec

from .conftest import TINY, Pictures, Text, tiny

EVERY = [(recipe, stage) for recipe in RECIPES for stage in stages_of(recipe)]
MATCHING = [(recipe, stage) for recipe, stage in EVERY if stage != "ode"]


def journal(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("recipe, stage", EVERY)
def test_every_value_has_a_source(recipe, stage):
    values = stages_of(recipe)[stage]
    assert set(values.sources) == {field.name for field in fields(Stage)} - {"sources"}
    assert all(len(source) > 8 for source in values.sources.values())
    # What Grounded Forcing leaves open is all but the film, its prompts and its length.
    told = {name for name, source in values.sources.items() if not source.startswith(OPEN)}
    assert recipe != "grounded_forcing" or told <= {"film", "stream", "iterations", "verbs"}


def test_values_are_the_published_ones():
    dmd, sid, ode = stages_of("self_forcing").values()
    assert (ode.steps, ode.betas) == (5000, (0.9, 0.999))
    assert (dmd.rate, dmd.critic_rate, dmd.betas, dmd.ratio, dmd.batch) == (2e-6, 4e-7, (0.0, 0.999), 5, 64)
    assert dmd.film.recipe.sample.steps == (1000, 750, 500, 250) and dmd.steps == 720
    assert (sid.objective, sid.critic_rate, sid.decay) == ("sid", 2e-6, 0.0)
    (rolling,) = stages_of("rolling_forcing").values()
    assert (rolling.rate, rolling.critic_rate, rolling.ratio, rolling.batch) == (1.5e-6, 4e-7, 5, 8)
    assert (rolling.film.frames, rolling.film.window, rolling.film.joint) == (27, 21, 0.5)
    assert (
        rolling.film.recipe.sample.steps == (1000, 800, 600, 400, 200)
        and rolling.film.recipe.memory.rolling == 21
    )
    init, long = stages_of("longlive").values()
    assert (long.rate, long.critic_rate, long.lora.rank, long.stream.longest) == (1e-5, 2e-6, 256, 240)
    assert init.film.recipe.memory.window == 12 and init.film.recipe.memory.recache_reach == 21
    first, contextual = stages_of("context_forcing").values()
    assert (first.film.recipe.memory, contextual.film.recipe.memory) == (
        PRESETS["self_forcing"],
        PRESETS["context_forcing"],
    )
    assert (first.betas, first.critic_betas, first.clip) == ((0.9, 0.999), (0.5, 0.95), 2.0)
    short, long = stages_of("grounded_forcing").values()
    assert short.film.recipe.memory == MemorySpec() and (short.iterations, long.iterations) == (1200, 1000)


def test_a_student_begins_from_ode_states(given, tmp_path, refused):
    states = np.random.default_rng(0).standard_normal((3, 5, 9, 4, 2, 4)).astype(np.float16)
    with lmdb.open("pairs", map_size=10**7) as env, env.begin(write=True) as txn:
        txn.put(b"latents_shape", " ".join(map(str, states.shape)).encode())
        for n, row in enumerate(states):
            txn.put(f"latents_{n}_data".encode(), row.tobytes())
            txn.put(f"prompts_{n}_data".encode(), b"fox")
    command = [
        "train",
        "self_forcing",
        *given,
        "--stage",
        "ode",
        "--batch",
        "2",
        "--iterations",
        "4",
        "--report",
        "1",
    ]
    unused = ["--teacher", "no.pt", "--critic", "no.pt", "--negative", "hen"]
    assert main([*command, "--data", "pairs", "--frames", "9", *unused]) == 0
    run = tmp_path / "runs" / "self_forcing" / "ode"
    lines, told = journal(run), (run / "train.log").read_text()
    assert len(lines) == 4 and all(line["regression"] > 0 for line in lines)
    assert all(f"what {option} gives is not used" in told for option in unused[::2])
    assert "(5, 9, 4, 2, 4)" in refused(*command, "--data", "pairs", "--frames", "12", "--folder", "other")
    assert "no latents" in refused(*command, "--frames", "9", "--folder", "other")


@pytest.mark.parametrize("kind", ["parquet", "lmdb", "clips"])
def test_films_made_from_prompts_need_no_latents_beside_them(given, tmp_path, kind, refused):
    """Of another codec, never written, or damaged: they are not looked at, and a line says so. A stage that learns from
    latents refuses the same data."""
    if kind == "parquet":
        shapes = {"vae_latent_shape": [[16, 3, 2, 2]], "vae_latent_dtype": ["float32"]}
        pq.write_table(pa.table({"caption": ["fox"], "vae_latent_bytes": [b"cut"], **shapes}), "data.parquet")
    elif kind == "lmdb":
        with lmdb.open("data.lmdb", map_size=10**7) as env, env.begin(write=True) as txn:
            txn.put(b"latents_shape", b"1 9 4 2 4")
            txn.put(b"latents_0_data", bytes(2 * 9 * 4 * 2 * 4))
            txn.put(b"prompts_0_data", b"fox")
    else:
        clip = tmp_path / "data.clips" / "fox.mp4-0000.safetensors"
        write_clip(clip, torch.zeros(5, 16, 2, 2), {"prompt": "fox"})
        clip.write_bytes(clip.read_bytes()[:-1] + b"x")
    command = ["train", "self_forcing", *given, "--data", f"data.{kind}", "--frames", "9", "--batch", "1"]
    command += ["--iterations", "1", "--stage"]
    assert main([*command, "dmd"]) == 0
    run = tmp_path / "runs" / "self_forcing" / "dmd"
    assert "the latents beside them are not used" in (run / "train.log").read_text()
    assert main([*command, "dmd"]) == 0, "it goes on with the same data"
    whole = {"parquet": "not normalised", "lmdb": "never written", "clips": "damaged"}
    assert whole[kind] in refused(*command, "ode")


@pytest.mark.parametrize("recipe, stage", MATCHING)
def test_every_recipe_runs_from_the_command_line(given, tmp_path, recipe, stage):
    values = stages_of(recipe)[stage]
    each = "1" if values.film.recipe.memory.bank else "2"
    command = ["train", recipe, *given, "--stage", stage, "--then", "b.txt", "--batch", "2", "--each", each]
    frames = ["--frames", "48"] if values.film.context else ["--frames", "39" if values.stream else "9"]
    assert main([*command, *frames, "--iterations", "1", "--report", "1"]) == 0
    folder = tmp_path / "runs" / recipe / stage
    unused = (folder / "train.log").read_text().count("is not used")
    assert unused == (not max(values.verbs.switches)), "prompts to change to, and nothing else"
    lines = journal(folder)
    loss = stages_of(recipe)[stage].objective
    assert [next(name for name in ("dmd", "sid", "critic") if name in line) for line in lines] == [
        loss,
        "critic",
    ]
    assert all(line["motion"] > 0 and line["border"] > 0 for line in lines)
    assert [(line["student_steps"], line["critic_steps"]) for line in lines] == [(1, 0), (1, 1)]
    made = {path.name for path in (folder / "student").iterdir()}
    adapted = stages_of(recipe)[stage].lora is not None
    assert ("adapter_model.safetensors" if adapted else "model.safetensors") in made
    name = "adapter_model.safetensors" if adapted else "model.safetensors"
    assert all(value.isfinite().all() for value in load_file(folder / "student" / name).values())


def options(tmp_path, **changes):
    stage = stages_of("self_forcing")["dmd"]
    recipe = replace(stage.film.recipe, video=replace(stage.film.recipe.video, width=32, height=16))
    film = replace(stage.film, recipe=recipe, frames=9, window=9)
    stage = replace(stage, film=film, batch=2, iterations=17, rate=1e-3, critic_rate=1e-3, average_from=5)
    data = tmp_path / "a.txt"
    given = Options("dmd", stage, data, "student", tmp_path / "run", teacher="teacher", report=1)
    return replace(given, **changes)


def together(stage: Stage, **changes) -> Stage:
    """Films of three or four chunks, some of them with chunks that are denoised together."""
    film = stages_of("rolling_forcing")["dmd"].film
    recipe = replace(film.recipe, video=stage.film.recipe.video)
    return replace(stage, film=replace(film, recipe=recipe, frames=12, window=9, **changes))


def coins(run: Options) -> list[bool]:
    """Of every batch of a run, whether its films are made with chunks together."""
    batches = range(run.stage.steps * run.stage.batch // run.each)
    return [SampleDraws(run.seed, n, range(1), CPU).whole("joint", 0, 1000) < 500 for n in batches]


def streaming(stage: Stage) -> Stage:
    verbs = Verbs(switches=(1, 1), at=(3, 4))
    return replace(stage, stream=StreamSpec(longest=27, piece=6), verbs=verbs)


def trained(ranks: Ranks, *runs: Options) -> None:
    """Runs, each of which leaves its weights in a file."""
    if ranks.count > 1:
        torch.set_num_threads(1)
        matching.load_model = tiny
    for given in runs:
        run = matching.train(ranks, given)
        parts = [*(learned(module) for module in run.modules.values()), run.average.values]
        values = [gathered(part) for part in parts]
        if ranks.first:
            torch.save(values, given.folder / "values.pt")


@pytest.mark.slow
def test_two_sharded_ranks_do_what_one_process_does(given, tmp_path):
    """20 steps of DMD, on films of their own, chunk by chunk or not, and on one that goes on: the same losses, weights
    and average."""
    whole = options(tmp_path, then=tmp_path / "b.txt")
    kinds = {
        "films": whole.stage,
        "stream": streaming(replace(whole.stage, iterations=7)),
        "together": together(replace(whole.stage, iterations=4)),
    }
    assert whole.stage.steps == 21
    runs = [replace(whole, stage=stage, folder=tmp_path / name) for name, stage in kinds.items()]
    assert {*coins(runs[-1])} == {False, True}
    launch(trained, 2, "cpu", *runs)
    for run in runs:
        alone = replace(run, each=2, folder=tmp_path / "alone" / run.folder.name)
        trained(Ranks(), alone)
        first, second = journal(alone.folder), journal(run.folder)
        assert len(first) == len(second) == run.stage.steps
        for one, other in zip(first, second):
            name = "dmd" if "dmd" in one else "critic"
            assert other[name] == pytest.approx(one[name], rel=2e-4), one["step"]
        states = [torch.load(folder / "values.pt") for folder in (alone.folder, run.folder)]
        for one, other in zip(*states, strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                torch.testing.assert_close(other[name], value, atol=2e-4, rtol=2e-3, msg=name)


@pytest.mark.parametrize(
    "streams, bank, joint", [(False, 0, False), (True, 0, False), (True, 2, False), (False, 0, True)]
)
def test_a_stopped_training_goes_on_to_the_bit(given, tmp_path, streams, bank, joint):
    """In the middle of a film, too, one with a switch and a new one after it; what lies in its bank has a state."""
    whole = options(tmp_path, folder=tmp_path / "whole", then=tmp_path / "b.txt")
    whole = replace(whole, stage=replace(whole.stage, iterations=6, batch=1))
    if streams:  # 9, 15 and 21 frames, the stop, 27, and a new film
        whole = replace(whole, stage=streaming(whole.stage))
    if joint:
        whole = replace(whole, stage=together(whole.stage))
        assert {*coins(whole)[:3]} == {*coins(whole)[3:]} == {False, True}, (
            "both kinds, before the stop and behind it"
        )
    if bank:
        memory = replace(PRESETS["context_forcing"], bank=bank, bank_below=2.0)
        film = replace(whole.stage.film, recipe=replace(whole.stage.film.recipe, memory=memory))
        whole = replace(whole, stage=replace(whole.stage, film=film))
    short = replace(whole.stage, iterations=2)
    trained(Ranks(), whole)
    parted = replace(whole, folder=tmp_path / "parted")
    for stage in (short, whole.stage):
        trained(Ranks(), replace(parted, stage=stage))
    for one, other in zip(
        *(torch.load(place.folder / "values.pt") for place in (whole, parted)), strict=True
    ):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("streams", [False, True])
def test_a_folder_goes_on_with_the_same_run_only(given, tmp_path, monkeypatch, streams):
    """Another teacher, student, critic, set of data, seed or setting is refused by name, and changes nothing there;
    a longer run, and the same data elsewhere, go on."""
    run = options(tmp_path, then=tmp_path / "b.txt", critic="teacher")
    run = replace(run, stage=replace(run.stage, iterations=1, batch=1))
    run = replace(run, stage=streaming(run.stage)) if streams else run
    matching.train(Ranks(), run)
    kept = (run.folder / "dmd.pt").read_bytes()
    for name, text in (("c", "fox\nhen\n"), ("d", "\n".join("fox" + "o" * n for n in (0, 1, 2, 3, 4, 5, 7)))):
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "e.txt").write_text((tmp_path / "b.txt").read_text().replace("hene\n", "hey\n"))
    film = replace(run.stage.film, recipe=replace(run.stage.film.recipe, memory=MemorySpec(recent=9)))
    changes = [
        ({"model": "teacher"}, "another model"),
        ({"teacher": "student"}, "another teacher"),
        ({"critic": "student"}, "another critic"),
        (
            {"data": tmp_path / "c.txt", "then": None if not streams else tmp_path / "c.txt"},
            "another set of data",
        ),
        ({"data": tmp_path / "d.txt"}, "another set of data"),
        ({"then": tmp_path / "e.txt"}, "another set of data"),
        ({"seed": 5}, "seed 0, which is 5 now"),
        ({"negative": "ugly"}, "negative prompt None, which is ugly now"),
        ({"stage": replace(run.stage, batch=2)}, "batch 1, which is 2 now"),
        ({"stage": replace(run.stage, rate=1.0)}, "rate 0.001, which is 1.0 now"),
        ({"stage": replace(run.stage, film=film)}, "film.recipe.memory"),
    ]
    for change, said in changes:
        with pytest.raises(GroundedError, match=said) as refused:
            matching.train(Ranks(), replace(run, **change))
        assert "another folder" in refused.value.fix
    assert (run.folder / "dmd.pt").read_bytes() == kept
    (tmp_path / "elsewhere.txt").write_bytes((tmp_path / "a.txt").read_bytes())
    longer = replace(run, data=tmp_path / "elsewhere.txt", stage=replace(run.stage, iterations=3))
    assert matching.train(Ranks(), longer).step == 4


def test_a_run_where_stages_had_no_folder_is_not_passed_over_in_silence(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "grounded")
    monkeypatch.chdir(tmp_path)
    places = []
    monkeypatch.setattr(matching, "launch", lambda *given: places.append(given[-1].folder))
    wanted = ["--data", "a.txt", "--model", "builtin"]
    home = Path("runs/self_forcing")
    matching.main("self_forcing", wanted)
    assert not caplog.text and places.pop() == home / "dmd"
    home.mkdir(parents=True)
    (home / "dmd.pt").touch()
    matching.main("self_forcing", wanted)
    assert f"--folder {home} goes on with" in caplog.text and places.pop() == home / "dmd"


def test_a_student_is_not_written_over_by_another_stage(given, tmp_path, refused):
    command = ["train", "self_forcing", *given, "--frames", "9", "--batch", "1", "--iterations", "1"]
    command += ["--seed", str(2**32 - 1)]
    assert main([*command, "--folder", "one"]) == 0
    made = (tmp_path / "one" / "student" / "model.safetensors").read_bytes()
    assert "holds what the stage dmd made" in refused(*command, "--folder", "one", "--stage", "sid")
    assert (tmp_path / "one" / "student" / "model.safetensors").read_bytes() == made
    assert main([*command, "--folder", "one"]) == 0, "the finished one again"
    assert main(command) == main([*command, "--stage", "sid"]) == 0, "each has a folder of its own"


def test_draws_belong_to_samples_and_lengths_to_batches():
    some, second = SampleDraws(3, 5, range(10, 14), CPU), SampleDraws(3, 5, range(11, 12), CPU)
    noise = some.normal("noise", (4, 4))
    assert torch.equal(noise[1:2], second.normal("noise", (1, 4))) and len(noise.unique(dim=0)) == 4
    assert torch.equal(some.places("place", (4, 3), 9)[1:2], second.places("place", (1, 3), 9))
    lengths = [some.whole("exit", 0, 10**6), second.whole("exit", 0, 10**6)]
    assert lengths[0] == lengths[1] == some.whole("exit", 0, 10**6) != some.whole("chunks", 0, 10**6)
    assert SampleDraws(3, 6, range(1), CPU).whole("exit", 0, 10**6) != lengths[0]


def test_ranks_of_a_step_decide_alike_and_draw_apart():
    """Exit, length and switches are one for all, and two ranks make the two films that one process makes."""
    stage = replace(stages_of("self_forcing")["dmd"], verbs=Verbs(switches=(1, 2)))
    stage = replace(stage, film=replace(stage.film, frames=60))
    source = [Sample("fox" + "o" * n, then="hen" + "e" * n) for n in range(7)]
    made = SimpleNamespace(text=Text(), spec=TINY)

    def batches(ranks, each):
        films = Films(stage, source, Order(7, ranks), Texts(made, "", small=True), (4, 2, 4), CPU, seed=5)
        return [films.batch(number, ranks, each) for number in range(4)]

    for whole, *apart in zip(batches(Ranks(), 2), *(batches(Ranks(rank, 2), 1) for rank in range(2))):
        decided = [
            [one.draws.whole(name, 0, 10**6) for name in ("exit", "chunks")] for one in (whole, *apart)
        ]
        verbs = [{block: cue.verb for block, cue in one.cues.items()} for one in (whole, *apart)]
        assert decided == decided[:1] * 3 and verbs == verbs[:1] * 3 and verbs[0]
        noise = [one.draws.normal("noise", (len(one.prompt), 3, 4)) for one in (whole, *apart)]
        assert torch.equal(noise[0], torch.cat(noise[1:])) and not torch.equal(*noise[1:])
        for one, prompt in zip(apart, whole.prompt):
            torch.testing.assert_close(one.prompt[0], prompt[: one.prompt.shape[1]])


def test_figures_tell_motion_and_borders():
    steady = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(1, 9, 4, 2, 2)
    figures = film_figures(steady, 3)
    assert figures["motion"] == 1 and figures["border"] == 1
    one = film_figures(steady[:, :3], 3)
    assert set(one) == {"motion"}, "no border, rather than one that is no number"
    jumping = steady + 2 * torch.arange(9).div(3, rounding_mode="floor").view(1, 9, 1, 1, 1)
    assert film_figures(jumping, 3)["border"] == 9


def test_a_window_inside_a_film_begins_with_a_picture():
    latents = torch.randn(2, 5, 4, 2, 3)
    first = matching.first_frame(Pictures(), latents)
    torch.testing.assert_close(first, latents[:, -1:].mean(2, keepdim=True).expand(-1, -1, 4, -1, -1))


@pytest.mark.parametrize(("frames", "judged"), [(30, 21), (21, 21), (9, 9)])
def test_of_films_that_are_asked_for_longer_as_much_is_judged_as_of_the_paper_s(
    given, monkeypatch, frames, judged
):
    asked = []
    monkeypatch.setattr(
        matching, "launch", lambda run, ranks, device, options: asked.append(options.stage.film)
    )
    assert main(["train", "rolling_forcing", *given, "--frames", str(frames)]) == 0
    assert [(film.frames, film.window) for film in asked] == [(frames, judged)]


def test_what_cannot_be_is_said(given, tmp_path, refused):
    said = refused("train", "longlive", *given, "--stage", "long", "--frames", "39", "--batch", "1")
    assert "--then FILE" in said
    assert "multiple of 2" in refused("train", "self_forcing", *given, "--batch", "3", "--each", "2")
    for wrong, fix in (
        (["--frames", "8"], "a multiple of 3, such as 9"),
        (["--size", "40x40"], "use 32x32"),
        (["--device", "mars"], "use --device cpu"),
    ):
        assert fix in refused("train", "self_forcing", *given, *wrong)
    for recipe, stage, frames, fix in (
        ("longlive", "long", "18", "21"),
        ("context_forcing", "contextual", "24", "27"),
    ):
        command = ["train", recipe, *given, "--stage", stage, "--then", "b.txt", "--frames", frames]
        said = refused(*command)
        assert f"{frames} latent frames is too short" in said and f"give --frames {fix} or more" in said
    command = ["train", "context_forcing", *given, "--stage", "contextual", "--batch", "2", "--each", "2"]
    assert "films made one at a time: --each 1" in refused(*command)
    assert not (tmp_path / "runs" / "context_forcing").exists()  # before anything is loaded
    said = refused("train", "self_forcing", *given, "--nodes", "2")
    assert "1 rank cannot be shared out evenly over 2 nodes" in said
    for wrong in ("-1", str(2**32)):
        refused("train", "self_forcing", *given, "--seed", wrong)
    for name in ("--frames", "--batch", "--each", "--ranks", "--iterations", "--report"):
        assert "'0' is not a whole number from 1" in refused("train", "self_forcing", *given, name, "0")
    with pytest.raises(GroundedError, match="wandb"):
        matching.Journal(tmp_path / "log.jsonl", "project")
