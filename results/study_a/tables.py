"""Table 1 and the restorers' table in kind, from what Study A measured."""

import csv
import json
from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.realism import HEADS, load, realism_table

PRESETS = ("natural", "faces")
"""Of the degradations in the t study."""
KINDS = ("handcrafted", "ours")
"""Kinds of pairs that a GPEN learns from."""
LQ = ("probe", *KINDS)


def tables(measured: Path) -> str:
    """Realism over t; the pairs that GPEN learns from; the restorers.

    Args:
        measured: Folder of what the study measured, see ``study.py``.
    """
    realism = realism_table(measured / "lq", "LFW's, half against half", LQ)
    return "\n\n".join([*(t_table(measured, preset) for preset in PRESETS), realism, restorer_table(measured)])


def t_table(measured: Path, preset: str) -> str:
    """The t study with one preset, and what it recommends."""
    with (measured / f"t_study_{preset}" / "ablation.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    floor = [f"{float(cells[0][f'floor_{name}']) * factor:.{digits}f}" for name, factor, digits in SCORES]
    rows = [[f"start of preset {preset}", "t", *HEADS[:3], "chroma noise", "finest octave, dB", "median PSNR"]]
    rows.append(["LFW, half against half", "", *floor, f"{float(cells[0]['real_chroma_noise']):.2f}", "", ""])
    for cell in cells:
        scores = [f"{float(cell[name]) * factor:.{digits}f}" for name, factor, digits in SCORES]
        texture = [f"{float(cell['chroma_noise']):.2f}", f"{float(cell['power_1/4-1/2']):+.1f}"]
        rows.append([cell["degradation"], cell["t"], *scores, *texture, f"{float(cell['psnr_median']):.1f}"])
    words = json.loads((measured / f"t_study_{preset}" / "recommended.json").read_text(encoding="utf-8"))
    return f"{markdown(rows)}\n\nRecommended: {words}"


SCORES = (("fid", 1, 1), ("fid192", 1, 2), ("kid", 1000, 1))
"""Columns of the t study, what they are multiplied by, and the decimals shown."""


def restorer_table(measured: Path) -> str:
    """All four scores of both restorers on both tests, and how near restored LFW faces come to HQ faces."""
    heads = ["trained on", "test", *(metric.upper() for metric in DIGITS), "FID"]
    rows = [[*heads, "restored LFW beside HQ: FID", "fid192", "KID x 1000"]]
    unrestored = load(measured / "restored" / "nothing.json")
    for test in KINDS:
        lq = set_metrics(measured / f"test_handcrafted_on_{test}")["input"]
        scores = [f"{lq[metric]:.{digits}f}" for metric, digits in DIGITS.items()]
        rows.append(["nothing: LQ as it is", test, *scores, "", *unrestored.cells()[:3]])
    for kind in KINDS:
        restored = load(measured / "restored" / f"{kind}.json")
        for test in KINDS:
            scores, base = (per_picture(measured / f"test_{one}_on_{test}") for one in (kind, "handcrafted"))
            row = [f"{scores[metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
            if kind != "handcrafted":
                gains = [gain_in_words(scores[one] - base[one], digits) for one, digits in DIGITS.items()]
                row = [f"{score}, {gain}" for score, gain in zip(row, gains, strict=True)]
            fid = set_metrics(measured / f"test_{kind}_on_{test}")["fid"]
            rows.append([kind, test, *row, f"{fid:.1f}", *restored.cells()[:3]])
    return markdown(rows)
