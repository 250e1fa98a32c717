"""README stays short, and its first table says what was measured."""

import json
import re

import numpy as np
from doc_pages import ROOT

README = (ROOT / "README.md").read_text("utf-8")
MEASURED = ROOT / "results" / "study_b" / "measured"
ROWS = {"Real-ESRGAN": "handcrafted", "half Real": "mix", "calibrated": "pairs", "as shipped": "shipped"}
"""Of the rows of the table: the restorer."""


def cells(start):
    """The cells of the row whose first one begins with some words, without emphasis."""
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in README.splitlines() if line[:1] == "|"]
    (found,) = [row for row in rows if row[0].startswith(start)]
    return found


def lq_cells(name):
    """FID, fid192, KID and chroma noise as they are printed."""
    (page_row,) = re.findall(rf"^\| {name} \|(.*)$", (ROOT / "results/study_b/README.md").read_text(), re.MULTILINE)[:1]
    _, fid, fid192, kid, chroma = (cell.strip(" *") for cell in page_row.split("|")[:5])
    return [fid, fid192, kid, chroma]


def restorer_cells(name):
    """Number of seeds, and their mean PSNR, SSIM and LPIPS on RealSR, from the measured files."""
    found = [json.loads(path.read_text()) for path in sorted(MEASURED.glob(f"realsr_{name}_*/metrics.json"))]
    means = [np.mean([one[metric] for one in found]) for metric in ("psnr", "ssim", "lpips")]
    return [str(len(found)), f"{means[0]:.2f}", f"{means[1]:.3f}", f"{means[2]:.3f}"]


def test_length():
    assert len(README.splitlines()) <= 150


def test_restorers_are_those_measured():
    for row, restorer in ROWS.items():
        assert cells(row)[5:] == restorer_cells(restorer)
    enlarged = json.loads((MEASURED / "realsr_handcrafted_0" / "metrics.json").read_text())["input"]
    assert cells("none")[6:] == [f"{enlarged['psnr']:.2f}", f"{enlarged['ssim']:.3f}", f"{enlarged['lpips']:.3f}"]


def test_lq_are_those_of_the_study():
    shown = {
        "Real-ESRGAN": r"`real_esrgan` \(JPEG of files\): the handcrafted pairs",
        "the same": "`real_esrgan` with the JPEG of the released code, equal draws",
        "calibrated": r"\*\*ours\*\*: calibrated, after the walk",
        "as shipped": "`bicubic`, after the walk",
        "the camera": "the camera's, half against half",
    }
    for row, name in shown.items():
        assert cells(row)[1:5] == lq_cells(name)


def test_gaps_closed_are_those_of_the_table():
    rows = ("Real-ESRGAN", "calibrated", "the camera")
    start, ours, floor = ([float(cell) for cell in cells(row)[1:4]] for row in rows)
    closed = [round(100 * (a - b) / (a - c)) for a, b, c in zip(start, ours, floor, strict=True)]
    assert f"({closed[1]}%; FID {closed[0]}%, KID {closed[2]}%)" in README
