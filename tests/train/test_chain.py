"""The whole chain: what a context teacher sees, what clips tell, and that one command ends in a model that renders."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gf_core.builtin import BUILTIN_FILES
from gf_core.cli import main
from gf_core.config import MemorySpec
from gf_core.errors import GroundedError
from gf_core.train.draws import SampleDraws
from gf_core.train.films import ClipsGiven, Cue
from gf_core.train.objectives import CPU, scores
from gf_core.train.objectives.dmd import learn_window, match_window
from gf_core.train.objectives.forced import forced_flow
from gf_core.train.objectives.scores import Matching
from gf_core.train.objectives.teacher import Errors, Recycling, chosen, teacher
from gf_core.train.past import Past
from gf_core.train.recipes import chain, matching
from gf_core.train.recipes.chain import FURTHER, SIZES, run_chain, stages_of, train_further
from gf_core.train.rollout import with_past
from gf_core.train.sources.encoded import Encoded, read_clip, write_clip
from gf_core.train.streaming import Stream, StreamSpec
from gf_core.vae.builtin import BuiltinCodec, CodecConfig, save_codec


@pytest.mark.parametrize(
    ("before", "frames"),
    [
        (0, []),
        (2, [0, 1]),
        (9, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (30, [0, 1, 2, 6, 12, 18, *range(24, 30)]),
        (200, [0, 1, 2, *range(122, 189, 6), *range(194, 200)]),
    ],
)
def test_a_past_is_sink_slow_and_fast_frames(before, frames):
    """At most 21 of them; every one there is only once."""
    assert Past().of(before) == frames and len(frames) <= 21


def clips(prompt, cues, chunks=5, number=0):
    latents = torch.arange(chunks * 3.0).view(1, -1, 1, 1, 1).expand(1, -1, 4, 2, 4)
    return ClipsGiven(prompt, latents, SampleDraws(0, number, range(1), CPU), cues=cues)


def test_a_window_lies_in_one_segment_under_its_prompt(films):
    film = films.spec(window=6, frames=6, past=Past(sink=1, slow=1, fast=2, every=2))
    cut = Cue("cut", films.prompts[1])
    for number in range(12):
        window, prompt = chosen(clips(films.prompts[0], {2: cut}, number=number), film)
        frames = window.latents[0, :, 0, 0, 0].tolist()
        first = int(frames[window.context])
        assert frames[window.context :] == list(range(first, first + 6))
        assert frames[: window.context] == film.past.of(first)
        assert (first, prompt is cut.prompt) in ((0, False), (6, True), (9, True))
    with pytest.raises(GroundedError, match="no segment"):
        chosen(clips(films.prompts[0], {n: cut for n in range(1, 5)}), film)


def test_a_teacher_that_knows_the_window_has_no_loss(nets, films, monkeypatch):
    """Its flow leads from the noisy window to the clean one, and it was shown the past as it is."""
    film = films.spec(window=6, frames=6, past=Past(sink=1, slow=1, fast=2, every=2))
    tried = [clips(films.prompts[0], {}, number=number) for number in range(9)]
    given = next(clip for clip in tried if chosen(clip, film)[0].context)
    given = replace(given, latents=torch.randn(1, 15, 4, 2, 4))
    window, _ = chosen(given, film)
    past = window.latents[:, : window.context]
    assert teacher(nets, given, film, Matching()).total > 0.1

    def knows(net, noisy, timestep, prompt):
        assert torch.equal(noisy[:, : window.context], past)
        return (noisy - window.latents) / scores.sigma_at(timestep, Matching().shift)

    monkeypatch.setattr("gf_core.train.objectives.teacher.flow_of", knows)
    errors = Errors(Recycling(grids=1, clean=1.0, learn_clean=1.0))
    assert teacher(nets, given, film, Matching(), errors).total < 1e-9
    assert errors.state_dict().keys() == {"latent.0", "noise.0"}
    assert all(error.abs().max() < 1e-4 for error in errors.state_dict().values()), "it makes none"


def test_a_teachers_errors_come_back(nets, films):
    """A band holds its errors and no more; what comes back changes the loss, and goes on after a stop."""
    film = films.spec(window=6, frames=6, past=Past(sink=1, slow=1, fast=2, every=2))
    always = Recycling(grids=1, entries=2, clean=0.0, noise=1.0, latent=1.0, context=1.0)
    latents, errors = torch.randn(1, 15, 4, 2, 4), Errors(always)

    def loss(errors=None):  # the same draws every time
        return teacher(
            nets, replace(clips(films.prompts[0], {}), latents=latents), film, Matching(), errors
        ).total

    plain = loss()
    assert loss(errors) == plain  # nothing is kept yet
    changed = loss(errors)
    assert changed != plain
    for _ in range(3):
        loss(errors)
    held = errors.state_dict()
    assert {name: len(value) for name, value in held.items()} == {"latent.0": 2, "noise.0": 2}
    other = Errors(always)
    other.load_state_dict(held)
    draws = SampleDraws(0, 1, range(1), CPU)
    assert torch.equal(other.take("latent", draws), errors.take("latent", draws))
    changed.backward()
    assert all(p.grad is not None for p in nets.generator.blocks[0].parameters())


def test_errors_of_the_past_lie_on_its_newest_frames(nets, films, monkeypatch):
    """Sink and slow frames stay as they are: they were clean when they came to be seen."""
    film = films.spec(window=6, frames=6, past=Past(sink=1, slow=1, fast=2, every=2))
    tried = (clips(films.prompts[0], {}, number=number) for number in range(20))
    given = next(clip for clip in tried if chosen(clip, film)[0].context == 4)
    window, errors = chosen(given, film)[0], Errors(Recycling(clean=0.0, noise=0.0, latent=0.0, context=1.0))
    errors.load_state_dict({"latent.0": torch.ones(1, 6, 4, 2, 4)})
    seen = []

    def flow(net, noisy, timestep, prompt):
        seen.append(noisy)
        return torch.zeros_like(noisy)

    monkeypatch.setattr("gf_core.train.objectives.teacher.flow_of", flow)
    teacher(nets, given, film, Matching(), errors)
    off = (seen[0] - window.latents)[0, :4, 0, 0, 0]
    assert off.tolist() == pytest.approx([0, 0, 1, 1])


def test_a_past_is_told_the_level_that_it_has_or_the_windows(nets, films, monkeypatch):
    """By all who see one: the teacher that learns, and teacher and critic that judge."""
    film = films.spec(window=6, frames=6, past=Past(sink=1, slow=1, fast=2, every=2))
    told, real = [], scores.bidirectional_flow

    def flow(net, spec, latents, timestep, prompt):
        told.append(timestep.expand(-1, latents.shape[1])[0].tolist())
        return real(net, spec, latents, timestep, prompt)

    monkeypatch.setattr(scores, "bidirectional_flow", flow)
    tried = (clips(films.prompts[0], {}, number=number) for number in range(9))
    given = next(clip for clip in tried if chosen(clip, film)[0].context)
    given = replace(given, latents=torch.randn(1, 15, 4, 2, 4))
    batch = films.batch(0)
    with torch.no_grad():
        for clean in (False, True):
            match = Matching(clean_context=clean)
            window = with_past(given.latents, film)
            assert window.context == 4
            teacher(nets, given, film, match)
            learn_window(nets, batch, window, match)
            match_window(nets, batch, window, match)
    assert len(told) == 2 * 5  # of DMD three: the critic, and the teacher with and without a prompt
    for levels in told:
        assert len(set(levels[-6:])) == 1 and levels[-1] > 0
    assert all(len(set(levels)) == 1 for levels in told[:5])
    assert all(set(levels[:-6]) == {0.0} for levels in told[5:])


def test_a_critic_may_be_ahead_of_its_student():
    stage = replace(stages_of(SIZES["tiny"])["long"], iterations=5, ratio=2, ahead=3)
    assert stage.steps == 3 + 5 + 3
    assert [step for step in range(stage.steps) if stage.learns(step)] == [3, 6, 9]
    assert replace(stage, ahead=0).learns(0)
    reports = []
    matching.with_steps(lambda step, told: reports.append(told), stage, 7, {"dmd": 1.0})
    assert reports == [{"student_steps": 2, "critic_steps": 5, "dmd": 1.0}]


def test_verbs_inside_a_clip_act_as_in_films(nets, films):
    """Behind a `scene` chunks are those of a clip that begins there; behind a `then` they know what was before."""
    film, net = films.spec(), nets.generator
    noisy, clean = torch.randn(2, 1, 12, 4, 2, 4).unbind()
    times = torch.full((1, 12), 500.0)
    flows = {
        verb: forced_flow(net, film, films.batch(cues={2: Cue(verb, films.prompts[1])}), noisy, times, clean)
        for verb in ("scene", "then")
    }
    anew = replace(films.batch(), prompt=films.prompts[1])
    begun = forced_flow(net, film, anew, noisy[:, 6:], times[:, 6:], clean[:, 6:])
    torch.testing.assert_close(flows["scene"][:, 6:], begun)
    assert not torch.allclose(flows["then"][:, 6:], begun)
    assert torch.equal(flows["then"][:, :6], flows["scene"][:, :6])


def test_scores_see_the_past_of_a_film_that_goes_on(nets, films):
    past = Past(sink=1, slow=1, fast=2, every=2)
    film = films.spec(window=6, frames=6, past=past)
    stream = Stream(film, StreamSpec(longest=18, piece=6))
    with torch.no_grad():
        windows = [stream.advance(nets.generator, films.batch(seed))[1] for seed in range(3)]
    assert [window.context for window in windows] == [0, 4, 4]
    whole = stream.tail
    assert whole.shape[1] == 18
    torch.testing.assert_close(windows[2].latents, whole[:, [*past.of(12), *range(12, 18)]], atol=0, rtol=0)


def test_a_clip_tells_what_its_prompts_do(tmp_path):
    write_clip(
        tmp_path / "a.safetensors",
        torch.zeros(6, 4, 2, 4),
        {"prompt": "fox", "cues": [(1, "cut", "hen")]},
    )
    write_clip(tmp_path / "b.safetensors", torch.zeros(6, 4, 2, 4), {"prompt": "hen"})
    for number, wrong in enumerate(([(1, "back", "hen")], [3], 3)):
        write_clip(
            tmp_path / f"c{number}.safetensors", torch.zeros(6, 4, 2, 4), {"prompt": "", "cues": wrong}
        )
        with pytest.raises(GroundedError, match=r"verb 'back'|no list of chunk"):
            Encoded(tmp_path)[2 + number]
    told, silent = Encoded(tmp_path)[0], Encoded(tmp_path)[1]
    assert told.prompt == "fox" and told.cues == ((1, "cut", "hen"),) and silent.cues is None


def few(stories):
    """So many stories of three chunks and windows of one."""
    return replace(SIZES["tiny"], stories=stories, chunks=3, window=3)


def test_stories_say_how_far_they_are_and_what_a_stop_keeps(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(chain, "SILENCE", 0.0)
    torch.manual_seed(0)
    codec = tmp_path / "codec"
    save_codec(BuiltinCodec(CodecConfig(encoder_widths=(8, 8, 16), decoder_widths=(8, 8, 16))), codec)

    def draw(rng, chunks, kind, real=chain.sample_script):
        if len(list((tmp_path / "stories").glob("*.safetensors"))) == 2:
            raise KeyboardInterrupt
        return real(rng, chunks, kind)

    monkeypatch.setattr(chain, "sample_script", draw)
    with caplog.at_level("INFO", "grounded"), pytest.raises(KeyboardInterrupt):
        chain.write_stories(tmp_path / "stories", codec, few(4))
    said = [record.getMessage() for record in caplog.records]
    assert said[1:3] == ["story 1 of 4 is kept", "story 2 of 4 is kept"]
    assert said[3].startswith("2 of 4 stories are kept in ") and "goes on from there" in said[3]


def test_stories_of_another_codec_are_made_again(tmp_path, windows, monkeypatch):
    """Those of the same codec are kept, and so are those of an older program, which does not say."""
    made, codecs = [], [tmp_path / "a", tmp_path / "b"]

    def write(path, *clip):
        made.append(int(path.stem))
        write_clip(path, *clip)

    monkeypatch.setattr(chain, "write_clip", write)
    for seed, path in enumerate(codecs):
        torch.manual_seed(seed)
        save_codec(BuiltinCodec(CodecConfig(encoder_widths=(8, 8, 16), decoder_widths=(8, 8, 16))), path)
    for codec in (codecs[0], codecs[0], codecs[1]):
        chain.write_stories(tmp_path / "stories", codec, few(2))
    assert made == [0, 1, 0, 1]
    facts, latents = read_clip(tmp_path / "stories" / "00000.safetensors")
    del facts["codec"]
    write_clip(tmp_path / "stories" / "00000.safetensors", latents, facts)
    (tmp_path / "stories" / "00001.safetensors").unlink()
    chain.write_stories(tmp_path / "stories", codecs[0], few(1))
    assert made == [0, 1, 0, 1]


def test_stories_of_other_settings_are_refused_and_left_as_they_are(tmp_path, monkeypatch):
    """Of another length, of prompts that changed elsewhere, of more of them, and of files that are none."""
    blank = np.zeros((1, 64, 96, 3), np.uint8)
    monkeypatch.setattr(chain, "render", lambda script: SimpleNamespace(frames=blank))
    monkeypatch.setattr(
        chain, "load_codec", lambda path: SimpleNamespace(encode=lambda frames: torch.zeros(1))
    )
    codec, folder = tmp_path / "codec", tmp_path / "stories"
    codec.write_bytes(b"codec")
    size = replace(FURTHER, stories=6)
    chain.write_stories(folder, codec, size)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    others = [
        replace(size, chunks=20),
        replace(size, whole=False),
        replace(size, stories=5),
        replace(size, kinds={"return": 1.0}),
    ]
    for other in others:
        with pytest.raises(GroundedError, match=r"is none of the \d stories") as refusal:
            chain.write_stories(folder, codec, other)
        assert str(folder) in refusal.value.fix
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    (folder / "00002.safetensors").rename(folder / "00009.safetensors")
    with pytest.raises(GroundedError, match=r"00009.safetensors is none"):
        chain.write_stories(folder, codec, size)
    (folder / "00009.safetensors").unlink()
    (folder / "00003.safetensors").write_bytes(b"damaged")
    chain.write_stories(folder, codec, size)
    assert {path.name: read_clip(path)[0]["script"] for path in folder.iterdir()} == {
        name: number for number, name in enumerate(sorted(files))
    }


def test_prompts_of_whole_windows_change_where_one_begins(tmp_path, monkeypatch):
    """In stories that a finished model is trained further with; of both kinds, and everybody who left comes back."""
    monkeypatch.setattr(
        chain, "render", lambda script: scripts.append(script) or SimpleNamespace(frames=blank)
    )
    scripts, blank = [], np.zeros((1, 64, 96, 3), np.uint8)
    codec = SimpleNamespace(encode=lambda frames: torch.zeros(1))
    for number in range(30):
        chain._write_story(tmp_path / f"{number}.safetensors", codec, number, FURTHER, "")
    window = FURTHER.window // chain.MEMORY.chunk
    assert {script.kind for script in scripts} == set(FURTHER.kinds)
    for script in scripts:
        assert all(segment.start_chunk % window == 0 for segment in script.segments)
        if script.kind == "return":
            first, other, again = (segment.character for segment in script.segments)
            assert first == again != other


def short(**steps):
    names = dict.fromkeys(("teacher", "context", "causal", "few", "match", "long"), 1)
    return replace(SIZES["tiny"], stories=4, batch=1, steps=names | steps)


def test_every_stage_begins_with_one_before_it():
    names = ["start", *stages_of(short())]
    for name, needs in chain.BEGINS.items():
        assert all(names.index(before) < names.index(name) for before in needs if before)
    assert list(chain.BEGINS) == names[1:]


@pytest.mark.slow
def test_a_stopped_chain_goes_on_and_its_end_renders(tmp_path, monkeypatch, caplog):
    """It is stopped in its second stage; weights are those of a chain that was not. Then one command, to the end."""
    caplog.set_level("INFO", "grounded")
    monkeypatch.setattr("gf_core.train.recipes.matching.set_up_log", lambda *a: None)
    monkeypatch.setattr("gf_core.train.recipes.builtin.set_up_log", lambda *a: None)
    whole = run_chain(tmp_path / "whole", short(context=4))
    real = chain.run_stage

    def stop_after_context(name, *given):
        real(name, *given)
        if name == "context":
            raise KeyboardInterrupt

    monkeypatch.setattr(chain, "run_stage", stop_after_context)
    with pytest.raises(KeyboardInterrupt):
        run_chain(tmp_path / "parted" / "tiny", short(context=2))
    monkeypatch.setattr(chain, "run_stage", real)
    monkeypatch.setitem(chain.SIZES, "tiny", short(context=4))
    command = ["train", "builtin", "--stage", "all", "--size", "tiny", "--folder", str(tmp_path / "parted")]
    caplog.clear()
    assert main(command) == 0
    assert "context resumes at step 2" in caplog.text
    model = tmp_path / "parted" / "builtin"
    assert (model / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert {"teacher.pt", "student"} <= {p.name for p in (tmp_path / "parted" / "tiny" / "teacher").iterdir()}
    (tmp_path / "parted" / "codec.safetensors").write_bytes(b"another")
    assert main(command) == 2
    board, film = tmp_path / "film.txt", tmp_path / "film.mp4"
    board.write_text(
        "a red fox jumps in a meadow at noon | 1s\ncut: a red fox sleeps on a beach at noon | 1s\n"
    )
    assert main(["render", str(board), "--model", str(model), "--out", str(film)]) == 0
    assert film.stat().st_size > 1000


def test_a_judge_is_made_of_the_teacher_where_its_student_lies_beside_it(tmp_path, monkeypatch):
    """And with the words of the model that it judges."""
    monkeypatch.setattr(chain, "write_stories", lambda *given: None)
    monkeypatch.setattr(chain, "make_judge", lambda judge, given, folder: given)
    monkeypatch.setattr(chain, "_run", lambda options: Path(options.teacher))
    for folder in ("model", "taught"):
        (tmp_path / folder).mkdir()
        for name in BUILTIN_FILES:
            (tmp_path / folder / name).write_bytes(b"codec" if "codec" in name else folder.encode())
    (tmp_path / "taught" / "teacher_model.safetensors").write_bytes(b"teacher")
    given = [str(tmp_path / "model"), tmp_path / "taught", MemorySpec(), tmp_path / "run", tmp_path / "out"]
    with pytest.raises(GroundedError, match="no model with its text encoder"):
        train_further(*given)
    (tmp_path / "taught" / "teacher_text.safetensors").write_bytes(b"teacher")
    judge = train_further(*given)
    assert [(judge / name).read_bytes() for name in BUILTIN_FILES] == [b"teacher", b"model", b"codec"]
