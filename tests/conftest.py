"""What all tests share: an offline environment and a few real photographs."""

import os
import signal
from collections.abc import Iterator

os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import numpy as np
import pytest
import skimage.data


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Four native crops of photographs, uint8 (96, 128, 3), RGB; treat them as read-only."""
    crops = [
        skimage.data.astronaut()[60:156, 160:288],
        skimage.data.chelsea()[80:176, 120:248],
        skimage.data.coffee()[150:246, 200:328],
        skimage.data.rocket()[200:296, 250:378],
    ]
    for crop in crops:
        crop.flags.writeable = False
    return crops


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Ctrl-C works as in a terminal also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
