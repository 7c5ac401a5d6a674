"""The stages hang together: what a stage needs is named, what is exported loads and is the trained net."""

import logging
import os
import random
from dataclasses import replace
from functools import partial

import pytest
import torch

from gf_core.builtin import BUILTIN_FOLDER
from gf_core.checkpoints.bundle import load_model
from gf_core.errors import GroundedError
from gf_core.files.pieces import read_tensors
from gf_core.text.small import SmallTextEncoder
from gf_core.train.data import Clips, read_shard
from gf_core.train.loop import Pace
from gf_core.train.objectives import Precision
from gf_core.train.ranks import Ranks
from gf_core.train.recipes import builtin, chain, clips, reader
from gf_core.train.recipes.builtin import Options, export, main, run_stage
from gf_core.train.recipes.codec import CONFIG, CodecPlan, train_codec
from gf_core.train.recipes.codec_data import Pictures
from gf_core.train.recipes.video import (
    BUILTIN_SPEC,
    MORE,
    SHARPEN,
    STUDENT,
    TEACHER,
    Begin,
    VideoNet,
    load_weights,
    save_video,
    train_video,
)
from gf_core.vae.builtin import BuiltinCodec, save_codec
from gf_core.world import sample_script, words

SMALL = CodecPlan(config=CONFIG.__class__(encoder_widths=(8, 8, 16), decoder_widths=(8, 8, 16)), statistics=8)


