"""Folders to score."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path, photos):
    """A folder of four photographs and one of the same 10 levels brighter."""
    for name, shift in (("reference", 0), ("result", 10)):
        for number, photo in enumerate(photos):
            flat = (photo * 0.8).astype(np.uint8)
            path = tmp_path / name / "sub" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(flat + np.uint8(shift)).save(path)
    return tmp_path / "result", tmp_path / "reference"
