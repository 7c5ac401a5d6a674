"""Data that people bring are read as they were written, and what is wrong with them is said with place and remedy."""

import json
import os
import re
import sys

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from gf_core.errors import GroundedError
from gf_core.train.sources import open_source
from gf_core.train.sources.encoded import write_clip
from gf_core.train.sources.shots import Shots

LATENTS = np.random.default_rng(0).standard_normal((3, 5, 16, 4, 6)).astype(np.float16)
STATES = np.random.default_rng(1).standard_normal((2, 4, 3, 16, 4, 6)).astype(np.float16)
PROMPTS = ["a fox runs", "a hen, naïve", "雪の中の狐"]


def database(path, rows, prompts=PROMPTS, told=None):
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=10**7) as env, env.begin(write=True) as txn:
        txn.put(b"latents_shape", (told or " ".join(map(str, rows.shape))).encode())
        txn.put(b"prompts_shape", str(len(rows)).encode())
        for n, (row, prompt) in enumerate(zip(rows, prompts)):
            txn.put(f"latents_{n}_data".encode(), row.tobytes())
            txn.put(f"prompts_{n}_data".encode(), prompt.encode())
    return path


def packed(kind, rows, dtype="float32"):
    return {
        f"{kind}_bytes": [row.astype(dtype).tobytes() for row in rows],
        f"{kind}_shape": [list(row.shape) for row in rows],
        f"{kind}_dtype": [dtype] * len(rows),
    }


