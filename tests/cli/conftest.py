"""A folder with a storyboard for each test, and a tiny model in the place of any."""

from __future__ import annotations

import numpy as np
import pytest

from ..films import film_at
from .tiny import FILM, bundle


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "film.txt").write_text(FILM, encoding="utf-8")
    return tmp_path


@pytest.fixture
def model(monkeypatch):
    asked = []

    def opens(*args, **options):
        asked.append((args, options))
        return bundle()

    monkeypatch.setattr("gf_core.checkpoints.bundle.load_model", opens)
    return asked


@pytest.fixture
def clip(place):
    """A film of another program."""
    film_at(place / "clip.mp4", np.full((24, 32, 32, 3), 90, np.uint8))
    return "clip.mp4"
