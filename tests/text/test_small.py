"""The built-in text encoder: closed vocabulary, padding that changes nothing, a file round trip."""

import time

import pytest
import torch
from safetensors.torch import save_file

from gf_core.builtin import BUILTIN_FOLDER
from gf_core.errors import CheckpointError, PromptError
from gf_core.text.small import SmallTextEncoder, load_small_encoder, save_small_encoder
from gf_core.world.vocabulary import words

WORDS = ("a", "fox", "jumps", "red", "the")


@pytest.fixture
def encoder() -> SmallTextEncoder:
    torch.manual_seed(0)
    return SmallTextEncoder(WORDS, dim=16, heads=2, max_words=6, text_dim=32).eval()


@pytest.fixture(scope="module")
def shipped() -> SmallTextEncoder:
    return load_small_encoder(BUILTIN_FOLDER / "text.safetensors")


def test_rows_are_words_and_an_end(encoder: SmallTextEncoder):
    rows = encoder.encode(["A red fox, jumps!"])[0]
    assert rows.shape == (5, 32)
    assert rows[:, 16:].abs().max() == 0 and rows[:, :16].abs().min(1).values.max() > 0


FOX = "a red fox jumps in a meadow at noon"
NEIGHBOURS = ("it", "a blue owl stands still in the forest at night", "a red fox " * 6, "a red fox " * 13)


@pytest.mark.parametrize("prompt", (FOX, *NEIGHBOURS))
@pytest.mark.parametrize("beside", [(one,) for one in NEIGHBOURS] + [NEIGHBOURS * 5])
def test_a_prompt_has_the_same_bits_whatever_is_beside_it(shipped: SmallTextEncoder, prompt, beside):
    """Or a segment that is added would change the chunks before it, whose keys stay."""
    alone = shipped.encode([prompt])[0]
    assert torch.equal(alone, shipped.encode([prompt, *beside])[0])
    assert torch.equal(alone, shipped.encode([*beside, prompt])[-1])


def test_a_prompt_of_few_rows_is_as_a_film_of_several_had_it(shipped: SmallTextEncoder):
    prompts = [FOX, *NEIGHBOURS[:2]]
    ids, lengths = shipped.batch(prompts)
    with torch.no_grad():
        together = shipped(ids, lengths)
    for rows, length, now in zip(together, lengths, shipped.encode(prompts)):
        torch.testing.assert_close(now[:, : rows.shape[-1]], rows[:length], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("prompt", "said", "fix"),
    [
        ("a foxx jumps", "does not know: foxx", "did you mean fox for foxx?"),
        ("a fux jumps", "does not know: fux", "did you mean fox for fux?"),
        ("a jumpps jumps", "does not know: jumpps", "did you mean jumps for jumpps?"),
        ("a rde jumps", "does not know: rde", "did you mean red for rde?"),
        ("a red fox jumps 5s", "does not know: 5s", "a length stands behind a bar: | 5s"),
        ("a a a a a a a", "7 words", ""),
    ],
)
def test_a_prompt_that_cannot_be_read_is_told_with_the_cure(encoder: SmallTextEncoder, prompt, said, fix):
    with pytest.raises(PromptError, match=said) as error:
        encoder.encode([prompt])
    assert fix in error.value.fix


def test_what_is_only_somewhat_like_a_word_is_not_taken_for_it():
    with pytest.raises(PromptError) as error:
        SmallTextEncoder(words()).tokenize("a small lake with torn ear stops")
    assert "did you mean" not in error.value.fix


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("狐", "狐"), ("a red fox 雪", "雪"), ("лиса jumps", "лиса"), ("the süß fox", "süß"),
        ("a 狐fox jumps", "狐fox"), ("the café", "café"), ("雪" * 500, "雪" * 40 + "..."),
    ],
)  # fmt: skip
def test_a_word_of_another_script_is_not_left_out(encoder: SmallTextEncoder, prompt, word):
    with pytest.raises(PromptError) as error:
        encoder.encode([prompt])
    assert f"does not know: {word} " in error.value.message


