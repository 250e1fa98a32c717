import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from ddpm_pairs.degradations import Bicubic, OnHQGrid

PHOTO = np.ascontiguousarray(astronaut()[:256, 100:340])


@pytest.fixture
def hq() -> torch.Tensor:
    return torch.from_numpy(PHOTO).permute(2, 0, 1).float().div(255).unsqueeze(0)


@pytest.mark.parametrize("scale", [2, 4])
def test_equals_pil(hq, scale):
    model = Bicubic(scale)
    lq = model.apply(hq, [model.draw(torch.Generator())])[0] * 255
    for channel in range(3):
        plane = Image.fromarray(PHOTO[..., channel].astype(np.float32), "F")
        expected = np.array(plane.resize((240 // scale, 256 // scale), Image.Resampling.BICUBIC)).clip(0, 255)
        assert np.abs(lq[channel].numpy() - expected).max() < 0.51  # half a level is the rounding


def test_faces_go_through_a_quarter_and_back(hq):
    lq = OnHQGrid("bicubic").apply(hq, [{"degradation": {"name": "bicubic", "parameters": {}}}])[0] * 255
    assert lq.shape == hq.shape[1:]
    for channel in range(3):
        plane = Image.fromarray(PHOTO[..., channel].astype(np.float32), "F").resize((60, 64), Image.Resampling.BICUBIC)
        plane = Image.fromarray(np.array(plane).clip(0, 255), "F").resize((240, 256), Image.Resampling.BICUBIC)
        assert np.abs(lq[channel].numpy() - np.array(plane).clip(0, 255)).max() < 0.51
