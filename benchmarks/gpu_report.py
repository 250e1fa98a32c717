"""Run all GPU tests and benchmarks and write one Markdown report. Call it through `benchmarks/gpu.sh`.

Each part runs in its own process with its own time limit. A part that hangs is terminated, a part that fails is
reported, and the next part starts. The report is rewritten after every part, so results survive an interruption.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
GRACE = 10.0
"""Seconds that a part has to shut down before its processes are killed."""

REHEARSAL = 900.0
"""Seconds for a part on a CPU, which may be busy."""

LONGEST = 200
"""Maximum number of lines of a part's output in the report; the log contains all of them."""


@dataclass(frozen=True)
class Part:
    """One section of the report.

    Attributes:
        title: Heading of the section.
        words: A script in this folder, or ``-m`` and a module, with its options.
        rehearsal: Options used instead on a CPU.
        limit: Seconds after which the part is terminated on a GPU.
        plain: Whether the part prints plain text instead of Markdown.
    """

    title: str
    words: tuple[str, ...]
    rehearsal: tuple[str, ...]
    limit: float
    plain: bool = False

    def command(self, rehearse: bool) -> list[str]:
        """Return the command line to run."""
        head = self.words[:2] if self.words[0] == "-m" else (str(BENCHMARKS / self.words[0]),)
        return [sys.executable, *head, *(self.rehearsal if rehearse else self.words[len(head) :])]


@dataclass(frozen=True)
class Outcome:
    """Result of a part.

    Attributes:
        part: The part.
        state: ``done``, or the reason of the failure.
        seconds: Duration.
        output: Its stdout.
        errors: Its stderr.
    """

    part: Part
    state: str
    seconds: float = 0.0
    output: str = ""
    errors: str = ""


_PEERS = ("--fidelity", "0", "--walks", "default", "fast", "unipc", "ancestral")
_OURS = ("--fidelity", "0", "--walks", "default")
_PAPER = ("synthesis.py", "--ckpt_path", "paper", "--threads", "4")
_TINY_WALKS = ("--ckpt_path", "small", "--pictures", "2", "--rounds", "1", "--t_max", "200", "--threads", "1")
_TINY_STEPS = ("--batch", "2", "--steps", "1", "--rounds", "1", "--precisions", "bf16", "--threads", "1")
_RANKS = "tests/gpu/test_ranks.py"

PARTS = (
    Part("Machine", ("gpu_machine.py",), (), 40),
    Part(
        "Tests",
        ("-m", "pytest", "-m", "gpu", "-q", f"--ignore={_RANKS}"),
        ("-m", "gpu", "-q", f"--ignore={_RANKS}"),
        100,
        plain=True,
    ),
    Part("Two ranks", ("-m", "pytest", "-m", "gpu", "-q", _RANKS), ("-m", "gpu", "-q", _RANKS), 100, plain=True),
    Part(
        "Synthesis at 256 px",
        (*_PAPER, "--sides", "256", "--batches", "8", "--pictures", "8", "--rounds", "1", *_PEERS),
        (*_TINY_WALKS, "--sides", "32", "--batches", "2", *_PEERS),
        90,
    ),
    Part(
        "Training step at 256 px",
        ("train_step.py", "--network", "paper", "--side", "256", "--rounds", "2"),
        ("--side", "32", *_TINY_STEPS),
        70,
    ),
    Part(
        "Degradations",
        ("degradations.py", "--sizes", "256", "512", "--batches", "1", "--rounds", "2"),
        ("--models", "bicubic", "real_esrgan", "--sizes", "64", "96", "--batches", "1", "--rounds", "1"),
        75,
    ),
    Part("Jobs: time, memory, host waits", ("jobs.py",), ("--rehearse",), 120),
    Part(
        "Synthesis by batch",
        (*_PAPER, "--sides", "256", "512", "--batches", "4", "8", "16", "32", "--pictures", "32", "--rounds", "2")
        + _OURS,
        (*_TINY_WALKS, "--sides", "32", "48", "--batches", "1", "2", *_OURS),
        60,
    ),
    Part(
        "Synthesis at 512 px",
        (*_PAPER, "--sides", "512", "--batches", "8", "--pictures", "4", "--rounds", "1", *_PEERS),
        (*_TINY_WALKS, "--sides", "48", "--batches", "2", *_PEERS),
        75,
    ),
    Part(
        "Training step at 512 px",
        ("train_step.py", "--network", "paper", "--side", "512", "--steps", "5", "--rounds", "1")
        + ("--precisions", "bf16"),
        ("--side", "64", *_TINY_STEPS),
        60,
    ),
)
"""In order of importance, because the last ones are skipped if time runs out."""


