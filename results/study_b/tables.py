"""Tables 1 to 3 in kind, from what Study B measured."""

from pathlib import Path

import numpy as np

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.realism import HEADS, load, realism_table

PHOTOGRAPHS = ("web_photos", "bsds500_train")
KINDS = ("handcrafted", "ours")
LQ = ("bicubic", "classical", "bsrgan", "calibrated", "probe", *KINDS)
"""Sets of LQ in the first table."""
TRAININGS = {"handcrafted": ["handcrafted"], "pairs": ["ours"], "mix": ["handcrafted", "ours"]}
"""Kinds of pairs that each restorer learns from."""
SEEDS = {"handcrafted": 3, "pairs": 3, "mix": 1}


def tables(measured: Path) -> str:
    """LQ beside the camera's; the same by what they show; restorers.

    Args:
        measured: Folder of what the study measured, see ``study.py``.
    """
    realism = realism_table(measured / "lq", "the camera's, half against half", LQ)
    return f"{realism}\n\n{content_table(measured)}\n\n{restorer_table(measured)}"


def content_table(measured: Path) -> str:
    """LQ by the photographs that they were made of, to tell how they are degraded from what they show."""
    rows = [["LQ", "made of", *HEADS]]
    for photographs in PHOTOGRAPHS:
        for kind in KINDS:
            rows.append([kind, photographs, *load(measured / "lq" / f"{kind}_{photographs}.json").cells()])
    return markdown(rows)


def restorer_table(measured: Path) -> str:
    """What each restorer makes of held-out pairs, of real pairs of other cameras, and of the blind camera's test."""
    heads = ["trained on", "seed", "held-out pairs: PSNR", *(f"RealSR: {metric.upper()}" for metric in DIGITS)]
    rows = [[*heads, "restored test beside HQ: FID", "fid192", "KID x 1000"]]
    held_out, realsr = (set_metrics(measured / f"{test}_handcrafted_0")["input"] for test in ("held_out", "realsr"))
    scores = [f"{realsr[metric]:.{digits}f}" for metric, digits in DIGITS.items()]
    rows.append(["nothing: enlarged bicubically", "", f"{held_out['psnr']:.2f}", *scores, "", "", ""])
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
    """Seeds of a restorer of which everything is measured."""
    return [seed for seed in range(SEEDS[name]) if (measured / "restored" / f"{name}_{seed}.json").exists()]


def best_seed(measured: Path, name: str) -> int:
    """The seed that restores held-out pairs of both kinds best, by PSNR."""
    return max(measured_seeds(measured, name), key=lambda seed: held_out_psnr(measured, name, seed))


def held_out_psnr(measured: Path, name: str, seed: int) -> float:
    """Mean over the held-out pairs, in dB."""
    return per_picture(measured / f"held_out_{name}_{seed}")["psnr"].mean()


def mean_of_seeds(measured: Path, test: str, name: str) -> dict[str, np.ndarray]:
    """Scores picture by picture, mean of the seeds."""
    found = [per_picture(measured / f"{test}_{name}_{seed}") for seed in measured_seeds(measured, name)]
    return {metric: np.mean([one[metric] for one in found], axis=0) for metric in DIGITS}