def table(path, columns, group=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def test_prompts_are_lines_and_switches_are_their_partners(tmp_path):
    (tmp_path / "a.txt").write_text("a fox runs \n\na hen, naïve\r\n\n", encoding="utf-8-sig")
    (tmp_path / "b.txt").write_text("it jumps\n\nit sleeps\n", encoding="utf-8")
    alone, paired = open_source(tmp_path / "a.txt"), open_source(tmp_path / "a.txt", tmp_path / "b.txt")
    assert [alone[n].prompt for n in range(len(alone))] == ["a fox runs", "a hen, naïve"]
    assert [(paired[n].prompt, paired[n].then) for n in range(len(paired))] == [
        ("a fox runs", "it jumps"),
        ("a hen, naïve", "it sleeps"),
    ]
    assert alone[0].then == "" and alone[0].latents is None


def test_a_database_of_latents_and_one_of_states(tmp_path):
    plain = open_source(database(tmp_path / "plain", LATENTS))
    assert len(plain) == 3 and [plain[n].prompt for n in range(3)] == PROMPTS
    assert torch.equal(plain[1].latents, torch.from_numpy(LATENTS[1]).float())
    assert plain[1].states.shape == (1, 5, 16, 4, 6)
    pairs = open_source(database(tmp_path / "pairs", STATES))
    assert torch.equal(pairs[0].states, torch.from_numpy(STATES[0]).float())
    assert torch.equal(pairs[0].latents, pairs[0].states[-1])


def test_every_source_tells_its_prompts_with_their_places(tmp_path):
    """The same that its samples have, latents unread."""
    (tmp_path / "a.txt").write_text("a fox runs\n\na hen\n")
    (tmp_path / "b.txt").write_text("it jumps\n\nit sleeps\n")
    prompts = open_source(tmp_path / "a.txt", tmp_path / "b.txt")
    alone = [("a.txt, line 1", "a fox runs"), ("a.txt, line 3", "a hen")]
    later = [("b.txt, line 1", "it jumps"), ("b.txt, line 3", "it sleeps")]
    assert list(prompts.told(changes=False)) == alone
    assert sorted(prompts.told(changes=True)) == alone + later
    rows = open_source(database(tmp_path / "base", LATENTS))
    assert list(rows.told(changes=True)) == [(f"base, row {n}", PROMPTS[n]) for n in range(3)]
    rows = open_source(table(tmp_path / "c.parquet", {"caption": PROMPTS}))
    assert list(rows.told(changes=True)) == [(f"c.parquet, row {n}", PROMPTS[n]) for n in range(3)]
    write_clip(
        tmp_path / "d" / "1.safetensors",
        torch.zeros(3, 4, 2, 2),
        {"prompt": "a fox", "cues": [[1, "cut", "a hen"]]},
    )
    clips = open_source(tmp_path / "d")
    assert list(clips.told(changes=True)) == [("1.safetensors", "a fox"), ("1.safetensors", "a hen")]
    assert [prompt for _, prompt in clips.told(changes=False)] == ["a fox"]
    (tmp_path / "e.mp4").touch()
    (tmp_path / "f.json").write_text('{"e.mp4": "a fox  runs"}')
    assert list(open_source(tmp_path / "f.json").told(changes=True)) == [("caption of e.mp4", "a fox runs")]


def test_databases_in_a_folder_are_one(tmp_path):
    for n, shard in enumerate((LATENTS[:2], LATENTS[2:])):
        database(tmp_path / f"shard_{n}", shard, PROMPTS[2 * n :])
    whole = open_source(tmp_path)
    assert [whole[n].prompt for n in range(len(whole))] == PROMPTS
    assert torch.equal(whole[2].latents, torch.from_numpy(LATENTS[2]).float())
    with pytest.raises(IndexError):
        whole[3]


def test_parquet_of_prompts_over_files_and_groups(tmp_path):
    table(tmp_path / "data" / "0.parquet", {"id": [1, 2], "caption": PROMPTS[:2]}, group=1)
    table(tmp_path / "data" / "1.parquet", {"id": [3], "caption": PROMPTS[2:]})
    whole = open_source(tmp_path / "data")
    assert [whole[n].prompt for n in range(len(whole))] == PROMPTS and whole[0].states is None


def test_parquet_of_latents_is_turned_and_normalised(tmp_path):
    stored = LATENTS.astype(np.float32).transpose(0, 2, 1, 3, 4)  # [c f h w], as they are published
    path = table(tmp_path / "a.parquet", {"prompt": PROMPTS, **packed("vae_latent", stored)})
    rows = open_source(path, normalise=lambda latents: (latents - 1) / 2)
    torch.testing.assert_close(rows[2].latents, (torch.from_numpy(LATENTS[2]).float() - 1) / 2)
    with pytest.raises(GroundedError, match="not normalised"):
        open_source(path)


def test_parquet_of_a_whole_trajectory_gives_the_students_states(tmp_path):
    long = np.arange(49, dtype=np.float32)[None, :, None, None, None, None] * np.ones(
        (1, 1, 16, 3, 2, 2), np.float32
    )
    path = table(tmp_path / "a.parquet", {"caption": ["a fox"], **packed("trajectory_latents", long)})
    found = open_source(path)[0].states
    assert found.shape == (5, 3, 16, 2, 2) and found[:, 0, 0, 0, 0].tolist() == [0, 12, 24, 36, 48]


@pytest.mark.parametrize("form", ["beside", "csv", "json", "mapping", "jsonl"])
def test_shots_and_their_captions(tmp_path, form):
    for name in ("b.mp4", "deep/a.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"film")
    captions = {"deep/a.mov": "a fox\nruns", "b.mp4": "a hen, still"}
    path = tmp_path
    if form == "beside":
        for name, words in captions.items():
            (tmp_path / name).with_suffix(".txt").write_text(words)
    else:
        path = tmp_path / f"list.{'json' if form == 'mapping' else form}"
        rows = [{"video": name, "text": words} for name, words in captions.items()]
        if form == "csv":
            path.write_text("video,text\n" + "".join(f'{r["video"]},"{r["text"]}"\n' for r in rows))
        elif form == "jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        else:
            path.write_text(json.dumps(captions if form == "mapping" else rows))
    found = open_source(path)
    assert {found[n].prompt for n in range(len(found))} == {"a fox runs", "a hen, still"}
    assert {shot.path.name for shot in found.shots} == {"a.mov", "b.mp4"}


def lines(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def broken_row(tmp):
    return database(tmp / "d", LATENTS, told="3 5 16 4 7")


def cut_off(tmp):
    """A database without its last page: the library maps it, and reading there would end the program."""
    path = database(tmp / "d", LATENTS)
    with open(path / "data.mdb", "r+b") as file:
        file.truncate(file.seek(0, 2) - 4096)
    return path


def trajectory(tmp, states):
    rows = np.zeros((1, states, 16, 3, 2, 2), np.float32)
    return table(tmp / "a.parquet", {"caption": ["a fox"], **packed("trajectory_latents", rows)})


def pipe(path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo(path)
    return path


WRONG = {
    "a pipe": (lambda tmp: pipe(tmp / "a.txt"), "neither a file nor a folder"),
    "an endless name": (lambda tmp: tmp / ("x" * 300), "there is nothing"),
    "a database that is cut off": (cut_off, "it is cut off"),
    "a database of too many": (
        lambda tmp: database(tmp / "d", LATENTS, told=f"{10**20} 5 16 4 6"),
        "latents_shape is",
    ),
    "too short a trajectory": (lambda tmp: trajectory(tmp, 7), "7 states"),
    "an endless name of a shot": (
        lambda tmp: lines(tmp / "a.json", json.dumps({"b" * 300: "a fox"})),
        "not there",
    ),
    "nothing there": (lambda tmp: tmp / "none", "there is nothing"),
    "nothing known": (lambda tmp: tmp, "nothing that is known"),
    "no prompt": (lambda tmp: lines(tmp / "a.txt", "\n\n"), "no prompt"),
    "no UTF-8": (lambda tmp: lines(tmp / "a.txt", b"\xff\xfea"), "line 1: the byte FF"),
    "prompts in Latin-1": (
        lambda tmp: lines(tmp / "a.txt", b"a fox\n\na caf\xe9\n"),
        "a.txt, line 3: the byte E9",
    ),
    "captions in Latin-1": (
        lambda tmp: lines(tmp / "a.csv", b"file,caption\r\na.mp4,a caf\xe9\r\n"),
        "a.csv, line 2: the byte E9",
    ),
    "a caption in Latin-1": (
        lambda tmp: [lines(tmp / "a.mp4", "x"), lines(tmp / "a.txt", b"a caf\xe9")][0].parent,
        "a.txt, line 1: the byte E9",
    ),
    "a database's shape": (lambda tmp: database(tmp / "d", LATENTS, told="many"), "latents_shape is"),
    "a damaged row": (broken_row, "row 0 is damaged"),
    "a missing row": (lambda tmp: database(tmp / "d", LATENTS, PROMPTS[:0]), "no latents_0_data"),
    "no parquet": (lambda tmp: lines(tmp / "a.parquet", "PAR0"), "cannot be read"),
    "no column": (lambda tmp: table(tmp / "a.parquet", {"words": ["a"]}), "no column of prompts"),
    "a column that one file lacks": (
        lambda tmp: (
            [table(tmp / "a.parquet", {"caption": ["a"]}), table(tmp / "b.parquet", {"prompt": ["a"]})][
                0
            ].parent
        ),
        "b.parquet: it has no column caption",
    ),
    "latents without their type": (
        lambda tmp: table(
            tmp / "a.parquet", {"caption": ["a"], "vae_latent_bytes": [b""], "vae_latent_shape": [[0]]}
        ),
        "it has no column vae_latent_dtype",
    ),
    "a prompt of no UTF-8": (
        lambda tmp: table(tmp / "a.parquet", {"text": pa.array([b"a\xff"], pa.binary()).view(pa.string())}),
        "can't decode byte 0xff",
    ),
    "an empty prompt": (
        lambda tmp: table(tmp / "a.parquet", {"text": pa.array([None], pa.string())}),
        "no prompt",
    ),
    "a single clip, damaged": (
        lambda tmp: lines(tmp / "a.safetensors", "x").parent,
        "a.safetensors: it cannot be read",
    ),
    "no clip": (
        lambda tmp: [save_file({"x": torch.zeros(1)}, tmp / "a.safetensors"), tmp][1],
        "a.safetensors: it is not a clip",
    ),
    "no caption": (lambda tmp: lines(tmp / "a.mp4", "x").parent, "no caption"),
    "no such shot": (lambda tmp: lines(tmp / "a.csv", "file,caption\nb.mp4,a fox\n"), "not there"),
    "a caption with a comma": (
        lambda tmp: lines(tmp / "a.csv", "file,caption\na.csv,a fox, and a hen\n"),
        "row 1 has more values",
    ),
    "no such columns": (lambda tmp: lines(tmp / "a.csv", "name,words\nb.mp4,a fox\n"), "row 1"),
    "no JSON": (lambda tmp: lines(tmp / "a.json", "{"), "cannot be read"),
}


def test_a_sound_database_with_unwritten_last_pages_is_read_as_the_error_says(tmp_path):
    path = database(tmp_path / "d", LATENTS)
    with lmdb.open(str(path), map_size=10**7) as env:
        for number in range(8):  # pages are taken, given back, and the first of them used again
            with env.begin(write=True) as txn:
                txn.delete(b"later") if number % 2 else txn.put(b"later", bytes(100 if number else 400_000))
    os.truncate(path / "data.mdb", (path / "data.mdb").stat().st_size - 40 * 4096)
    with pytest.raises(GroundedError, match="it is cut off") as caught:
        open_source(path)
    command = re.search("truncate -s ([0-9]+) '(.+)' adds", caught.value.fix)
    assert command is not None
    os.truncate(command[2], int(command[1]))
    whole = open_source(path)
    assert all(np.array_equal(whole[n].latents, LATENTS[n].astype(np.float32)) for n in range(3))


def test_a_row_that_was_never_written_is_told(tmp_path):
    source = open_source(database(tmp_path / "d", np.stack([LATENTS[0], np.zeros_like(LATENTS[1])])))
    assert source[0].latents is not None
    with pytest.raises(GroundedError, match="row 1 holds nothing but zeros"):
        source[1]


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place_and_remedy(tmp_path, case):
    make, words = WRONG[case]
    path = make(tmp_path)
    with pytest.raises(GroundedError, match=words) as caught:
        open_source(path, normalise=lambda latents: latents)[0]
    assert path.name in str(caught.value) and caught.value.fix


def test_shots_that_are_encoded_are_not_waited_for(tmp_path):
    with pytest.raises(GroundedError, match="neither a file nor a folder"):
        Shots(pipe(tmp_path / "a.csv"))


def test_pairs_that_are_none_are_told_by_line(tmp_path):
    first = lines(tmp_path / "a.txt", "one\ntwo\n")
    with pytest.raises(GroundedError, match=r"3 lines, and a\.txt has 2"):
        open_source(first, lines(tmp_path / "b.txt", "x\ny\nz"))
    with pytest.raises(GroundedError, match="line 1 is empty"):
        open_source(first, lines(tmp_path / "c.txt", "\ny"))


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    path = database(tmp_path / "d", LATENTS)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(GroundedError, match="package lmdb"):
        open_source(path)


def test_a_damaged_first_clip_is_named_and_not_taken_for_another_kind_of_data(tmp_path):
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.safetensors", torch.from_numpy(LATENTS[0]), {"prompt": "a fox"})
    (tmp_path / "a.safetensors").write_bytes(b"cut off")
    source = open_source(tmp_path)
    assert len(source) == 2 and source[1].prompt == "a fox"
    with pytest.raises(GroundedError, match=r"a\.safetensors: it cannot be read"):
        source[0]


def test_an_encoded_clip_is_itself_or_is_refused(tmp_path):
    path = tmp_path / "a.mp4-0000.safetensors"
    write_clip(path, torch.from_numpy(LATENTS[0]), {"prompt": "a fox"})
    source = open_source(tmp_path)
    assert source[0].prompt == "a fox"
    assert torch.equal(source[0].latents, torch.from_numpy(LATENTS[0]).float())
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)
    with pytest.raises(GroundedError, match="damaged"):
        source[0]
    path.write_bytes(data.replace(b'{\\"prompt', b'[\\"prompt'))
    with pytest.raises(GroundedError, match="cannot be read: Expecting"):
        source[0]
    path.write_bytes(data[:-200])
    with pytest.raises(GroundedError, match="cannot be read"):
        source[0]
