"""A small t study of made-up numbers and of noise for pictures."""

import torch

from ddpm_pairs.metrics.set_scores import SetScores
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.folder import PictureResult
from ddpm_pairs.study.recommendation import recommend
from ddpm_pairs.study.report import study_report
from ddpm_pairs.study.sets import RealSet

STARTS, TS = ["mild", "rough"], [0, 50, 100]


def pictures(count, name="picture {}"):
    """Pictures of HQ 32 px and LQ 8 px."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    return [
        PictureResult(
            name.format(number),
            noise(3, 32, 32),
            noise(2, 3, 3, 8, 8),
            torch.tensor([[30.0, 28.5, float("inf")], [20.0, 19.0, 18.0]], dtype=torch.float64) + number,
            {},
        )
        for number in range(count)
    ]


def cells():
    """Two starts at three t; ``rough`` at t = 50 is the choice."""
    rows = [("mild", 0, 6.0, 25.0), ("mild", 50, 3.0, 24.0), ("mild", 100, 2.0, 22.0)]
    rows += [("rough", 0, 5.0, 21.0), ("rough", 50, 1.25, 20.5), ("rough", 100, 4.0, 15.0)]
    scores = [SetScores(10 * fid192, fid192, fid192 / 100, (0.0, 0.1)) for *_, fid192, _ in rows]
    return [
        Cell(start, t, None, found, 1.5, (0.5, -2.25), psnr, psnr - 1, 30)
        for (start, t, _, psnr), found in zip(rows, scores, strict=True)
    ]


def report(results, command="lightning predict --model.degradation {} --model.t_max {}", notes=()):
    """The study's page."""
    real = RealSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), {}, SetScores(7.5, 0.75, 0.0075, (0.0, 0.0)))
    chosen = recommend(cells(), 2.0, None, real.floor.kid, command.format)
    settings = {"degradations": STARTS, "ts": TS, "patch": 8, "precision": None}
    return study_report(cells(), real, chosen, results, settings, notes)
