"""Pictures that are larger than a tile."""

import json
import math
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import nn

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.degradations.walk_tiles import TiledDenoiser, lay_out, tile_side
from ddpm_pairs.diffusion import Denoiser, Schedule, load_denoiser
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main

CPU = torch.device("cpu")


def borders(length, tile, multiple):
    """Where a tile begins or ends inside the picture."""
    line = lay_out(length, tile, multiple)
    return sorted({*line.starts, *(start + line.side for start in line.starts)} - {0, length})


@pytest.mark.parametrize(
    ("length", "tile", "multiple", "side", "starts"),
    [
        (256, 256, 8, 256, [0]),
        (264, 256, 8, 168, [0, 96]),  # two tiles, 64 or more shared: (264 + 64) / 2 = 164
        (376, 256, 8, 224, [0, 152]),
        (504, 256, 8, 216, [0, 144, 288]),
        (96, 64, 32, 64, [0, 32]),
        (128, 64, 64, 128, [0]),  # no tile under two of the network's multiples
        (130, 100, 1, 78, [0, 52]),
    ],
)
def test_layout_by_hand(length, tile, multiple, side, starts):
    line = lay_out(length, tile, multiple)
    assert (line.side, line.starts) == (side, starts)


@pytest.mark.parametrize("multiple", [1, 2, 8, 32])
@pytest.mark.parametrize("tile", [64, 100, 256])
def test_layout_covers_with_as_few_tiles_as_can_be(tile, multiple):
    longest = tile_side(tile, multiple)
    overlap = math.ceil(longest / 4 / multiple) * multiple
    for length in range(multiple, 1500, multiple * 7 + multiple):
        line = lay_out(length, tile, multiple)
        assert line.starts[0] == 0 and line.starts[-1] + line.side == length
        assert line.side <= longest and all(start % multiple == 0 for start in [*line.starts, line.side, length])
        shared = [one + line.side - other for one, other in zip(line.starts, line.starts[1:], strict=False)]
        assert all(overlap <= one < line.side for one in shared)
        fewer = len(line.starts) - 1
        assert fewer == 0 or fewer * longest - (fewer - 1) * overlap < length
        weights = line.weights()
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(length))
        for start, weight in zip(line.starts, weights, strict=True):
            assert weight.min() >= 0 and weight[:start].sum() == weight[start + line.side :].sum() == 0
            # what a tile sees badly does not count: an eighth of the overlap at the very least
            margin = overlap // 8
            assert start == 0 or weight[start : start + margin].sum() == 0
            end = start + line.side
            assert end == length or weight[end - margin : end].sum() == 0


class Local(nn.Module):
    """A network that sees two pixels far."""

    multiple = 2

    def __init__(self):
        super().__init__()
        self.shapes = []
        self.conv = nn.Conv2d(3, 3, 5, padding=2)
        nn.init.normal_(self.conv.weight, std=0.05, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.conv.bias)

    def forward(self, x_t, timestep):
        self.shapes.append(tuple(x_t.shape))
        return self.conv(x_t) * (1 + timestep.view(-1, 1, 1, 1) / 50)


