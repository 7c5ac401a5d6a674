"""The worker beside the sampler, one chunk behind it, and its two threads."""

from __future__ import annotations

import gc
import sys
import threading
import time

import pytest

from gf_core.engine.worker import DEPTH, Worker


def worker_of(process, name="test"):
    """A worker whose second thread does the work."""
    return Worker(lambda item: item, process, name)


def test_results_come_in_order_and_none_is_lost():
    worker = worker_of(lambda item: item * 2)
    got = []
    for item in range(20):
        while not worker.offer(item):
            got += worker.results()
    got += worker.finish()
    assert got == [item * 2 for item in range(20)]


def test_what_is_prepared_comes_first_and_fails_for_nobody():
    done = []
    worker = worker_of(done.append)
    worker.prepare(lambda: done.append("ready"))
    worker.prepare(lambda: 1 / 0)
    worker.offer("chunk")
    assert list(worker.finish()) == [] and done == ["ready", "chunk"]
    worker.close()


def test_the_queue_never_holds_more_than_its_depth():
    gate = threading.Event()
    worker = worker_of(lambda item: gate.wait(10) and item)
    taken = 0
    while taken < 10 and worker.offer(taken):
        taken += 1
    assert taken == DEPTH + 1  # one in work
    gate.set()
    assert list(worker.finish()) == [0, 1, 2]


def test_an_error_comes_out_after_what_was_done_before_it():
    def process(item: int) -> int:
        if item == 2:
            raise ValueError("bad item")
        return item

    worker, got = worker_of(process), []
    with pytest.raises(ValueError, match="bad item"):
        for item in range(100):
            while not worker.offer(item):
                got += worker.results()
            for result in worker.results():
                got.append(result)
    worker.close()
    assert got == [0, 1]


def test_an_error_on_the_last_item_comes_out_of_finish():
    worker = worker_of(lambda item: 1 / item)
    worker.offer(0)
    with pytest.raises(ZeroDivisionError):
        list(worker.finish())


def test_close_finishes_the_queue_and_ends_the_thread_even_after_an_error():
    done = []
    worker = worker_of(lambda item: (time.sleep(0.02), done.append(item)), "test-close")
    worker.offer(1), worker.offer(2)
    worker.close()
    worker.close()
    assert done == [1, 2]
    broken = worker_of(lambda item: 1 / 0, "test-close")
    broken.offer(1)
    broken.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-close")]


def test_finish_gives_its_caller_turns_while_it_waits_even_for_a_place_in_the_queue():
    gate, turns = threading.Event(), []

    def tick():
        turns.append(time.monotonic())
        if len(turns) == 3:
            gate.set()

    worker = worker_of(lambda item: gate.wait(10) and item)
    taken = 0
    while worker.offer(taken):
        taken += 1
    assert list(worker.finish(tick)) == list(range(taken)) and len(turns) >= 3


def test_what_comes_after_an_error_is_still_given_to_the_worker():
    def process(item):
        seen.append(item)
        if item < 3:
            raise ValueError(f"item {item}")

    seen = []
    worker = worker_of(process)
    for item in (1, 2):
        assert worker.offer(item)
    worker.close([3])
    assert seen == [1, 2, 3]
    with pytest.raises(ValueError, match="item 1"):
        list(worker.results())
    assert list(worker.results()) == []


def test_the_first_thread_goes_on_while_the_second_works():
    begun, gate = [], threading.Event()
    both = threading.Event()

    def first(item):
        begun.append(item)
        if len(begun) == 2:
            both.set()
        return -item

    worker = Worker(first, lambda half: gate.wait(10) and (half, threading.current_thread().name), "test")
    assert worker.offer(1) and worker.offer(2) and both.wait(10)
    assert not list(worker.results())
    gate.set()
    assert [half for half, name in worker.finish() if name.startswith("test-second")] == [-1, -2]
    worker.close()


def test_the_first_thread_is_one_item_ahead_and_not_more():
    """So that the pictures of two chunks are in memory at most."""
    begun, gate, second = [], threading.Event(), threading.Event()
    worker = Worker(lambda item: begun.append(item), lambda half: (second.set(), gate.wait(10))[1], "test")
    for item in (1, 2, 3):
        assert worker.offer(item)
    assert second.wait(10)
    time.sleep(0.1)
    assert begun == [1, 2]
    gate.set()
    assert list(worker.finish()) == [True] * 3 and begun == [1, 2, 3]
    worker.close()


def test_an_error_in_the_first_thread_comes_in_its_place_too():
    def first(item):
        return 6 // item

    worker, got = Worker(first, lambda half: half, "test"), []
    for item in (3, 0, 2):
        assert worker.offer(item)
    with pytest.raises(ZeroDivisionError):
        for half in worker.finish():
            got.append(half)
    assert got == [2] and list(worker.finish()) == [3]
    worker.close()


@pytest.mark.parametrize("line", range(1, 5))
def test_ctrl_c_while_an_item_is_handed_over_leaves_no_thread_waiting(line):
    """Wherever it comes: what is handed over afterwards is done, and the worker ends."""
    done, lines, before = [], [], sys.gettrace()

    def interrupt(frame, event, _):
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == line:
                raise KeyboardInterrupt
        return interrupt

    def only_there(frame, *_):
        return interrupt if frame.f_code.co_name == "_submit" else None

    worker = worker_of(done.append)
    sys.settrace(only_there)
    try:
        with pytest.raises(KeyboardInterrupt):
            worker.offer("one")
    finally:
        sys.settrace(before)
    ending = threading.Thread(target=worker.close, args=(("two", "three"),), daemon=True)
    ending.start()
    ending.join(5)
    assert not ending.is_alive() and done[-2:] == ["two", "three"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_thread_that_cannot_begin_is_said_before_anything_is_handed_over(monkeypatch, place):
    started, begin = [], threading.Thread.start

    def start(thread):
        if len(started) == place:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        worker_of(lambda item: item, "without")
    gc.collect()
    for thread in started:
        thread.join(10)
    assert not [thread for thread in started if thread.is_alive()]


def test_an_item_that_cannot_be_handed_on_is_an_error_and_nothing_goes_past_it(monkeypatch):
    done, gate = [], threading.Event()
    worker = Worker(lambda item: gate.wait(10) and item, lambda item: done.append(item) or item, "full")
    submit, asked = worker._second.submit, []

    def full(*words):
        asked.append(words)
        if len(asked) == 2:
            raise MemoryError("no more")
        return submit(*words)

    monkeypatch.setattr(worker._second, "submit", full)
    assert all(worker.offer(item) for item in (1, 2, 3))
    gate.set()
    with pytest.raises(MemoryError):
        list(worker.finish())
    assert list(worker.finish()) == [] and done == [1] and len(asked) == 3
    worker.close()
