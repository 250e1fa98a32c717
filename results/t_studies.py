"""Copy the results of the program's t study to a study's measurements, and print them as a table."""

import csv
import json
from pathlib import Path

from ddpm_pairs.files import write_atomically
from results.known_world.gains import markdown
from results.realism import HEADS

SCORES = (("fid", 1, 1), ("fid192", 1, 2), ("kid", 1000, 1))
"""Columns of the t study, their factors, and their numbers of decimals."""


def keep_t_study(study: Path, folder: Path) -> None:
    """Copy the scores of a t study and the text of its recommendation."""
    write_atomically(folder / "ablation.csv", (study / "ablation.csv").read_bytes())
    words = json.loads((study / "recommendation.json").read_text(encoding="utf-8"))["words"]
    write_atomically(folder / "recommended.json", json.dumps(words).encode())


def t_table(folder: Path, start: str, real: str) -> str:
    """Return the table of a t study and its recommendation.

    Args:
        folder: Folder to which ``keep_t_study`` copied.
        start: Header of the column of handcrafted starts.
        real: Label of the floor's row.
    """
    with (folder / "ablation.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    floor = [f"{float(cells[0][f'floor_{name}']) * factor:.{digits}f}" for name, factor, digits in SCORES]
    rows = [[start, "t", *HEADS[:3], "chroma noise", "finest octave, dB", "median PSNR"]]
    rows.append([real, "", *floor, f"{float(cells[0]['real_chroma_noise']):.2f}", "", ""])
    for cell in cells:
        scores = [f"{float(cell[name]) * factor:.{digits}f}" for name, factor, digits in SCORES]
        texture = [f"{float(cell['chroma_noise']):.2f}", f"{float(cell['power_1/4-1/2']):+.1f}"]
        rows.append([cell["degradation"], cell["t"], *scores, *texture, f"{float(cell['psnr_median']):.1f}"])
    words = json.loads((folder / "recommended.json").read_text(encoding="utf-8"))
    return f"{markdown(rows)}\n\nRecommended: {words}"
