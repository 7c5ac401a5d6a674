"""What lies where a model should be: named for what it is, in moments, whatever it is and wherever it is looked for."""

import json
import os
import struct
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gf_core.checkpoints.companions import open_text
from gf_core.checkpoints.identify import identify, require_drivable
from gf_core.checkpoints.lora import open_lora
from gf_core.errors import CheckpointError
from gf_core.files.strange import refuse_zeros
from gf_core.files.tensors import open_file
from gf_core.vae.load import load_vae

DOORS = {
    "file": open_file,
    "model": identify,
    "vae": load_vae,
    "text": open_text,
    "lora": lambda path: open_lora(path, 1.0, {}),
}


def padded(path, tensors, length):
    """A sound file whose header is padded to `length` bytes, as the format allows."""
    save_file(tensors, path)
    whole = path.read_bytes()
    (old,) = struct.unpack("<Q", whole[:8])
    assert old <= length
    path.write_bytes(struct.pack("<Q", length) + whole[8 : 8 + old].ljust(length) + whole[8 + old :])


@pytest.mark.parametrize("length", [0x180, 0x280, 0x480, 0x4080, 0x4B50, 0x10080])
@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m"])
def test_a_header_of_any_length_is_a_header(tmp_path, length, name):
    """Its low bytes may be those that begin a pickle or an archive."""
    padded(tmp_path / name, {"a.weight": torch.arange(6.0)}, length)
    file = open_file(tmp_path / name)
    assert file.kind == "safetensors" and torch.equal(file.tree["a.weight"].load(), torch.arange(6.0))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder in a folder", "text", "nothing"])
def test_what_is_no_file_is_named_at_once(tmp_path, door, kind):
    path = tmp_path / "m.safetensors"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder in a folder":
        (path / "transformer").mkdir(parents=True)
    elif kind == "text":
        path.write_text("a red fox jumps | 1s\n")
    with pytest.raises(CheckpointError, match=r"m\.safetensors|transformer"):
        DOORS[door](path)


