"""Is anything lost or made twice when predict is killed, and does the folder come out the same?

Runs of predict on small pictures are killed by SIGKILL, loader processes and all, at moments spread evenly between the
first published pair and the end. What lies in the folder is inspected, every file hashed; then the same command goes on
to the end, and the folder is compared, byte by byte, with that of a run that nothing broke.

    python results/scale/kills.py --work /tmp/kills

Odd runs have two ranks, even ones have one; of two ranks one dies first. Every other time the rerun has another number
of ranks than the run that was killed. It takes some minutes; ``--kills 4 --pictures 40`` is a quick trial.
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
    "run", "ranks", "killed after s", "pairs there", "of them whole", "files and lines left over", "ranks of the rerun",
    "lost", "made twice", "folder",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What became of one killed run.

    Attributes:
        cells: Its row of the table.
        well: Whether nothing was lost or made twice and the folder is the same in the end.
    """

    cells: list[str]
    well: bool


def main() -> None:
    """Read the command line, kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--kills", type=int, default=30, help="number of runs that are killed")
    parser.add_argument("--pictures", type=int, default=300, help="HQ pictures of each run")
    arguments = parser.parse_args()
    work = arguments.work
    log = prepared(work, lambda: prepare(work, arguments.pictures))

    seconds = {ranks: unbroken(work, ranks, log) for ranks in (1, 2)}
    whole = content(work / "unbroken_1")
    if content(work / "unbroken_2") != whole:
        raise SystemExit("two ranks and one rank leave different folders")
    print(f"Unbroken: {arguments.pictures} pairs; from the first to the end {seconds[1]:.2f} s with one rank, ", end="")
    print(f"{seconds[2]:.2f} s with two; both folders are the same.\n")
    print("| " + " | ".join(HEADINGS) + " |\n" + "| --- " * len(HEADINGS) + "|")
    well = 0
    for number in range(arguments.kills):
        ranks = 1 + number % 2
        found = one_kill(work, number, ranks, seconds[ranks] * (number + 0.5) / arguments.kills, whole, log)
        print("| " + " | ".join(found.cells) + " |", flush=True)
        well += found.well
    print(f"\n{well} of {arguments.kills} runs: nothing lost, nothing made twice, the same folder to the last byte.")
    if well < arguments.kills:
        raise SystemExit(1)


def prepare(work: Path, pictures: int) -> None:
    """The pictures, one that cannot be read among them."""
    write_pictures(work / "hq", pictures, side=192, bitmaps=True)
    (work / "hq" / "broken.png").write_text("no picture")


def unbroken(work: Path, ranks: int, log: Path) -> float:
    """A run to its end; seconds from its first published pair on."""
    out = work / f"unbroken_{ranks}"
    processes = start(predict_words(work, out), ranks, log)
    begin = first_pair(out, processes)
    wait(processes, log)
    return time.monotonic() - begin


def one_kill(work: Path, number: int, ranks: int, after: float, whole: dict[str, bytes], log: Path) -> Found:
    """Kill a run some seconds after its first pair, look at the folder, go on, and compare."""
    out = work / "killed"
    while True:
        processes = start(predict_words(work, out), ranks, log)
        begin = first_pair(out, processes)
        while time.monotonic() < begin + after and not ended(processes):
            time.sleep(0.001)
        if not ended(processes):
            break
        wait(processes, log)  # it was quicker than the unbroken one
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
        SystemExit: if the run ends without one.
    """
    while not any(path.stat().st_size for path in out.glob(PARTS)):
        if ended(processes):
            raise SystemExit(f"a run ended before its first pair, see {out.parent / 'log.txt'}")
        time.sleep(0.001)
    return time.monotonic()


def made_when(out: Path, key: str) -> tuple[int, int]:
    """When the files of a pair were written, in ns."""
    return tuple((out / kind / f"{key}.png").stat().st_mtime_ns for kind in ("hq", "lq"))


def content(root: Path) -> dict[str, bytes]:
    """All files below a folder, without those that may differ between equal runs."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in MAY_DIFFER}


if __name__ == "__main__":
    main()
