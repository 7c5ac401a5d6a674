"""A training that is refused has made nothing."""

from dataclasses import replace

import pytest

from gf_core.checkpoints.bundle import load_model
from gf_core.cli import main
from gf_core.errors import GroundedError
from gf_core.text.vocabulary import Vocabulary
from gf_core.train.recipes import matching
from gf_core.train.recipes.prompted import MANY_WRONG, Texts
from gf_core.train.sources.prompts import Prompts

from .conftest import Text, tiny


class Closed(Vocabulary, Text):
    """Knows every prompt of `given` but those of seven letters."""

    def __init__(self):
        Vocabulary.__init__(self, [animal + animal[1] * n for animal in ("fox", "hen") for n in range(4)], 40)


def closed(source, **more):
    return replace(tiny(source), text=Closed())


def test_prompts_that_the_model_cannot_read_are_refused_before_there_is_a_folder(
    given, tmp_path, monkeypatch, refused
):
    monkeypatch.setattr(matching, "load_model", closed)
    (tmp_path / "a.txt").write_text("fox\n\nfoxo\nfoxy ran\nfoxy\n")
    command = ["train", "self_forcing", *given, "--batch", "1", "--iterations", "2", "--frames", "3"]
    said = refused(*command)
    assert "a.txt, line 4: the built-in model does not know: foxy, ran" in said
    assert "; prompts that cannot be read: 2\n  fix: did you mean fox for foxy" in said
    (tmp_path / "a.txt").write_text("fox\nfoxo\n")
    said = refused(*command, "--negative", "ugly")
    assert "the negative prompt: the built-in model does not know: ugly" in said
    (tmp_path / "b.txt").write_text("hen\nhens\n")
    long = "--stage long --then b.txt --frames 21 --batch 1"
    assert "b.txt, line 2" in refused("train", "longlive", *given, *long.split())
    assert not (tmp_path / "runs").exists()
    assert main([*command, "--then", "b.txt"]) == 0, "what is not used is not judged"


def test_no_more_wrong_prompts_are_looked_for_than_are_told(tmp_path):
    """What each was to mean takes its time: a million took 100 s and 3 GB."""
    path = tmp_path / "a.txt"
    path.write_text("".join(f"a red fox number{line} jumps\n" for line in range(MANY_WRONG + 500)))
    with pytest.raises(GroundedError, match=rf"line 1: .*cannot be read: {MANY_WRONG} or more\n"):
        Texts(load_model("builtin"), "", small=True).check(Prompts(path), changes=True)


def test_a_training_that_is_refused_leaves_nothing(given, tmp_path, refused):
    """What was there before stays as it was."""
    command = ["train", "longlive", *given, "--stage", "long", "--frames", "39", "--batch", "1"]
    assert "--then FILE" in refused(*command)
    assert main(["train", "self_forcing", *given, "--batch", "3", "--each", "2"]) == 2
    assert not (tmp_path / "runs").exists()
    folder = tmp_path / "runs" / "longlive" / "long"
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("of before\n")
    assert main(command) == 2
    assert [path.name for path in folder.iterdir()] == ["train.log"]
    assert (folder / "train.log").read_text() == "of before\n"
    assert main(["train", "longlive", *given, "--stage", "long", "--seed", "1", "--then", "b.txt"
                 , "--frames", "21", "--batch", "1", "--iterations", "1"]) == 0  # fmt: skip
    kept = (folder / "train.log").read_text()
    assert kept.startswith("of before\n") and "films of up to 21 latent frames" in kept
