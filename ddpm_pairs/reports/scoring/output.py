"""Write scores to a folder and print them."""

import json
from pathlib import Path

from ddpm_pairs.files import write_atomically, write_table
from ddpm_pairs.plain_text import print_plain
from ddpm_pairs.reports.scoring.report import score_report
from ddpm_pairs.reports.scoring.scores import SCORES, Scores

FAILURES_SHOWN = 10


def write_scores(root: Path, scores: Scores) -> None:
    """Write ``metrics.json``, ``metrics.csv``, ``report.html`` and, for paired scores, ``pictures.csv``."""
    document = scores.values | {
        "n": scores.n,
        "intervals": scores.intervals,
        "floor": scores.floor,
        "input": scores.inputs,
        "notes": scores.notes,
        "settings": scores.settings,
        "failures": [vars(failure) for failure in scores.failures],
    }
    write_atomically(root / "metrics.json", (json.dumps(document, indent=2) + "\n").encode())
    values = ["" if scores.values[name] is None else scores.values[name] for name in SCORES]
    write_table(root / "metrics.csv", [[*SCORES, "n"], [*values, scores.n]])
    write_atomically(root / "report.html", score_report(scores).encode())
    if scores.pictures:
        names = list(next(iter(scores.pictures.values())))
        rows = [[key, *(found[name] for name in names)] for key, found in scores.pictures.items()]
        write_table(root / "pictures.csv", [["key", *names], *rows])


def print_scores(scores: Scores, root: Path) -> None:
    """Print the scores as a table, with intervals, floor, notes and the first failures."""
    for name in SCORES:
        value = scores.values[name]
        if value is None:
            if name in scores.notes:
                print_plain(f"{name:<8}{'-':>10}   {scores.notes[name]}")
            continue
        words = []
        if interval := scores.intervals.get(name):
            words.append(f"95% {interval[0]:.4g} to {interval[1]:.4g}")
        if scores.floor and name in scores.floor:
            words.append(f"reference vs. itself {scores.floor[name]:.4g}")
        if scores.inputs and name in scores.inputs:
            words.append(f"enlarged LQ {scores.inputs[name]:.4g}")
        if name in scores.notes:
            words.append(scores.notes[name])
        print_plain(f"{name:<8}{value:>10.4f}   {'; '.join(words)}".rstrip())
    print_plain(f"{'n':<8}{scores.n:>10}")
    if scores.failures:
        print_plain(f"skipped: {len(scores.failures)}")
        for failure in scores.failures[:FAILURES_SHOWN]:
            print_plain(f"  {failure.source}: {failure.reason}")
    print_plain(f"written to {root}")
