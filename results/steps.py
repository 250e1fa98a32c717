"""Steps of a study: each runs once, and rerunning the same command resumes after any interruption."""

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
        work: Folder of all outputs. Finished steps are recorded in ``work/done``.
        threads: CPU threads per command.
    """

    def __init__(self, work: Path, threads: int) -> None:
        self.work, self.threads = work, threads
        self.steps: dict[str, Callable[[], None]] = {}

    def command(self, name: str, words: str) -> None:
        """Add a command of the program that runs once.

        Args:
            name: Name of the step.
            words: The arguments of ``ddpm-pairs``; ``{work}`` is replaced with the folder.
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
        """Add a function that is called every time, such as one that prints a table."""
        self.steps[name] = work

    def run(self, only: list[str] | None) -> None:
        """Run the named steps in the given order, or all steps in order.

        Raises:
            SystemExit: If there is no step of a name.
        """
        for name in only or list(self.steps):
            if name not in self.steps:
                raise SystemExit(f"--only: got {name!r}; expected some of {', '.join(self.steps)}")
            self.steps[name]()


def keep_measured(measured: Path, folder: Path) -> None:
    """Copy the measured JSON and CSV files to a folder, from which tables can be printed without the images."""
    for path in measured.rglob("*"):
        if path.suffix in (".json", ".csv"):
            write_atomically(folder / path.relative_to(measured), path.read_bytes())


def study_parser(description: str, iterations: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options of all studies; without ``iterations``, those that train no restorer."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs")
    parser.add_argument("--only", nargs="+", help="names of the steps to run (default: all)")
    if iterations is not None:
        parser.add_argument("--iterations", type=int, default=iterations, help="training iterations per restorer")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser
