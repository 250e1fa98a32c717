"""Is memory constant while predict makes many pairs?

Runs predict on many small images with a tiny network. While it runs, the resident memory of its process and of its
loader processes is read from ``/proc``, with the number of pairs on disk. So is their total, with shared memory counted
once (the sum of proportional set sizes).

    python results/scale/memory.py --work /tmp/memory --pictures 20000

Prints a table, and writes ``memory.csv`` and ``memory.png`` to the folder. Linux only. The list of images takes its
memory before the first pair; what counts is the slope after that, in the last lines.
"""

import argparse
import csv
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from small_runs import ended, predict_words, prepared, start, wait, write_pictures

from ddpm_pairs.pairset.folder import PARTS

ROWS = 20
"""Rows of the table; the file and the curve contain all readings."""

TOGETHER = "together"

Reading = dict[str, float]
"""Seconds, pairs on disk, and MiB per process, by name."""


def main() -> None:
    """Read the command line, run, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs")
    parser.add_argument("--pictures", type=int, default=20_000, help="number of HQ images")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between readings")
    arguments = parser.parse_args()
    work = arguments.work
    log = prepared(work, lambda: write_pictures(work / "hq", arguments.pictures))

    processes = start(predict_words(work, work / "pairs", arguments.workers), 1, log)
    readings = watch(work / "pairs", processes, arguments.every)
    wait(processes, log)
    if not readings:
        raise SystemExit("the run ended before the first reading; use more --pictures, or a shorter --every")
    names = sorted({name for reading in readings for name in reading} - {"seconds", "pairs"})
    with (work / "memory.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["seconds", "pairs", *names])
        writer.writeheader()
        writer.writerows(readings)
    draw(work / "memory.png", readings, names)
    print(table(readings, names))


def watch(out: Path, processes: list[int], every: float) -> list[Reading]:
    """Read the memory from the first pair until the run ends."""
    readings, begin, pairs, position = [], time.monotonic(), 0, 0
    while not ended(processes):
        for part in out.glob(PARTS):
            with part.open("rb") as file:
                file.seek(position)
                new = file.read()
            pairs, position = pairs + new.count(b"\n"), position + len(new)
        if pairs:
            resident = {"predict": processes[0]}
            resident |= {f"loader {n}": child for n, child in enumerate(children_of(processes[0]), 1)}
            sizes = {name: size for name, process in resident.items() if (size := mebibytes(process))}
            reading = {name: size["Rss"] for name, size in sizes.items()}
            reading[TOGETHER] = round(sum(size["Pss"] for size in sizes.values()), 1)
            if "predict" in reading:
                readings.append({"seconds": round(time.monotonic() - begin, 1), "pairs": pairs} | reading)
        time.sleep(every)
    return readings


def children_of(process: int) -> list[int]:
    """Return the child processes, oldest first."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return sorted(map(int, children))


def mebibytes(process: int) -> dict[str, float]:
    """Return the resident memory ``Rss`` and the proportional share ``Pss``; empty if the process has just ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    sizes = (line.split() for line in lines if line.startswith(("Rss:", "Pss:")))
    return {name.rstrip(":"): round(int(kibibytes) / 1024, 1) for name, kibibytes, *_ in sizes}


def table(readings: list[Reading], names: list[str]) -> str:
    """Return the table of evenly spaced readings, and the slopes over the second half of the pairs."""
    lines = ["| pairs | seconds | " + " | ".join(f"{name}, MiB" for name in names) + " |"]
    lines.append("| --- " * (len(names) + 2) + "|")
    for place in np.linspace(0, len(readings) - 1, min(ROWS, len(readings))).round().astype(int):
        reading = readings[place]
        cells = [f"{reading['pairs']}", f"{reading['seconds']:.0f}"]
        lines.append("| " + " | ".join(cells + [f"{reading[n]:.0f}" if n in reading else "" for n in names]) + " |")
    most = readings[-1]["pairs"]
    for name in names:
        late = [(one["pairs"], one[name]) for one in readings if name in one and most / 2 <= one["pairs"] < most]
        if len({pairs for pairs, _ in late}) > 1:
            slope = np.polyfit(*np.transpose(late), 1)[0]
            lines.append(f"\n{name}: {1000 * slope:+.2f} MiB per thousand pairs over the second half")
    return "\n".join(lines)


def draw(path: Path, readings: list[Reading], names: list[str]) -> None:
    """Plot memory over pairs, one line per process."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in names:
        points = [(one["pairs"], one[name]) for one in readings if name in one]
        axes.plot(*np.transpose(points), label=name)
    axes.set(xlabel="pairs on disk", ylabel="resident memory, MiB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
