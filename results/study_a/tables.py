"""Counterparts of the paper's Table 1 and its table of restorers, from the measurements of Study A."""

from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.realism import load, realism_table
from results.t_studies import t_table

PRESETS = ("natural", "faces")
"""Presets of the degradations in the t study."""
KINDS = ("handcrafted", "ours")
"""Kinds of pairs on which a GPEN is trained."""
LQ = ("probe", *KINDS)
REAL = "LFW's, half against half"
"""Label of the floor in tables."""


def tables(measured: Path) -> str:
    """Return the tables: realism over t; the pairs on which GPEN is trained; the restorers.

    Args:
        measured: Folder of the study's measurements, see ``study.py``.
    """
    studies = [t_table(measured / f"t_study_{preset}", f"start of preset {preset}", REAL) for preset in PRESETS]
    return "\n\n".join([*studies, realism_table(measured / "lq", REAL, LQ), restorer_table(measured)])


def restorer_table(measured: Path) -> str:
    """Return the four scores of both restorers on both tests, and restored LFW faces compared with HQ faces."""
    heads = ["trained on", "test", *(metric.upper() for metric in DIGITS), "FID"]
    rows = [[*heads, "restored LFW vs. HQ: FID", "fid192", "KID x 1000"]]
    unrestored = load(measured / "restored" / "nothing.json")
    for test in KINDS:
        lq = set_metrics(measured / f"test_handcrafted_on_{test}")["input"]
        scores = [f"{lq[metric]:.{digits}f}" for metric, digits in DIGITS.items()]
        rows.append(["nothing: unrestored LQ", test, *scores, "", *unrestored.cells()[:3]])
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
