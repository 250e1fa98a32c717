import json

import pytest
import torch
from skimage.data import astronaut

from ddpm_pairs.degradations import Degradation
from ddpm_pairs.demo.camera import Camera, demosaic, mosaic, sensor_noise, to_linear, to_srgb
from ddpm_pairs.metrics.texture import band_power, chroma_noise


def drawn(camera: Camera, count: int, seed: int = 0) -> list[dict]:
    return [camera.draw(torch.Generator().manual_seed(1000 * seed + number)) for number in range(count)]


def photos(count: int) -> torch.Tensor:
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1).float().div(255)
    return torch.stack([photo[:, 20 * i : 20 * i + 128, 30 * i : 30 * i + 96] for i in range(count)])


def test_it_follows_the_protocol_and_replays():
    camera, hq = Camera(), photos(4)
    assert isinstance(camera, Degradation)
    parameters = drawn(camera, 4)
    lq = camera.apply(hq, parameters)
    assert lq.shape == (4, 3, 32, 24)
    assert torch.equal((lq * 255).round() / 255, lq) and lq.min() >= 0 and lq.max() <= 1
    assert torch.equal(camera.apply(hq, json.loads(json.dumps(parameters))), lq)
    assert not torch.equal(camera.apply(hq, drawn(camera, 4, seed=1)), lq)


@pytest.mark.parametrize("count", [4, 8])
def test_rows_are_independent(count):
    camera, hq = Camera(), photos(count)
    parameters, others = drawn(camera, count), drawn(camera, count, seed=1)
    lq = camera.apply(hq, parameters)
    order = list(reversed(range(count)))
    assert torch.equal(camera.apply(hq[order], [parameters[i] for i in order]), lq[order])
    for keep in range(count):
        mixed = torch.rand(hq.shape, generator=torch.Generator().manual_seed(keep))
        mixed[keep], others[keep] = hq[keep], parameters[keep]
        assert torch.equal(camera.apply(mixed, others)[keep], lq[keep]), keep


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_content_stays_in_place(scale):
    # a soft spot on black: without noise the centre of its light is where it was
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    spot = 0.05 + 0.6 * torch.exp(-((x - 83.3) ** 2 + (y - 75.6) ** 2) / (2 * 14**2))
    parameters = [{**entry, "shot": 0.0, "read": 0.0, "quality": 100.0} for entry in drawn(Camera(scale), 4)]
    photo = Camera(scale).apply(spot.expand(4, 3, 160, 160), parameters).mean(dim=1)
    weight = photo - photo[:, :2].mean(dim=(1, 2), keepdim=True)
    place = (torch.arange(160 // scale) + 0.5) * scale - 0.5
    for row in weight.double():
        assert (row.sum(0) @ place.double() / row.sum()).item() == pytest.approx(83.3, abs=0.1)
        assert (row.sum(1) @ place.double() / row.sum()).item() == pytest.approx(75.6, abs=0.1)


def test_its_noise_is_coloured_and_correlated_over_pixels():
    camera = Camera()
    lq = camera.apply(torch.full((8, 3, 256, 256), 0.45), drawn(camera, 8))
    assert chroma_noise(lq) > 0.5
    residual = lq - lq.mean(dim=(-2, -1), keepdim=True)
    blue_less_green = residual[:, 2] - residual[:, 1]

    def neighbours(field: torch.Tensor) -> float:
        return (field[..., 1:] * field[..., :-1]).mean().item() / field.square().mean().item()

    assert neighbours(blue_less_green) > 0.6  # chroma: demosaicked, then smeared
    assert neighbours(residual[:, 1]) > 0.1
    # unlike white noise, it has most of its luminance power below the top octave
    bands = band_power(lq)
    assert bands[:-1].min() > 2 * bands[-1]
    # white noise of the same strength has none of this
    white = torch.randn(lq.shape, generator=torch.Generator().manual_seed(0)) * residual.std()
    assert abs(neighbours(white)) < 0.02


def test_noise_grows_with_light_as_told():
    raw = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1).expand(2, 1, 300, 300)
    noise = sensor_noise(raw, torch.full((2, 1, 1, 1), 0.004), torch.full((2, 1, 1, 1), 0.01), [3, 4])
    assert noise[0].std().item() == pytest.approx(0.01, rel=0.02)
    assert noise[1].std().item() == pytest.approx((0.004 * 0.5 + 0.01**2) ** 0.5, rel=0.02)


def test_mosaic_is_rggb_and_bilinear_demosaicking_keeps_planes():
    colours = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 5, 6)
    raw = mosaic(colours)
    assert raw[0, 0, :2, :2].tolist() == [[1, 2], [2, 3]]
    assert torch.allclose(demosaic(raw), colours)  # a flat colour comes back, at the border and for odd sides too
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(8.0), indexing="ij")
    plane = torch.stack((x, 2 * x - y, 3 * y)).unsqueeze(0)
    inner = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(demosaic(mosaic(plane))[inner], plane[inner], atol=1e-5)


def test_transfer_curve():
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(0.21404, abs=1e-5)
    values = torch.linspace(0, 1, 256)
    assert torch.allclose(to_srgb(to_linear(values)), values, atol=1e-5)


def test_sensors_without_a_bayer_cell_are_refused():
    with pytest.raises(ValueError, match="4x16 px at scale 4; expected sides of 8 px or more"):
        Camera().apply(torch.rand(1, 3, 16, 4), drawn(Camera(), 1))
    assert Camera().apply(torch.rand(1, 3, 8, 20), drawn(Camera(), 1)).isfinite().all()
