"""The stages hang together: what a stage needs is named, what is exported loads and is the trained net."""

import pytest
import torch
from gf_core.training.pipeline import export, main, run
from gf_core.training.video import VideoNet

from gf_core.checkpoints.bundle import load_bundle
from gf_core.errors import GroundedError
from gf_core.vae.builtin import BuiltinCodec, save_codec


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
        run(stage, tmp_path, None, 1, 32, tmp_path / "out")
    assert f"--stage {before}" in error.value.fix


def test_what_is_exported_loads(tmp_path):
    torch.manual_seed(0)
    net = VideoNet()
    torch.save({"average": net.state_dict(), "step": 7}, tmp_path / "student.pt")
    (tmp_path / "codec").mkdir()
    save_codec(BuiltinCodec(), tmp_path / "codec" / "codec.safetensors")
    export(tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tmp"))
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "out").iterdir())
    bundle = load_bundle(tmp_path / "out")
    for name, value in net.model.state_dict().items():
        torch.testing.assert_close(bundle.model.state_dict()[name], value.half().float())
    assert bundle.sample.shift == 3 and bundle.video.width == 96


def test_an_unknown_stage_is_refused_by_the_command_line(capsys):
    with pytest.raises(SystemExit):
        main(["--stage", "dessert"])
    assert "invalid choice" in capsys.readouterr().err
