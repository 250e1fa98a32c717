"""A study whose answer is known."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from tiny_ddpm import tiny_denoiser
from torch.nn import functional as F

from ddpm_pairs.data import UnpairedImages
from ddpm_pairs.degradations import Walk
from ddpm_pairs.study import TStudy

PLANTED = 20


def noisy(lq, level, seed):
    """The real degradation at full level: blur and coloured noise."""
    blurred = F.avg_pool2d(F.pad(lq, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    noise = torch.randn(lq.shape, generator=torch.Generator().manual_seed(seed))
    return (lq.lerp(blurred, level) + 12 * level * noise).clamp(0, 255).round()


class Planted(Walk):
    """Walks to the real degradation at t = 20, half the way at 10, and too far beyond."""

    def start_lq(self, hq, parameters):
        return F.avg_pool2d(hq, self.scale)

    def denoise(self, initial, parameters):
        rows = [
            noisy(lq[None] * 255, one["t"] / PLANTED, 1000 + one["t"] + one["noise_seed"])
            for lq, one in zip(initial, parameters, strict=True)
        ]
        return torch.cat(rows) / 255


def tiles(side, count):
    """Different crops of photographs, (side, side, 3) uint8."""
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = photos[number % 4]
        top, left = (rng.integers(0, edge - side) for edge in photo.shape[:2])
        yield photo[top : top + side, left : left + side]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("hq", "lq"):
        (tmp_path / name).mkdir()
    for number, crop in enumerate(tiles(128, 24)):
        Image.fromarray(crop).save(tmp_path / "hq" / f"{number}.png")
        lq = F.avg_pool2d(torch.from_numpy(crop).permute(2, 0, 1)[None].float(), 4)
        real = noisy(lq, 1.0, number)[0].to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(real).save(tmp_path / "lq" / f"{number}.png")
    made = TStudy(["bicubic"], [10, PLANTED, 40], pictures=24, patch=32, psnr_drop=None, features="random", threads=1)
    monkeypatch.setattr("ddpm_pairs.study.module.Walk", Planted)
    data = UnpairedImages(str(tmp_path / "hq"), str(tmp_path / "lq"), num_workers=0)
    data.find()
    made.prepare(tiny_denoiser(), "0" * 64, data, tmp_path / "study", torch.device("cpu"))
    made.folder.begin(made.settings)
    for batch in data.test_dataloader():
        made.test_step(batch, 0)
    return made


@pytest.mark.slow
def test_the_planted_t_is_recommended(study, capsys):
    chosen = study.report("last.ckpt")
    assert (chosen.degradation, chosen.t) == ("bicubic", PLANTED)
    assert "--model.t_min 20 --model.t_max 20" in chosen.command
    printed = capsys.readouterr().out
    assert "recommended: use bicubic with t = 20" in printed
    for name in ("ablation.csv", "ablation.png", "grid.png", "recommendation.json", "report.html"):
        assert (study.folder.root / name).stat().st_size > 0
    with Image.open(study.folder.root / "grid.png") as grid:
        assert grid.width > 4 * 192
    lines = (study.folder.root / "ablation.csv").read_text().splitlines()
    assert lines[0].startswith("degradation,t,logsnr,fid,fid192,kid,")
    assert [line.split(",")[:2] for line in lines[1:]] == [["bicubic", str(t)] for t in (0, 10, 20, 40)]