def test_tiles_of_a_local_network_give_the_whole_picture():
    """Where the surroundings that matter lie inside the tile, cutting changes nothing but rounding."""
    denoiser = Denoiser(Local(), Schedule(), t_max=60)
    x_t = torch.randn(1, 3, 150, 206, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = denoiser(x_t, torch.tensor([40]))
        denoiser.net.shapes.clear()
        tiled = TiledDenoiser(denoiser, (150, 206), 64, 4)(x_t, torch.tensor([40]))
    torch.testing.assert_close(tiled, whole, atol=2e-6, rtol=0)
    # 3 x 4 tiles in batches of 4, whatever is left over
    assert denoiser.net.shapes == [(4, 3, 62, 64)] * 3


def gradient_excess(picture, tile, multiple):
    """Mean step between neighbours across tile borders, over that everywhere else; (3, H, W)."""
    across, elsewhere = [], []
    for pixels in (picture, picture.transpose(1, 2)):
        steps = (pixels[:, 1:].float() - pixels[:, :-1].float()).abs().mean(dim=(0, 2))
        at = torch.zeros(len(steps), dtype=torch.bool)
        at[[border - 1 for border in borders(pixels.shape[1], tile, multiple)]] = True
        across.append(steps[at])
        elsewhere.append(steps[~at])
    return (torch.cat(across).mean() / torch.cat(elsewhere).mean()).item()


@pytest.mark.slow
@torch.inference_mode()
def test_no_seams():
    """The gradient across borders is what it is there without tiles; tiles that each have their noise show theirs."""
    denoiser = load_denoiser(weights_file("blind_camera"))
    photo = torch.tensor(skimage.data.coffee()[100:228, 200:360]).permute(2, 0, 1)[None].float() / 255
    drawn, sampling = [{"t": 100, "noise_seed": 1, "steps_seed": 2}], Sampling(num_steps=4)
    whole = synthesize(denoiser, photo, drawn, sampling)[0]
    tiled = synthesize(TiledDenoiser(denoiser, (128, 160), 64, 4), photo, drawn, sampling)[0]
    expected, found = (gradient_excess(picture, 64, denoiser.multiple) for picture in (whole, tiled))
    assert found == pytest.approx(expected, rel=0.03)
    assert (tiled - whole).square().mean().sqrt() * 255 < 2

    rows, columns = (lay_out(length, 64, denoiser.multiple) for length in photo.shape[2:])
    pasted = torch.zeros_like(tiled)
    for top in rows.starts:
        for left in columns.starts:
            box = slice(top, top + rows.side), slice(left, left + columns.side)
            alone = synthesize(
                denoiser, photo[:, :, *box], [{"t": 100, "noise_seed": 999 * top + left, "steps_seed": 0}], sampling
            )
            pasted[:, *box] = alone[0]
    assert gradient_excess(pasted, 64, denoiser.multiple) > 1.1 * expected


def pictures_of(sizes):
    """Pictures `0`, `1`, ... of these (height, width), mirrored again and again out of one photograph."""
    photo = np.asarray(skimage.data.astronaut())
    made = []
    for number, (height, width) in enumerate(sizes):
        added = [(0, max(height - 512, 0)), (0, max(width - 512, 0)), (0, 0)]
        pixels = np.pad(photo, added, mode="reflect")[:height, number : number + width]
        hq = torch.tensor(pixels).permute(2, 0, 1).contiguous()
        made.append(Work(str(number), f"{number}.png", sha256="0" * 64, hq=hq))
    return made


def made_by(options, pictures, channels=(8, 16)):
    usual = {"t_min": 20, "t_max": 40, "slots": 4, "threads": 1, "num_steps": 3, "precision": "fp32"}
    generator = PairGenerator(**usual | options)
    generator.add_walk(tiny_denoiser(channels))
    generator.prepare(CPU)
    return {pair.key: pair for pair in generator.make([ready(generator, one) for one in pictures])}


def ready(generator, picture):
    """A picture with everything drawn, and HQ as it will be written."""
    return generator.prepared(generator.draw(replace(picture)))


@pytest.mark.parametrize("threads", [1, 2])
def test_neighbours_and_order_change_no_bit_of_a_large_picture(threads):
    options = {"degradation": "real_esrgan", "scale": 2, "tile": 64, "threads": threads}
    pictures = pictures_of([(200, 300), (100, 100), (200, 300), (128, 130), (64, 64)])
    expected = made_by(options, pictures)
    assert [expected[key].record["tile"] for key in "01234"] == [64, None, 64, 64, None]
    for key, pair in made_by(options, pictures[2:1:-1] + pictures[::-3]).items():
        assert torch.equal(pair.lq, expected[key].lq) and pair.record == expected[key].record
    whole = made_by(options | {"tile": None}, pictures)
    assert not torch.equal(whole["0"].lq, expected["0"].lq)
    assert all(torch.equal(whole[key].lq, expected[key].lq) for key in "14")


@pytest.mark.parametrize("scale", [1, 4])
def test_long_pictures_and_pictures_under_the_multiple(scale):
    """Sides of 16 LQ px with a network that wants multiples of 32."""
    sizes = [(16 * scale, 401 * scale), (300 * scale + scale - 1, 17 * scale), (16 * scale, 16 * scale)]
    options = {"degradation": "bicubic", "scale": scale, "tile": 64}
    pairs = made_by(options, pictures_of(sizes), (8, 8, 8, 8, 8, 8))
    for number, (height, width) in enumerate(sizes):
        pair = pairs[str(number)]
        assert tuple(pair.lq.shape) == (3, height // scale, width // scale)
        assert pair.record["tile"] == (None if number == 2 else 64)
        assert pair.record["psnr"] > 8  # the picture, not another place of it


def test_the_picture_stays_in_its_place():
    """With a network that sees no noise, LQ of a large picture is its initial LQ and a little noise."""

    class Silent(nn.Module):
        multiple = 8

        def __init__(self):
            super().__init__()
            self.nothing = nn.Parameter(torch.zeros(()))

        def forward(self, x_t, timestep):
            return x_t * self.nothing

    (picture,) = pictures_of([(420, 1000)])
    generator = PairGenerator("bicubic", t_min=1, t_max=1, slots=4, threads=1, tile=64)
    generator.add_walk(Denoiser(Silent(), Schedule(), t_max=60))
    (pair,) = generator.make([ready(generator, picture)])
    handcrafted = PairGenerator("bicubic", t_max=0, slots=4, threads=1)
    (initial,) = handcrafted.make([ready(handcrafted, picture)])
    gap = (pair.lq.int() - initial.lq.int()).abs()
    assert gap.median() <= 1 and gap.max() <= 8


def test_a_folder_with_large_pictures_resumes_and_is_remade(tmp_path, predict, content):
    (tmp_path / "hq").mkdir()
    for picture in pictures_of([(150, 260), (270, 64), (64, 64)]):
        Image.fromarray(picture.hq.permute(1, 2, 0).numpy()).save(tmp_path / "hq" / picture.source)
    checkpoint = save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")

    def run():
        generator = PairGenerator(
            "real_esrgan", scale=2, t_min=1, t_max=40, slots=4, threads=1, num_steps=2, tile=64, variants=2
        )
        generator.add_walk(tiny_denoiser())
        return predict(generator, tmp_path / "hq", tmp_path / "pairs", checkpoint)

    assert run()["made"] == 6
    whole = content(tmp_path / "pairs")
    lines = {one["key"]: one for one in map(json.loads, (tmp_path / "pairs" / "manifest.jsonl").open())}
    assert {key: line["tile"] for key, line in lines.items()} == {
        key: None if key[0] == "2" else 64 for key in ("0", "0~1", "1", "1~1", "2", "2~1")
    }
    for key in ("0", "1~1", "2~1"):
        assert (
            main(Namespace(pairs=tmp_path / "pairs", key=key, ckpt_path=None, degradation=None, output_dir=None)) == 0
        )
    for name in ("lq/0~1.png", "hq/1.png"):
        (tmp_path / "pairs" / name).unlink()
    assert run()["made"] == 2
    assert content(tmp_path / "pairs") == whole
