"""Opening files: what is damaged, foreign or unsafe is refused in words and never executed."""

import json
import os
import pickle
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from gf_core.errors import CheckpointError
from gf_core.files.tensors import open_file

from .test_strange import write_header


@pytest.fixture
def tensors():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def test_safetensors_is_described_without_reading(tmp_path, tensors):
    path = tmp_path / "m.safetensors"
    save_file(tensors, path, {"note": "x"})
    file = open_file(path)
    assert file.kind == "safetensors" and file.metadata == {"note": "x"}
    assert file.tree["a.weight"].shape == (2, 3) and file.tree["b"].dtype == torch.bfloat16
    assert file.tree["b"].nbytes == 8
    assert torch.equal(file.tree["a.weight"].load(), tensors["a.weight"])


@pytest.mark.parametrize("new_format", [True, False])
def test_pickles_open_as_tensors(tmp_path, tensors, new_format):
    path = tmp_path / "m.pt"
    torch.save({"generator": tensors, "step": 3}, path, _use_new_zipfile_serialization=new_format)
    file = open_file(path)
    assert file.kind == "pickle" and list(file.tree) == ["generator"]
    assert torch.equal(file.tree["generator"]["a.weight"].load(), tensors["a.weight"])


@pytest.mark.parametrize("keep", [-1, -20, 60, 9, 3])
def test_cut_off_safetensors_names_both_sizes(tmp_path, tensors, keep):
    path = tmp_path / "m.safetensors"
    save_file(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(CheckpointError) as error:
        open_file(path)
    assert "m.safetensors" in str(error.value) and str(len(whole[:keep])) in str(error.value)
    if keep < 0:
        assert str(len(whole)) in str(error.value)


def test_surplus_and_damaged_header_are_refused(tmp_path, tensors):
    path = tmp_path / "m.safetensors"
    save_file(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"xxxx")
    with pytest.raises(CheckpointError, match="damaged"):
        open_file(path)
    path.write_bytes(whole[:8] + b"\xff\xff" + whole[10:])
    with pytest.raises(CheckpointError, match="header"):
        open_file(path)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_any_damaged_byte_is_survived_or_refused(tmp_path, tensors, form):
    path = tmp_path / ("m.safetensors" if form == "safetensors" else "m.pt")
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for place in range(0, min(len(whole), 420), 3):
        for value in (0x00, 0x7D, 0xFF):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                for tensor in open_file(path).tree.values():
                    tensor.load() if hasattr(tensor, "load") else None
            except CheckpointError:
                continue


@pytest.mark.parametrize("keep", [-1, 0.5, 30])
def test_cut_off_pickle_is_refused(tmp_path, tensors, keep):
    path = tmp_path / "m.pt"
    torch.save(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)] if isinstance(keep, float) else whole[:keep])
    with pytest.raises(CheckpointError, match=r"cut off|damaged"):
        open_file(path)


class _Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo hit > {self.marker}",)