@pytest.mark.parametrize("door", ["file", "model", "vae", "text", "lora"])
@pytest.mark.parametrize(
    "name",
    ["config.json", "m.safetensors.index.json", "diffusion_pytorch_model.safetensors"],
)
@pytest.mark.parametrize("kind", ["pipe", "folder", "long"])
def test_no_part_of_a_folder_may_be_anything_but_a_short_file(tmp_path, door, name, kind):
    save_file({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b" " * 17_000_000)
    with pytest.raises(CheckpointError):
        DOORS[door](tmp_path)


def test_the_settings_beside_a_lora_may_not_be_a_pipe(tmp_path):
    save_file({"a.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "adapter_model.safetensors")
    os.mkfifo(tmp_path / "adapter_config.json")
    with pytest.raises(CheckpointError, match="damaged"):
        open_lora(tmp_path / "adapter_model.safetensors", 1.0, {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a picture"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(40), "a film"),
        (b"\x1f\x8b\x08" + bytes(40), "packed archive"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"", "empty"),
        (b"not a model at all, just words", "not a safetensors"),
        ("ein Storyboard, für später | 3s\n".encode(), "text file"),
        (b"Entry not found", "text file"),
        (b'{"error": "Repository not found"}', "text file"),
        (bytes(4096), "zeros"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".txt"])
def test_other_kinds_of_file_are_named(tmp_path, content, said, suffix):
    (tmp_path / f"m{suffix}").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        open_file(tmp_path / f"m{suffix}")


@pytest.mark.parametrize(
    ("name", "said", "do"),
    [
        (
            "Nobody-There/Model-1.3B",
            "no folder Nobody-There",
            "https://huggingface.co/Nobody-There/Model-1.3B",
        ),
        ("https://example.org/a/b.pt", "https://example.org/a/b.pt is an address", "download it"),
        ("hf://a/b/c.safetensors", "is an address", "download it"),
    ],
)
def test_names_and_addresses_of_a_hub_are_answered(name, said, do):
    for door in DOORS.values():
        with pytest.raises(CheckpointError, match=said) as error:
            door(name)
        assert do in error.value.fix


def test_what_is_still_being_downloaded_is_refused(tmp_path, caplog):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    (tmp_path / "m.safetensors.part").write_bytes(b"x")
    open_file(path)
    assert "may not be finished" in caplog.text
    (tmp_path / "m.safetensors.aria2").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not finished"):
        open_file(path)
    for name in ("x.crdownload", "x.safetensors.part", "x.safetensors.aria2"):
        (tmp_path / name).write_bytes(path.read_bytes())
        with pytest.raises(CheckpointError, match="unfinished download"):
            open_file(tmp_path / name)


def write_header(path, content: object, body: bytes = b"") -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)


HUGE = int("9" * 4000)


@pytest.mark.parametrize(
    "content",
    [
        {"a": {"dtype": "F32", "shape": [HUGE] * 2000, "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [HUGE] * 2000 + [0], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [1] * 1_000_000, "data_offsets": [0, 4]}},
        {"a": {"dtype": "x" * 8_000_000, "shape": [1], "data_offsets": [0, 4]}},
        {f"{n}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in range(10_000)},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]}},
        b'{"a":' + b"[],".join([b"["] * 1_000_000),
        b" " * 17_000_000,
    ],
)
def test_headers_are_judged_in_moments_and_few_words(tmp_path, content):
    write_header(tmp_path / "m.safetensors", content, bytes(4))
    began = time.process_time()
    with pytest.raises(CheckpointError) as error:
        open_file(tmp_path / "m.safetensors")
    assert time.process_time() - began < 3 and len(str(error.value)) < 500


def most_resident() -> int:
    """Bytes that lay in memory at the most since it was reset, pages of mapped files too."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the most that was held cannot be reset")
@pytest.mark.parametrize("door", ["model", "vae", "lora"])
def test_what_is_refused_is_not_read(tmp_path, door):
    """A text encoder of 11 GB that is chosen for something else."""
    state = {f"blocks.0.{name}.weight": torch.ones(4, 4) for name in ("attn.q", "ffn.gate.0", "norm1")}
    # So large that its memory is given back, not kept for the next: what is left cannot hide what is read.
    state["token_embedding.weight"] = torch.ones(9 * 2**20)
    path = tmp_path / "umt5"
    torch.save(state, path)

    def refused():
        with pytest.raises(CheckpointError):
            found = DOORS[door](path)
            require_drivable(found)  # a model's door describes whatever it is

    refused()  # what is imported meanwhile is not counted
    Path("/proc/self/clear_refs").write_text("5")
    before = most_resident()
    refused()
    assert most_resident() - before < 2**22 < path.stat().st_size / 8


@pytest.mark.parametrize("member", ["version", "byteorder", "data.pkl", ".data/serialization_id"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("door", DOORS)
def test_an_archive_of_anything_but_weights_is_not_read(tmp_path, member, packed, door):
    with zipfile.ZipFile(
        tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    ) as archive:
        short = {"data.pkl": b"\x80\x02}.", "version": b"3\n"}
        for name, content in {**short, member: bytes(4_000_000)}.items():
            archive.writestr(f"archive/{name}", content)
    with pytest.raises(CheckpointError, match=r"packed archive|longer than any model's"):
        DOORS[door](tmp_path / "m.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_list_of_tensors_longer_than_any_models_is_not_read(tmp_path, zipped):
    names = {f"{n:0500d}": 0 for n in range(8000)}
    torch.save(names, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="longer than any model's"):
        open_file(tmp_path / "m.pt")


def test_a_view_that_repeats_its_numbers_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="folded"):
        open_file(tmp_path / "m.pt")


@pytest.mark.parametrize("sign", ["\x1b[2J", "\u202e", "\r", "\n"])
def test_names_in_a_file_do_not_steer_the_terminal(tmp_path, sign):
    name = f"a{sign}b"
    write_header(
        tmp_path / "m.safetensors",
        {name: {"dtype": f"F3{sign}", "shape": [1], "data_offsets": [0, 4]}},
        bytes(4),
    )
    torch.save({name: torch.zeros(2, dtype=torch.complex64)}, tmp_path / "m.pt")
    for file in ("m.safetensors", "m.pt"):
        with pytest.raises(CheckpointError, match="stores") as error:
            open_file(tmp_path / file)
        assert sign not in error.value.message


@pytest.mark.parametrize("spot", [0, 20_000, -1])
def test_a_weight_with_numbers_in_one_place_is_a_weight(tmp_path, spot):
    """Such as one of which a training changes a part."""
    weight = torch.zeros(40_000)
    weight[spot] = 1.0
    save_file({"a.weight": weight.reshape(200, 200)}, tmp_path / "m.safetensors")
    refuse_zeros("m.safetensors", open_file(tmp_path / "m.safetensors").tree)