@pytest.fixture(autouse=True)
def handlers():
    """The command line sends its log to the terminal and a file; the tests' own handlers come back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize(
    ("stage", "before"),
    [
        ("clips", "codec"),
        ("teacher", "clips"),
        ("student", "teacher"),
        ("reader", "codec"),
        ("export", "student"),
    ],
)
def test_a_missing_stage_is_named(tmp_path, stage, before):
    with pytest.raises(GroundedError, match="is not there yet") as error:
        run_stage(stage, Options(folder=tmp_path, ranks=1))
    assert f"--stage {before}" in error.value.fix


@pytest.mark.parametrize("option", ["--teacher", "--decoder-of"])
def test_what_is_given_and_not_there_is_named(tmp_path, option):
    with pytest.raises(GroundedError, match=r"there is no .*absent") as error:
        main(["--folder", str(tmp_path / "run"), option, str(tmp_path / "absent")])
    assert option in error.value.fix and not (tmp_path / "run").exists()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_what_is_exported_loads_for_whom_its_maker_lets_read_it(tmp_path, mask, request):
    was = os.umask(mask)
    request.addfinalizer(lambda: os.umask(was))
    torch.manual_seed(0)
    video = VideoNet()
    for weight in video.parameters():  # some begin as zeros, which no training leaves and loading refuses
        weight.data += 1e-3
    save_video(video.net, tmp_path / "student")
    save_codec(BuiltinCodec(), tmp_path / "codec.safetensors")
    export(Options(folder=tmp_path, out=tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.part"))
    rights = {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/*")}
    assert os.name == "nt" or rights == {0o666 & ~mask}
    bundle = load_model(tmp_path / "out")
    for name, value in video.net.model.state_dict().items():
        torch.testing.assert_close(bundle.model.state_dict()[name], value.half().float())
    assert bundle.recipe.sample.shift == 3 and bundle.recipe.video.width == 96


def test_a_teacher_is_a_checkpoint_a_folder_or_a_file(tmp_path):
    torch.manual_seed(0)
    video, other = VideoNet(), VideoNet()
    save_video(video.net, tmp_path)
    torch.save({"average": video.state_dict()}, tmp_path / "teacher.pt")
    for path in (tmp_path / "teacher.pt", tmp_path / "model.safetensors", tmp_path):
        load_weights(other, path)
        weight = other.net.model.get_parameter("blocks.0.ffn.0.weight").clone()
        torch.testing.assert_close(
            weight, video.net.model.get_parameter("blocks.0.ffn.0.weight"), atol=1e-3, rtol=0
        )
    assert Options(teacher=tmp_path / "teacher.pt").codec == tmp_path / "codec.safetensors"
    assert Options(teacher=tmp_path).stages == ("clips", "student", "reader", "export")
    further = Options(teacher=tmp_path, further=True, folder=tmp_path / "run")
    assert further.stages == ("clips", "teacher", "student", "reader", "export")
    assert (
        further.start == tmp_path / "run" / "teacher.pt" and further.codec == tmp_path / "codec.safetensors"
    )
    save_video(VideoNet().net, tmp_path / "student")
    for end in ("model", "text"):  # a folder may hold a student beside its teacher
        (tmp_path / f"{end}.safetensors").rename(tmp_path / f"teacher_{end}.safetensors")
        (tmp_path / "student" / f"{end}.safetensors").rename(tmp_path / f"{end}.safetensors")
    load_weights(other, tmp_path)
    torch.testing.assert_close(other.net.model.get_parameter("blocks.0.ffn.0.weight"), weight, atol=0, rtol=0)
    with pytest.raises(GroundedError, match="no model with its text encoder"):
        load_weights(other, tmp_path / "text.safetensors")


@pytest.mark.parametrize("held", [b"", b"no checkpoint", {}, {"average": {"a": torch.zeros(1)}}, [1]])
def test_a_teacher_of_another_kind_is_refused_in_words(tmp_path, held):
    path = tmp_path / "teacher.pt"
    path.write_bytes(held) if isinstance(held, bytes) else torch.save(held, path)
    with pytest.raises(GroundedError, match="does not hold this network"):
        load_weights(VideoNet(), path)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ("--stage dessert", "invalid choice"),
        ("--further --device cpu", "--further needs --teacher"),
        ("--student . --stage codec", "--student needs a stage that trains a student"),
        ("--student . --stage teacher", "--student needs a stage that trains a student"),
        ("--size tiny --stage teacher", "--size needs --stage all"),
        ("--decoder-of . --stage student", "--decoder-of needs --stage codec"),
        ("--batch 2 --stage student", "--batch needs a live run"),
        ("--workers 1 --stage clips --device cpu", "--workers needs a live run"),
    ],
)
def test_what_no_stage_would_take_is_refused(tmp_path, capsys, given, needs):
    with pytest.raises(SystemExit):
        main(arguments(given, tmp_path / "run"))
    assert needs in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_student_begins_as_its_teacher_or_as_who_is_given(tmp_path):
    (tmp_path / "teacher.pt").touch()
    begins = {given: Options(tmp_path, student=given).begin("student") for given in (None, BUILTIN_FOLDER)}
    assert begins[None] == Begin(teacher=tmp_path / "teacher.pt")
    assert begins[BUILTIN_FOLDER] == Begin(BUILTIN_FOLDER / "model.safetensors", tmp_path / "teacher.pt")


def test_a_student_that_is_ended_early_has_been_kept(tmp_path):
    """At every report the files are those that would be shipped, of the average so far."""
    torch.manual_seed(0)
    store = some_clips()
    seen: list[torch.Tensor] = []

    def kept() -> None:
        seen.append(read_tensors(tmp_path / "teacher" / "model.safetensors")[0]["blocks.0.ffn.0.weight"])

    plan = replace(TEACHER, pace=Pace(steps=3, report=2, rate=0.1), clips=1, draws=1)
    train_video(tmp_path, plan, store, lambda: None, Precision(), Ranks(), kept=kept)
    assert len(seen) == 3 and not torch.equal(seen[0], seen[-1])  # at step 2, at step 3, and at the end


def some_clips() -> Clips:
    scripts = [sample_script(random.Random(number), 2, "single") for number in range(2)]
    shard = clips.tables(scripts, "single", SmallTextEncoder(words()), random.Random(0))
    shard |= {"latents": torch.randn(2, 6, 16, 4, 4).half(), "share": torch.zeros(2, 6, 4, 4)}
    store = Clips({"single": 1.0}, torch.device("cpu"))
    store.add("single", shard)
    return store


def test_a_folder_goes_on_with_the_same_teacher_only(tmp_path, monkeypatch):
    """Of `--teacher` and `--further`; a run's own teacher may have learned on. Other settings are refused as well."""
    tiny = replace(BUILTIN_SPEC, dim=128, ffn_dim=128, num_heads=1, num_layers=1)
    monkeypatch.setattr("gf_core.train.recipes.video.VideoNet", partial(VideoNet, tiny))
    store = some_clips()
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        torch.save({"average": VideoNet(tiny).state_dict()}, tmp_path / f"{name}.pt")

    def train(folder: str, plan, start=None, steps: int = 1, codec: str = "one") -> None:
        plan = replace(plan, pace=replace(plan.pace, steps=steps), clips=1, draws=1)
        where, begin = tmp_path / folder, Begin(None, start)
        if plan is not STUDENT:
            begin = Begin(start, start if plan.stage == "sharpen" else None)
        train_video(where, plan, store, lambda: None, Precision(), Ranks(), begin, codec=codec)

    for plan in (MORE, STUDENT, SHARPEN):
        train(plan.stage, plan, tmp_path / "a.pt")
        train(plan.stage, plan, tmp_path / "a.pt", steps=2)
        for start in (tmp_path / "b.pt", None) if plan is MORE else (tmp_path / "b.pt",):
            with pytest.raises(GroundedError, match="another teacher"):
                train(plan.stage, plan, start)
        with pytest.raises(GroundedError, match="another codec"):
            train(plan.stage, plan, tmp_path / "a.pt", codec="two")
    with pytest.raises(GroundedError, match="solver_steps 2, which is 4 now"):
        train("student", replace(STUDENT, solver_steps=4), tmp_path / "a.pt")
    for name in "ab":
        (tmp_path / "teacher" / "teacher.pt").write_bytes((tmp_path / f"{name}.pt").read_bytes())
        train("teacher", STUDENT, tmp_path / "teacher" / "teacher.pt")