def main() -> int:
    """Read the command line and run the parts.

    Returns:
        0 if all parts are done, otherwise 1.
    """
    listed = "\n".join(f"  {part.title:<44}at most {part.limit:4.0f} s" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh",
        description=f"{__doc__}\nparts:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output_dir", type=Path, default=Path("gpu_report"), help="folder of gpu.md and gpu.log")
    parser.add_argument("--rehearse", action="store_true", help="use a CPU and tiny sizes; the numbers are meaningless")
    parser.add_argument("--only", nargs="+", metavar="TITLE", help="run only parts whose titles start with these words")
    parser.add_argument("--seconds", type=float, default=460, help="time limit for all parts together (default: 460)")
    arguments = parser.parse_args()
    chosen = [part for part in PARTS if arguments.only is None or part.title.startswith(tuple(arguments.only))]
    if not chosen:
        parser.error(f"--only: no part starts with {', '.join(arguments.only)}; see --help")
    return run(chosen, arguments.output_dir, arguments.rehearse, arguments.seconds)


def run(parts: Sequence[Part], folder: Path, rehearse: bool, seconds: float) -> int:
    """Run parts in sequence and write the report after each.

    Args:
        parts: The parts to run.
        folder: Folder of ``gpu.md`` and ``gpu.log``.
        rehearse: Whether to run on a CPU with tiny sizes.
        seconds: Time limit for all parts together, on a GPU.

    Returns:
        0 if all parts are done, otherwise 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report, start = folder / "gpu.md", time.monotonic()
    outcomes: list[Outcome] = []
    with (folder / "gpu.log").open("w", encoding="utf-8") as log:
        for part in parts:
            left = seconds - (time.monotonic() - start)
            limit = REHEARSAL if rehearse else min(part.limit, left)
            outcome = run_part(part, limit, rehearse, log) if limit > 0 else Outcome(part, "skipped: no time left")
            outcomes.append(outcome)
            print(f"{part.title}: {outcome.state}, {outcome.seconds:.0f} s", flush=True)
            report.write_text(as_markdown(outcomes, rehearse, time.monotonic() - start), encoding="utf-8")
    print(f"{report}: {time.monotonic() - start:.0f} s in total", flush=True)
    return int(any(outcome.state != "done" for outcome in outcomes))


def run_part(part: Part, limit: float, rehearse: bool, log: IO[str]) -> Outcome:
    """Run one part in its own process group.

    Args:
        part: The part to run.
        limit: Seconds after which it is terminated.
        rehearse: Whether to run it on a CPU.
        log: File to which its output is written.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    if rehearse:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DDPM_PAIRS_REHEARSE": "1"}
    command, start, state = part.command(rehearse), time.monotonic(), "done"
    with tempfile.TemporaryDirectory() as folder:
        # files, because a pipe stays open until all processes that the part started have ended
        written = [Path(folder) / name for name in ("stdout", "stderr")]
        with written[0].open("w") as output, written[1].open("w") as errors:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
                if status:
                    state = f"failed with status {status}"
            except subprocess.TimeoutExpired:
                state = f"terminated after {limit:.0f} s"
                _end(process)
        output, errors = (path.read_text(encoding="utf-8", errors="replace") for path in written)
    log.write(f"$ {' '.join(command)}\n{output}\n{errors}\n({state})\n\n")
    log.flush()
    return Outcome(part, state, time.monotonic() - start, output, errors)


def as_markdown(outcomes: Sequence[Outcome], rehearse: bool, seconds: float) -> str:
    """Return the report of all parts so far.

    Args:
        outcomes: Results of the parts.
        rehearse: Whether they ran on a CPU.
        seconds: Total duration.
    """
    lines = ["# GPU report", ""]
    if rehearse:
        lines += ["**Rehearsal on a CPU with tiny sizes: the numbers are meaningless.**", ""]
    lines += [f"Commit {_commit()}; {seconds:.0f} s in total.", "", "| part | state | s |", "| --- | --- | --- |"]
    lines += [f"| {one.part.title} | {one.state} | {one.seconds:.0f} |" for one in outcomes]
    for one in outcomes:
        words = " ".join(one.part.command(rehearse)[1:]).replace(f"{ROOT}/", "")
        lines += ["", f"## {one.part.title}", "", f"`python {words}`"]
        if one.output.strip():
            lines += ["", _section(one.output, one.part.plain)]
        if one.state != "done":
            lines += ["", f"**{one.state[0].upper()}{one.state[1:]}.**"]
            if one.errors.strip():
                lines += ["", _section("\n".join(one.errors.splitlines()[-40:]), plain=True)]
    return "\n".join(lines) + "\n"


def _section(output: str, plain: bool) -> str:
    lines = output.strip().splitlines()
    if len(lines) > LONGEST:
        lines = [f"... ({len(lines) - LONGEST} more lines in gpu.log)", *lines[-LONGEST:]]
    return "\n".join(["```text", *lines, "```"] if plain else lines)


def _end(process: subprocess.Popen) -> None:
    """Terminate a part: first with SIGINT, on which tests stop their own processes, then with SIGKILL."""
    os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):  # processes that it started may still be running
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"


if __name__ == "__main__":
    sys.exit(main())