@pytest.mark.parametrize("prompt", ["“a red_fox” — jumps…", "a red fox 🦊 jumps！", "A RED FOX\u00a0jumps"])
def test_signs_are_no_words(encoder: SmallTextEncoder, prompt):
    assert encoder.tokenize(prompt) == encoder.tokenize("a red fox jumps")


def test_all_unknown_words_are_named_at_once_with_their_lines(encoder: SmallTextEncoder):
    text = "@cast it = the unicorn\n{it} jumps\r\nthen: a Fux\rcut: a red hen, a dragon\nthen: a fux | mute\n"
    spoken = [(2, "the unicorn jumps"), (3, "a Fux"), (4, "a red hen, a dragon"), (5, "a fux")]
    with pytest.raises(PromptError) as error:
        encoder.check_words(text, spoken)
    assert "unicorn (line 1), fux (lines 3, 5), hen (line 4), dragon (line 4)" in str(error.value)
    assert (error.value.line, error.value.column) == (1, 16) and "fox for fux" in error.value.fix
    assert len(str(error.value)) < 400
    encoder.check_words(text, [(2, "the fox"), (3, "a red fox")])
    with pytest.raises(PromptError, match="line 3, column 1: prompt of 7 words"):
        encoder.check_words(text, [(3, "a a a a a a a")])


def test_the_one_line_at_fault_is_said_once(encoder: SmallTextEncoder):
    with pytest.raises(PromptError) as error:
        encoder.check_words("the fox\nthen: a hen, a dragon", [(1, "the fox"), (2, "a hen, a dragon")])
    told = str(error.value).splitlines()[0]
    assert told == "line 2, column 9: the built-in model does not know: hen, dragon"


@pytest.mark.parametrize("head", ["@", " \t@", "\uff20", "\u200b@", "\u3000\uff20"])
def test_a_word_of_the_cast_is_shown_where_it_stands(encoder: SmallTextEncoder, head):
    """Where `@` was full-width, or stood behind a character that nobody sees, the segment's first letter was shown."""
    text = f"# a unicorn\n{head}cast it\t=\ta unicorn\n{{it}} jumps"
    with pytest.raises(PromptError) as error:
        encoder.check_words(text, [(3, "a unicorn jumps")])
    _, shown, pointer, _ = str(error.value).split("\n")
    assert error.value.line == 2 and shown[pointer.index("^") :] == "unicorn" and "\t" not in shown


def test_the_longest_storyboard_is_refused_as_fast_as_it_is_read(encoder: SmallTextEncoder):
    """Its text was searched anew for every word: 57 s for 10,000 segments."""
    lines = ["@style unicorns", *(f"the fox jumps {number}" for number in range(4000))]
    began = time.process_time()
    with pytest.raises(PromptError, match=r"unicorns \(line 1\), 0 \(line 2\), .* and 3995 more"):
        encoder.check_words(
            "\n".join(lines), [(n, f"{line}, unicorns") for n, line in enumerate(lines, 1)][1:]
        )
    assert time.process_time() - began < 2


def test_file_round_trip(encoder: SmallTextEncoder, tmp_path):
    path = tmp_path / "text.safetensors"
    save_small_encoder(encoder, path, torch.float32)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # not its owner's alone
    again = load_small_encoder(path)
    torch.testing.assert_close(again.encode(["a red fox"])[0], encoder.encode(["a red fox"])[0])


def test_another_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not a small text encoder"):
        load_small_encoder(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_download_that_has_its_length_and_not_its_rest_is_refused(tmp_path, kept):
    whole = (BUILTIN_FOLDER / "text.safetensors").read_bytes()
    path, header = tmp_path / "text.safetensors", 8 + int.from_bytes(whole[:8], "little")
    begun = header + int((len(whole) - header) * kept)
    path.write_bytes(whole[:begun] + bytes(len(whole) - begun))
    with pytest.raises(CheckpointError, match="hold nothing but zeros"):
        load_small_encoder(path)
