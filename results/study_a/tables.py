"""Table 1 and the restorers' table in kind, from what Study A measured."""

from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.realism import load, realism_table
from results.t_studies import t_table

PRESETS = ("natural", "faces")
"""Of the degradations in the t study."""
KINDS = ("handcrafted", "ours")
"""Kinds of pairs that a GPEN learns from."""
LQ = ("probe", *KINDS)
REAL = "LFW's, half against half"
"""What tables call the floor."""


def tables(measured: Path) -> str:
    """Realism over t; the pairs that GPEN learns from; the restorers.

    Args:
        measured: Folder of what the study measured, see ``study.py``.
    """
    studies = [t_table(measured / f"t_study_{preset}", f"start of preset {preset}", REAL) for preset in PRESETS]
    return "\n\n".join([*studies, realism_table(measured / "lq", REAL, LQ), restorer_table(measured)])


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
