"""Counterparts of the paper's Tables 1 to 3, from the measurements of Study B."""

from pathlib import Path

import numpy as np

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.realism import HEADS, load, realism_table

PHOTOGRAPHS = ("web_photos", "bsds500_train")
COMPARED = ("handcrafted", "released", "ours")
"""Sets of LQ that are compared by source of HQ too; the second has the JPEG of Real-ESRGAN's released code."""
LQ = ("bicubic", "classical", "bsrgan", "calibrated", "probe", *COMPARED)
"""Sets of LQ in the first table."""
TRAININGS = {"handcrafted": ["handcrafted"], "pairs": ["ours"], "mix": ["handcrafted", "ours"], "shipped": ["shipped"]}
"""Kinds of pairs on which each restorer is trained."""
SEEDS = {"handcrafted": 3, "pairs": 3, "mix": 1, "shipped": 1}


def tables(measured: Path) -> str:
    """Return the tables: LQ compared with the camera's; the same by source of HQ; restorers.

    Args:
        measured: Folder of the study's measurements, see ``study.py``.
    """
    realism = realism_table(measured / "lq", "the camera's, half against half", LQ)
    return f"{realism}\n\n{content_table(measured)}\n\n{restorer_table(measured)}"


def content_table(measured: Path) -> str:
    """Return the table of LQ by source of HQ, which separates degradation from content."""
    rows = [["LQ", "made from", *HEADS]]
    for photographs in PHOTOGRAPHS:
        for kind in COMPARED:
            rows.append([kind, photographs, *load(measured / "lq" / f"{kind}_{photographs}.json").cells()])
    return markdown(rows)


def restorer_table(measured: Path) -> str:
    """Return the scores of restorers on held-out pairs, real pairs of other cameras, and the blind camera's test."""
    heads = ["trained on", "seed", "held-out pairs: PSNR", *(f"RealSR: {metric.upper()}" for metric in DIGITS)]
    rows = [[*heads, "restored test vs. HQ: FID", "fid192", "KID x 1000"]]
    held_out, realsr = (set_metrics(measured / f"{test}_handcrafted_0")["input"] for test in ("held_out", "realsr"))
    scores = [f"{realsr[metric]:.{digits}f}" for metric, digits in DIGITS.items()]
    rows.append(["nothing: bicubic upscaling", "", f"{held_out['psnr']:.2f}", *scores, "", "", ""])
    base = mean_of_seeds(measured, "realsr", "handcrafted")
    for name in TRAININGS:
        for seed in measured_seeds(measured, name):
            pictures = per_picture(measured / f"realsr_{name}_{seed}")
            scores = [f"{pictures[metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
            restored = load(measured / "restored" / f"{name}_{seed}.json").cells()[:3]
            rows.append([name, str(seed), f"{held_out_psnr(measured, name, seed):.2f}", *scores, *restored])
        if name != "handcrafted":
            mean = mean_of_seeds(measured, "realsr", name)
            gains = [gain_in_words(mean[metric] - base[metric], digits) for metric, digits in DIGITS.items()]
            rows.append([name, "gain over handcrafted", "", *gains, "", "", ""])
    return markdown(rows)


def measured_seeds(measured: Path, name: str) -> list[int]:
    """Return the seeds of a restorer that are completely measured."""
    return [seed for seed in range(SEEDS[name]) if (measured / "restored" / f"{name}_{seed}.json").exists()]


def best_seed(measured: Path, name: str) -> int:
    """Return the seed that restores held-out pairs of both kinds best, by PSNR."""
    return max(measured_seeds(measured, name), key=lambda seed: held_out_psnr(measured, name, seed))


def held_out_psnr(measured: Path, name: str, seed: int) -> float:
    """Return the mean PSNR over the held-out pairs, in dB."""
    return per_picture(measured / f"held_out_{name}_{seed}")["psnr"].mean()


def mean_of_seeds(measured: Path, test: str, name: str) -> dict[str, np.ndarray]:
    """Return the per-image scores, averaged over the seeds."""
    found = [per_picture(measured / f"{test}_{name}_{seed}") for seed in measured_seeds(measured, name)]
    return {metric: np.mean([one[metric] for one in found], axis=0) for metric in DIGITS}