def codec_file(path, seed: int):
    torch.manual_seed(seed)
    save_codec(BuiltinCodec(SMALL.config), path)
    return path


def test_clips_and_students_of_another_codec_are_told(tmp_path, monkeypatch, capsys, windows):
    """Clips are encoded anew by their own stage, and refused by those that learn from them; nothing is shipped with a
    codec whose latents it does not know."""
    monkeypatch.setattr(clips, "SHARD", 2)
    codec, options = tmp_path / "codec.safetensors", Options(folder=tmp_path, ranks=1, clips=2)
    codec_file(codec, 0)
    run_stage("clips", options)
    (shard,) = (tmp_path / "clips").iterdir()
    first = read_shard(shard)[1]["latents"]
    run_stage("clips", options)
    assert torch.equal(read_shard(shard)[1]["latents"], first)
    codec_file(codec, 1)
    with pytest.raises(GroundedError, match=r"1 shard in .* came from another codec") as refused:
        run_stage("teacher", options)
    assert "--stage clips" in refused.value.fix
    assert "made again" not in capsys.readouterr().err
    run_stage("clips", options)
    assert "made again: 1 shards" in capsys.readouterr().err
    assert not torch.equal(read_shard(shard)[1]["latents"], first)
    save_video(VideoNet().net, tmp_path / "student")
    torch.save({"begun with": {"codec": "#of old"}}, tmp_path / "student.pt")
    with pytest.raises(GroundedError, match="another codec"):
        export(options)


def test_a_codec_with_a_teacher_is_trained_no_further(tmp_path):
    """More minutes are the teacher's and the student's, who know its latents; its own stage may be asked for."""
    assert Options(folder=tmp_path).stages[0] == "codec"
    (tmp_path / "teacher.pt").write_bytes(b"")
    assert Options(folder=tmp_path).stages == ("clips", "teacher", "student", "reader", "export")
    assert Options(folder=tmp_path, stage="codec").stages == ("codec",)


