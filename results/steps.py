"""Steps of a study: each is done once, one that was interrupted goes on, and the same line goes on after anything."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ddpm_pairs.files import write_atomically


class Steps:
    """Named steps in order.

    Args:
        work: Folder for everything that is made. What is done is noted in ``work/done``.
        threads: CPU threads of a command.
    """

    def __init__(self, work: Path, threads: int) -> None:
        self.work, self.threads = work, threads
        self.steps: dict[str, Callable[[], None]] = {}

    def command(self, name: str, words: str) -> None:
        """Add a command of the program, done once.

        Args:
            name: Of the step.
            words: What follows ``ddpm-pairs``; ``{work}`` stands for the folder.
        """

        def run() -> None:
            filled = words.format(work=self.work)
            print(f"ddpm-pairs {filled}", flush=True)
            environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            subprocess.run([sys.executable, "-m", "ddpm_pairs", *shlex.split(filled)], check=True, env=environment)

        self.once(name, run)

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Add a function that is called once."""
        done = self.work / "done" / name

        def step() -> None:
            if not done.exists():
                work()
                done.parent.mkdir(parents=True, exist_ok=True)
                done.touch()

        self.steps[name] = step

    def always(self, name: str, work: Callable[[], None]) -> None:
        """Add a function that is called each time, such as one that prints a table."""
        self.steps[name] = work

    def run(self, only: list[str] | None) -> None:
        """Run the steps of these names in this order, or all in order.

        Raises:
            SystemExit: for a name that no step has.
        """
        for name in only or list(self.steps):
            if name not in self.steps:
                raise SystemExit(f"no step {name!r}: expected some of {', '.join(self.steps)}")
            self.steps[name]()


def keep_measured(measured: Path, folder: Path) -> None:
    """Copy what was measured, JSON and CSV files, into a folder from which tables are printed without pictures."""
    for path in measured.rglob("*"):
        if path.suffix in (".json", ".csv"):
            write_atomically(folder / path.relative_to(measured), path.read_bytes())


def study_parser(description: str, iterations: int) -> argparse.ArgumentParser:
    """A parser with what all studies take: ``--work``, ``--only``, ``--iterations`` of a restorer and ``--threads``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--only", nargs="+", help="names of steps")
    parser.add_argument("--iterations", type=int, default=iterations, help="of each restorer")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser
