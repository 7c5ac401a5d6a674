"""Which states a Take keeps: what goes first where there is no room for all."""

import os
import shutil
import time

import torch
from safetensors.torch import save_file

from gf_core.engine import finish
from gf_core.take.states import StateStore


def test_of_other_films_states_the_longest_unused_goes_first(tmp_path):
    """Undoing an edit then finds the states of a moment ago; what was read counts as used."""
    foreign = [f"{number:024x}.memory" for number in range(4)]
    own, tensor = "f" * 24 + ".memory", {"x": torch.zeros(25_000)}
    store = StateStore(tmp_path / "states", [own], budget=520_000)
    for age, name in zip((30, 40, 20, 10), foreign):
        assert store.save(name, 6, tensor)
        (path,) = tmp_path.glob(f"states/*{name}*")
        os.utime(path, (time.time() - age,) * 2)
    assert store.save(own, 6, tensor) and store.names() == {*foreign, own}
    left = [*foreign, own]
    for gone, new in ((1, "a"), (0, "b")):
        name = new * 24 + ".memory"
        assert store.save(name, 6, tensor)
        left = [*(known for known in left if known != foreign[gone]), name]
        assert store.names() == set(left)
    assert store.load(foreign[2]) is not None
    assert store.save("c" * 24 + ".memory", 6, tensor)
    assert store.names() == {foreign[2], own, *(new * 24 + ".memory" for new in "abc")}


def test_the_budget_lets_the_least_useful_states_go_first(tmp_path):
    tensor = {"x": torch.zeros(25_000)}
    names = [f"{number:024x}.memory" for number in range(5)]
    store = StateStore(tmp_path / "states", names[1:], budget=420_000)
    for name, chunks in zip(names, (6, 10, 20, 21)):
        assert store.save(name, chunks, tensor)
    assert store.save(names[4], 30, tensor)
    assert names[0] not in store.names()  # not of this film
    assert store.save("f" * 24 + ".memory", 40, tensor)
    assert names[3] not in store.names() and names[2] in store.names()  # one chunk behind the state before it
    assert store.save("e" * 24 + ".memory", 40, {"x": torch.zeros(200_000)}) is None
    assert store.load(names[1])["x"].shape == (25_000,)


def test_a_state_that_is_kept_once_more_takes_its_own_place(tmp_path):
    tensor = {"x": torch.zeros(25_000)}
    names = [f"{number:024x}.memory" for number in range(4)]
    store = StateStore(tmp_path / "states", names, budget=420_000)
    for name, chunks in [*zip(names, (6, 12, 18, 24)), (names[3], 24)]:
        assert store.save(name, chunks, tensor)
    assert store.names() == set(names)


def test_states_leave_the_film_its_disk(tmp_path):
    store = StateStore(tmp_path / "states", [], reserve=shutil.disk_usage(tmp_path).total)
    assert store.save("a" * 24 + ".memory", 6, {"x": torch.zeros(10)}) is None


def test_a_state_that_does_not_tell_its_sum_is_not_believed(tmp_path):
    name, store = "a" * 24 + ".memory", StateStore(tmp_path / "states", [])
    assert store.save(name, 6, {"x": torch.zeros(10)}) and store.load(name) is not None
    (path,) = (tmp_path / "states").iterdir()
    save_file({"x": torch.ones(10)}, path, {"name": name})
    assert store.load(name) is None and not path.exists()


def test_a_decoders_state_is_weighed_against_its_reach(bundle, films, tmp_path, monkeypatch):
    """Four chunks, of which it would decode no more than the last anew."""
    asked = []
    monkeypatch.setattr(finish, "pays", lambda size, chunks, seconds: asked.append(chunks))
    films.render(bundle, tmp_path, "a fox | 3s")
    assert asked == [1]


def test_a_decoders_state_spares_the_chunks_since_the_last_one_that_was_kept(
    bundle, films, take, monkeypatch
):
    asked = []

    def pays(size, chunks, seconds):
        asked.append(chunks)
        return chunks > 1

    monkeypatch.setattr(finish, "pays", pays)
    monkeypatch.setattr(finish, "chunks_within_reach", lambda codec, chunk: 9)
    films.events(
        bundle, "a fox | 2.25s\nthen: it runs | 0.75s\nthen: it sits | 1.5s\nthen: it naps | 1.5s", take
    )
    assert asked == [3, 1, 3, 2]