def test_a_codec_goes_on_from_the_same_one_only(tmp_path):
    pictures = Pictures(4, 2, torch.device("cpu"))
    while not pictures.full:
        pictures.add(clips.render_shard([sample_script(random.Random(0), 3, "single")] * 2))
    one, other = (codec_file(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    plan = replace(SMALL, pace=Pace(steps=1), crops=3, decoder_of=one)
    for given in (plan, replace(plan, crops=6, pace=Pace(steps=2))):
        train_codec(tmp_path / "run", given, pictures, lambda: None, Precision(), Ranks())
    for given in (replace(plan, decoder_of=other), replace(plan, decoder_of=None)):
        with pytest.raises(GroundedError, match="another codec"):
            train_codec(tmp_path / "run", given, pictures, lambda: None, Precision(), Ranks())


def test_a_live_run_on_a_processor_takes_small_steps(monkeypatch, tmp_path):
    """Those of a card would not end; what is asked for is what is done."""
    asked = []
    monkeypatch.setattr(builtin, "run_live", asked.append)
    for more in ("--device cpu", "--device cpu --batch 6 --most 99", "--device cuda"):
        main(arguments(more, tmp_path))
    sizes = [(options.most, options.shard, options.batch, options.crops) for options in asked]
    assert sizes == [(32, 4, 2, 3), (99, 4, 6, 3), (16384, 32, 48, 192)]


def arguments(text: str, folder) -> list[str]:
    return [*text.split(), "--folder", str(folder)]


@pytest.mark.slow
def test_a_live_run_makes_a_model(tmp_path, monkeypatch):
    """Worker, codec, teacher, student, export: seconds of each, then a student alone from the finished teacher."""
    monkeypatch.setattr(builtin, "CodecPlan", lambda **given: SMALL.__class__(**{**vars(SMALL), **given}))
    sizes = "--device cpu --workers 1 --most 8 --shard 2 --batch 1 --crops 3"
    main(arguments(f"{sizes} --minutes 0.02", tmp_path / "run"))
    bundle = load_model(tmp_path / "run" / "builtin")
    assert bundle.codec.config.decoder_widths == (8, 8, 16)
    assert {"codec.pt", "teacher.pt", "student.pt", "train.log"} <= {
        p.name for p in (tmp_path / "run").iterdir()
    }
    start = tmp_path / "run" / "teacher.pt"
    main(arguments(f"{sizes} --minutes 0.02 --teacher {start}", tmp_path / "again"))
    assert (tmp_path / "again" / "builtin" / "codec.safetensors").is_file()
    assert not (tmp_path / "again" / "teacher.pt").exists()
    main(arguments(f"{sizes} --minutes 0.02 --teacher {start} --further", tmp_path / "further"))
    assert load_model(tmp_path / "further" / "builtin").codec.config.decoder_widths == (8, 8, 16)
    assert (tmp_path / "further" / "teacher.pt").exists()


def test_the_stages_on_processors_make_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, "CodecPlan", lambda **given: SMALL.__class__(**{**vars(SMALL), **given}))
    video_net = partial(VideoNet, replace(BUILTIN_SPEC, num_layers=1, ffn_dim=32))
    monkeypatch.setattr("gf_core.train.recipes.video.VideoNet", video_net)
    monkeypatch.setattr(builtin, "POOL", 6)
    monkeypatch.setattr(builtin, "HELD_OUT", 2)
    monkeypatch.setattr(clips, "SHARD", 3)
    monkeypatch.setattr(builtin, "SHARPEN", replace(SHARPEN, ahead=0))
    shipped = []
    for stage in ("codec", "clips", "teacher", "student", "export", "sharpen", "export"):
        main(arguments(f"--stage {stage} --minutes 0.01 --ranks 1 --clips 6", tmp_path))
        if stage == "export":
            shipped.append(load_model(tmp_path / "builtin"))
    assert len(list((tmp_path / "clips").iterdir())) == 2
    assert shipped[0].recipe.video.fps == 16 and shipped[0].fingerprint != shipped[1].fingerprint


@pytest.mark.parametrize("given", [True, False])
def test_the_chain_takes_the_codec_of_its_folder(tmp_path, monkeypatch, given):
    """All latents of the chain are one codec's: the folder's where there is one, else the one that is shipped."""
    shipped, used = BUILTIN_FOLDER / "codec.safetensors", []
    codec = tmp_path / "codec.safetensors" if given else shipped
    if given:
        codec.write_bytes(shipped.read_bytes())
    monkeypatch.setattr(chain, "begin", lambda folder, spec, codec: used.append(codec))
    monkeypatch.setattr(chain, "write_stories", lambda folder, codec, *sizes: used.append(codec))
    monkeypatch.setattr(chain, "stages_of", lambda size: {})
    monkeypatch.setattr(builtin, "_ship", lambda options, files: None)
    builtin.run_all(Options(folder=tmp_path, size="tiny"))
    assert used == [codec, codec]


def test_a_reader_goes_on_with_the_codec_that_it_learned_through(tmp_path, monkeypatch):
    """It may begin before there is one."""

    class Pool:
        recode = None

        def __init__(self, *given):
            pass

        refresh = batch = to = lambda self, *given: self

    def run(self, objective, draw):
        draw()
        self.save()

    monkeypatch.setattr(reader, "ClipPool", Pool)
    monkeypatch.setattr(reader.Run, "run", run)
    learn = partial(reader.train_reader, tmp_path, Pace())
    learn(codec=tmp_path / "later")
    one, other = (codec_file(tmp_path / name, seed) for seed, name in enumerate(("later", "other")))
    for _ in range(2):  # from a checkpoint that knows of none, and from one that does
        learn(codec=one)
    kept = (tmp_path / "reader.pt").read_bytes()
    with pytest.raises(GroundedError, match="was begun with another codec"):
        learn(codec=other)
    assert (tmp_path / "reader.pt").read_bytes() == kept
    learn(codec=one)
