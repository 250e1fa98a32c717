"""Is anything lost or made twice if predict is killed, and is the folder identical in the end?

Runs of predict on small images, including their loader processes, are killed with SIGKILL at times spaced evenly
between the first published pair and the end. The folder is inspected and every file hashed. Then the same command is
rerun to the end, and the folder is compared, byte by byte, with that of an uninterrupted run.

    python results/scale/kills.py --work /tmp/kills

Runs alternate between one and two ranks; of two ranks, one is killed first. Half of the reruns have a different number
of ranks from the killed run. The script takes some minutes; ``--kills 4 --pictures 40`` is a quick trial.
"""

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from small_runs import ended, kill, predict_words, prepared, start, wait, write_pictures

from ddpm_pairs.pairset.folder import PARTS, PairsFolder
from ddpm_pairs.pairset.inspect import inspect_folder

MAY_DIFFER = {"run.yaml", "contact_sheet.png"}
LEFT_OVER = {"orphan", "leftover", "broken"}
HEADINGS = (
    "run", "ranks", "killed after s", "pairs", "intact", "orphaned files and lines", "ranks of the rerun",
    "lost", "made twice", "folder",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Result of one killed run.

    Attributes:
        cells: Its row of the table.
        well: Whether nothing was lost or made twice and the final folder is the same.
    """

    cells: list[str]
    well: bool


def main() -> None:
    """Read the command line, kill runs, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs")
    parser.add_argument("--kills", type=int, default=30, help="number of runs to kill")
    parser.add_argument("--pictures", type=int, default=300, help="number of HQ images per run")
    arguments = parser.parse_args()
    work = arguments.work
    log = prepared(work, lambda: prepare(work, arguments.pictures))

    seconds = {ranks: unbroken(work, ranks, log) for ranks in (1, 2)}
    whole = content(work / "unbroken_1")
    if content(work / "unbroken_2") != whole:
        raise SystemExit("one rank and two ranks gave different folders")
    print(f"Uninterrupted: {arguments.pictures} pairs; from first to last {seconds[1]:.2f} s with one rank, ", end="")
    print(f"{seconds[2]:.2f} s with two; the two folders are the same.\n")
    print("| " + " | ".join(HEADINGS) + " |\n" + "| --- " * len(HEADINGS) + "|")
    well = 0
    for number in range(arguments.kills):
        ranks = 1 + number % 2
        found = one_kill(work, number, ranks, seconds[ranks] * (number + 0.5) / arguments.kills, whole, log)
        print("| " + " | ".join(found.cells) + " |", flush=True)
        well += found.well
    print(f"\n{well} of {arguments.kills} runs: nothing lost, nothing made twice, and the folder is byte-identical.")
    if well < arguments.kills:
        raise SystemExit(1)


def prepare(work: Path, pictures: int) -> None:
    """Write the images, including one that cannot be read."""
    write_pictures(work / "hq", pictures, side=192, bitmaps=True)
    (work / "hq" / "broken.png").write_text("no picture")


def unbroken(work: Path, ranks: int, log: Path) -> float:
    """Let a run finish; return the seconds from its first published pair to its end."""
    out = work / f"unbroken_{ranks}"
    processes = start(predict_words(work, out), ranks, log)
    begin = first_pair(out, processes)
    wait(processes, log)
    return time.monotonic() - begin


def one_kill(work: Path, number: int, ranks: int, after: float, whole: dict[str, bytes], log: Path) -> Found:
    """Kill a run some seconds after its first pair, inspect the folder, rerun, and compare."""
    out = work / "killed"
    while True:
        processes = start(predict_words(work, out), ranks, log)
        begin = first_pair(out, processes)
        while time.monotonic() < begin + after and not ended(processes):
            time.sleep(0.001)
        if not ended(processes):
            break
        wait(processes, log)  # it was faster than the uninterrupted run
        shutil.rmtree(out)
        after *= 0.9
    kill(processes, first=None if ranks == 1 else number // 2 % 2)

    found = inspect_folder(out)
    there = PairsFolder(out).keys()
    made = {key: made_when(out, key) for key in there}
    left = sum(damage.kind in LEFT_OVER for damage in found.damages)
    rerun = 1 + (ranks + number // 2) % 2
    wait(start(predict_words(work, out), rerun, log), log)
    lost = found.pairs - found.whole + len(there - PairsFolder(out).keys())
    again = sum(made_when(out, key) != when for key, when in made.items())
    same = content(out) == whole
    shutil.rmtree(out)
    cells = [number + 1, ranks, f"{after:.2f}", found.pairs, found.whole, left, rerun, lost, again]
    return Found([*map(str, cells), "same" if same else "OTHER"], same and not lost and not again)


def first_pair(out: Path, processes: list[int]) -> float:
    """Wait for the first line of a manifest.

    Raises:
        SystemExit: If the run ends without one.
    """
    while not any(path.stat().st_size for path in out.glob(PARTS)):
        if ended(processes):
            raise SystemExit(f"a run ended before its first pair; see {out.parent / 'log.txt'}")
        time.sleep(0.001)
    return time.monotonic()


def made_when(out: Path, key: str) -> tuple[int, int]:
    """Return when the files of a pair were written, in ns."""
    return tuple((out / kind / f"{key}.png").stat().st_mtime_ns for kind in ("hq", "lq"))


def content(root: Path) -> dict[str, bytes]:
    """Read all files below a folder, except those that may differ between equal runs."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in MAY_DIFFER}


if __name__ == "__main__":
    main()
