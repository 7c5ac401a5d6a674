"""Films of a farm as tasks of a Ray cluster that is there already: one each, with a card where it has any."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from ..errors import GroundedError, installed
from .filming import Job, State, Tell, make

log = logging.getLogger("grounded")
TRIES = 3
"""How often a film is begun whose worker dies, each time from where it was."""
PATIENCE = 60.0
"""Seconds that films get to come to an end after Ctrl-C."""


class Board:
    """Where tasks write how far they are; lives in a process of its own."""

    def __init__(self) -> None:
        self._news: dict[int, State] = {}

    def tell(self, number: int, state: State) -> None:
        """Take in news of one film."""
        self._news[number] = state

    def news(self) -> dict[int, State]:
        """What was told since the last call."""
        news, self._news = self._news, {}
        return news


def on_ray(address: str, jobs: dict[int, Job], tell: Tell) -> None:
    """Make the films on the cluster at `address`, as many at a time as it has room for.

    Raises GroundedError: Ray is not installed, or there is no such cluster.
    """
    fix = "pip install 'grounded-forcing[farm]', or leave --ray away: one film after the other is made here"
    with installed("a cluster", fix):
        ray = importlib.import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            fix = "start it (ray start --head), or say where it is: --ray HOST:PORT"
            raise GroundedError(f"there is no Ray cluster at {address}: {error}", fix) from error
    try:
        _make_all(ray, jobs, tell)
    finally:
        if ours:
            ray.shutdown()


def _make_all(ray: Any, jobs: dict[int, Job], tell: Tell) -> None:
    board = ray.remote(num_cpus=0)(Board).remote()
    device = next((job.args.device for job in jobs.values()), None)
    cards = 1 if ray.cluster_resources().get("GPU") and device != "cpu" else 0
    task = ray.remote(num_cpus=1, num_gpus=cards, max_retries=TRIES - 1)(_make_there)
    running, waiting = dict[Any, int](), list(jobs)

    def hear() -> None:
        for number, state in ray.get(board.news.remote()).items():
            if number in running.values():
                tell(number, state)

    try:
        for _ in range(2):  # as in `make_here`
            running |= {task.remote(jobs[number], number, board): number for number in waiting}
            waiting = []
            while running:
                ready, _ = ray.wait(list(running), timeout=1.0)
                hear()
                for ref in ready:
                    number, state = running.pop(ref), _result(ray, ref)
                    tell(number, state)
                    waiting += [number] if state.kind == "held" else []
    except KeyboardInterrupt:
        for ref in running:
            ray.cancel(ref)  # as Ctrl-C there: a film comes to its end, and the Take is whole
        ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)
        hear()  # a film that had just begun is called stopped, too, and not waiting
        raise


def _result(ray: Any, ref: Any) -> State:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()
        return State("failed", words=f"its worker was lost {TRIES} times: {said[0] if said else error!r}")


def _make_there(job: Job, number: int, board: Any) -> State:
    """The task: in a process of the cluster."""
    board.tell.remote(number, State("making"))
    return make(job, lambda state: board.tell.remote(number, state))