@pytest.mark.parametrize("save", ["zip", "legacy", "bare2", "bare4"])
def test_code_in_a_pickle_never_runs_and_is_named(tmp_path, save, tensors):
    marker, path = tmp_path / "hit", tmp_path / "model.pt"
    content = {"generator": tensors, "extra": _Payload(marker)}
    if save.startswith("bare"):
        path.write_bytes(pickle.dumps({"extra": _Payload(marker)}, protocol=int(save[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=save == "zip")
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.system"):
        open_file(path)
    assert not marker.exists()


def test_pickle_named_safetensors_is_still_not_run(tmp_path):
    marker, path = tmp_path / "hit", tmp_path / "model.safetensors"
    torch.save({"extra": _Payload(marker)}, path)
    with pytest.raises(CheckpointError, match="pickle under the name"):
        open_file(path)
    assert not marker.exists()


def test_list_in_a_pickle_is_refused(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="list"):
        open_file(tmp_path / "m.pt")


def test_missing_file_suggests_near_names(tmp_path, tensors):
    save_file(tensors, tmp_path / "self_forcing_dmd.safetensors")
    with pytest.raises(CheckpointError, match=r"did you mean self_forcing_dmd\.safetensors"):
        open_file(tmp_path / "self_forcing_dmd.pt")
    with pytest.raises(CheckpointError, match="no folder"):
        open_file(tmp_path / "nowhere" / "x.pt")


def test_sharded_folder(tmp_path, tensors):
    root = tmp_path / "Model" / "transformer"
    root.mkdir(parents=True)
    names = [
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
    ]
    save_file({"a.weight": tensors["a.weight"]}, root / names[0])
    save_file({"b": tensors["b"]}, root / names[1])
    index = {"weight_map": {"a.weight": names[0], "b": names[1]}}
    (root / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (root / "config.json").write_text('{"num_attention_heads": 2}')
    file = open_file(root.parent)
    assert (
        file.kind == "folder"
        and set(file.tree) == {"a.weight", "b"}
        and file.config["num_attention_heads"] == 2
    )
    assert torch.equal(file.tree["b"].load(), tensors["b"])
    del file  # which has its parts mapped
    with pytest.raises(CheckpointError, match="is one part of a model in 2 parts") as error:
        open_file(root / names[0])
    assert "transformer" in error.value.fix
    (root / "diffusion_pytorch_model.safetensors.index.json").rename(tmp_path / "index.json")
    assert set(open_file(root.parent).tree) == {"a.weight", "b"}
    (root / names[1]).unlink()
    with pytest.raises(CheckpointError, match=f"1 of 2 parts .* missing: {names[1]}"):
        open_file(root.parent)
    (tmp_path / "index.json").rename(root / "diffusion_pytorch_model.safetensors.index.json")
    with pytest.raises(CheckpointError, match="1 of 2 parts"):
        open_file(root.parent)


def test_folder_with_one_or_several_files(tmp_path, tensors):
    save_file(tensors, tmp_path / "one.safetensors")
    assert open_file(tmp_path).kind == "safetensors"
    save_file(tensors, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"one\.safetensors, two\.safetensors"):
        open_file(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 200_000,
        b"[1, 2]",
        b'{"__metadata__": [1]}',
        b'{"__metadata__": "text"}',
        b'{"__metadata__": {"a": 1}}',
        b'{"a": {"dtype": "F32", "shape": ["0"], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [0.0], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1, 0], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": ["F32"], "shape": [0], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [NaN, NaN]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        b' "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_impossible_headers_are_refused_in_words(tmp_path, header):
    path = tmp_path / "m.safetensors"
    write_header(path, header, b"\0" * 4)
    with pytest.raises(CheckpointError, match=r"damaged header|is damaged"):
        open_file(path)


def test_a_packed_archive_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + bytes(50_000_000))
    began = time.process_time()
    with pytest.raises(CheckpointError, match="packed archive"):
        open_file(path)
    assert time.process_time() - began < 1


def test_mappings_that_hold_themselves_are_refused(tmp_path):
    itself: dict = {}
    itself["a"] = itself
    billion: dict = {"w": torch.zeros(1)}
    for _ in range(40):
        billion = {"a": billion, "b": billion}
    for content in (itself, {"generator": {"x": itself}}, billion):
        path = tmp_path / "m.pt"
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="nested in a way that no model is"):
            open_file(path)


def test_a_small_file_that_unfolds_to_millions_of_entries_is_refused(tmp_path):
    """One mapping of 1000 entries, named 1001 times: a few kilobytes, no depth, and a loader that never ends."""
    inner = {str(n): n for n in range(1000)}
    torch.save({str(n): inner for n in range(1001)}, tmp_path / "m.pt")
    assert (tmp_path / "m.pt").stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="nested in a way that no model is"):
        open_file(tmp_path / "m.pt")


@pytest.mark.parametrize("kind", ["sparse", "empty", "complex"])
def test_tensors_without_plain_numbers_are_named(tmp_path, kind):
    plain = torch.ones(2, 2)
    odd = {"sparse": plain.to_sparse(), "empty": plain.to("meta"), "complex": plain.to(torch.complex64)}[kind]
    torch.save({"blocks.0.x": odd}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=rf"stores blocks.0.x as a {kind} tensor"):
        open_file(tmp_path / "m.pt")


@pytest.mark.parametrize("index", ['{"weight_map": {"a": 1}}', "[" * 200_000, '{"weight_map": []}', "\xff"])
def test_damaged_index_is_refused_in_words(tmp_path, index):
    (tmp_path / "m.safetensors.index.json").write_bytes(index.encode("latin-1"))
    with pytest.raises(CheckpointError, match="damaged"):
        open_file(tmp_path)


def test_a_path_that_no_disk_can_hold_is_refused_in_words(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_file(tmp_path / ("a" * 5000))
