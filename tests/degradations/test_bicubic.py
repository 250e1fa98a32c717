import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from ddpm_pairs.degradations import Bicubic, Degradation, RealESRGAN, build_degradation

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


def test_scale_1_goes_through_a_quarter_and_back(hq):
    lq = Bicubic(1).apply(hq, [{}])[0] * 255
    assert lq.shape == hq.shape[1:]
    for channel in range(3):
        plane = Image.fromarray(PHOTO[..., channel].astype(np.float32), "F").resize((60, 64), Image.Resampling.BICUBIC)
        plane = Image.fromarray(np.array(plane).clip(0, 255), "F").resize((240, 256), Image.Resampling.BICUBIC)
        assert np.abs(lq[channel].numpy() - np.array(plane).clip(0, 255)).max() < 0.51


def test_scale_1_takes_any_size():
    assert Bicubic(1).apply(torch.rand(2, 3, 17, 1), [{}, {}]).shape == (2, 3, 17, 1)


@pytest.mark.parametrize(
    ("hq", "parameters", "words"),
    [
        (torch.rand(1, 3, 6, 8), [{}], "8x6 px at scale 4: crop both sides to a multiple of 4"),
        (torch.rand(3, 8, 8), [{}], "shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [{}], "uint8"),
        (torch.rand(2, 3, 8, 8), [{}], "2 pictures and 1 sets"),
        (torch.rand(0, 3, 8, 8), [], "0 pictures"),
    ],
)
def test_wrong_batches_are_refused(hq, parameters, words):
    for model in (Bicubic(4), RealESRGAN(4)):
        with pytest.raises(ValueError, match=words):
            model.apply(hq, parameters)


@pytest.mark.parametrize(("name", "kind"), [("bicubic", Bicubic), ("real_esrgan", RealESRGAN)])
def test_models_are_built_by_name(name, kind):
    model = build_degradation(name, 2)
    assert isinstance(model, kind) and isinstance(model, Degradation)
    assert (model.name, model.scale) == (name, 2)


def test_unknown_names_and_scales_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"'bsrgam' is unknown: give one of bicubic, real_esrgan") as caught:
        build_degradation("bsrgam", 4)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="scale 3: give one of 1, 2, 4"):
        build_degradation("real_esrgan", 3)
