"""What do signals, kills while saving, and full or read-only disks leave behind?

    python results/scale/faults.py --work /tmp/faults

Four kinds of faults take turns; the script prints a row per fault, and then a table of each kind and verb. The log and
the folder of a fault that went wrong are kept as ``fault_<number>.log`` and ``fault_<number>``.

* ``killed``: a fit that saves after every step dies by SIGKILL at a random moment, with TMPDIR on another disk.
  ``last.ckpt`` must be readable and not older than it was just before the kill; the resumed fit must end with exactly
  the weights of an uninterrupted one.
* ``stopped``: fit, predict, t study, score and pack get SIGTERM at a random moment. The status must be 143 (or 0 if the
  work was done), a line must say how to resume, and the same command must then give the files of an uninterrupted run.
* ``full`` and ``read_only``: the same verbs write to a small or read-only disk. They must end with status 2 in one line
  and leave nothing half written. These two need root, since they mount file systems; otherwise they are left out.

``--faults 8`` is a quick trial.
"""

import argparse
import ctypes
import itertools
import os
import pickle
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from small_runs import forked, predict_words, prepared, write_pictures

import ddpm_pairs.cli.trainer  # noqa: F401 - imported before the forks, to save time
from ddpm_pairs.cli.main import main as program

VERBS = ("fit", "predict", "study", "score", "pack")
PLACES = {"fit": "run", "predict": "pairs", "study": "study", "score": "scores", "pack": "packed"}
MAY_DIFFER = {"run.yaml", "contact_sheet.png", "config.yaml", "last.ckpt", "report.html", "metrics.csv", "study.json"}
CLONE_NEWNS = 0x00020000
PAGE = 4096
STEPS = 12


@dataclass(frozen=True)
class Outcome:
    """What a fault left behind.

    Attributes:
        status: Exit status of the command; negative for a signal.
        again: Exit status of the command that resumes; ``None`` if there was nothing to resume.
        text: What came, for the table.
        lost: Files that are missing, unreadable, or not those of an uninterrupted run.
        wrong: What else is not as it must be.
    """

    status: int
    again: int | None
    text: str
    lost: list[str]
    wrong: list[str]


def main() -> None:
    """Read the command line, cause faults, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs")
    parser.add_argument("--faults", type=int, default=100, help="number of faults")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    arguments = parser.parse_args()
    work, draw = arguments.work.resolve(), random.Random(arguments.seed)
    log = prepared(work, lambda: _pictures(work))
    kinds: list[Callable[[Path, str, random.Random, float], Outcome]] = [killed, stopped]
    if os.geteuid() == 0:
        _own_mounts()
        kinds += [full, read_only]
    seconds = {verb: unbroken(work, verb, log) for verb in VERBS}
    print("| fault | kind | verb | what came | right |\n| --- | --- | --- | --- | --- |")
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    faults = zip(itertools.cycle(kinds), itertools.cycle(verb for verb in VERBS for _ in kinds))
    for number, (kind, verb) in enumerate(itertools.islice(faults, arguments.faults), start=1):
        verb = "fit" if kind is killed else verb
        outcome = kind(work, verb, draw, seconds[verb])
        outcomes.setdefault((kind.__name__, verb), []).append(outcome)
        failed = [*outcome.wrong, *outcome.lost]
        verdict = f"NO: {', '.join(failed)}" if failed else "yes"
        print(f"| {number} | {kind.__name__} | {verb} | {outcome.text} | {verdict} |", flush=True)
        if failed:
            _keep(work, kind.__name__, work / f"fault_{number:03}")
    print(f"\n{summary(outcomes)}")
    raise SystemExit(0 if all(not one.wrong and not one.lost for some in outcomes.values() for one in some) else 1)


def summary(outcomes: dict[tuple[str, str], list[Outcome]]) -> str:
    """Format a table of all faults by kind and verb.

    Args:
        outcomes: The outcomes of each kind and verb.
    """

    def counted(statuses: list[int | None]) -> str:
        found = Counter(status for status in statuses if status is not None)
        return ", ".join(f"{times} x {status}" for status, times in sorted(found.items()))

    lines = ["| kind | verb | faults | status | status of the rerun | lost | right |", "| --- " * 7 + "|"]
    rows = [(kind, verb, some) for (kind, verb), some in sorted(outcomes.items())]
    for kind, verb, some in [*rows, ("all", "", list(itertools.chain(*outcomes.values())))]:
        statuses = counted([one.status for one in some]), counted([one.again for one in some])
        lost = sum(bool(one.lost) for one in some)
        right = sum(not one.lost and not one.wrong for one in some)
        lines.append(f"| {kind} | {verb} | {len(some)} | {' | '.join(statuses)} | {lost} | {right} |")
    return "\n".join(lines)


def words(work: Path, verb: str, out: Path, resume: bool = False) -> list[str]:
    """Return the command line of a verb."""
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    if verb == "fit":
        options = f"--trainer.max_steps {STEPS} --trainer.val_check_interval {STEPS} --checkpoint_every_n_steps 1"
        line = ["fit", "--config", "ddpm_small.yaml", "--config", "parts/debug.yaml", *options.split(), *quiet]
        line += ["--data.lq_dir", str(work / "lq"), "--data.num_workers", "1", "--output_dir", str(out)]
        return [*line, "--trainer.precision", "32-true", *(["--ckpt_path", "last"] if resume else [])]
    if verb == "predict":
        return predict_words(work, out)
    if verb == "study":
        options = "--model.ts [0,30,60] --model.patch 32 --model.features random --model.threads 1 --data.num_workers 1"
        line = ["test", "--config", "ablation.yaml", *options.split(), *quiet, "--model.precision", "fp32"]
        line += ["--ckpt_path", str(work / "tiny.ckpt"), "--data.hq_dir", str(work / "hq")]
        return [*line, "--data.lq_dir", str(work / "lq"), "--output_dir", str(out)]
    if verb == "score":
        folders = [str(work / "whole" / "pairs" / "hq"), str(work / "hq_png")]
        return ["score", *folders, "--metrics", "psnr,ssim", "--output_dir", str(out)]
    return ["pack", str(work / "whole" / "pairs"), str(out), "--format", "webdataset"]


def unbroken(work: Path, verb: str, log: Path) -> float:
    """Let a verb finish; return its seconds.

    Raises:
        SystemExit: If it fails.
    """
    begin = time.monotonic()
    out = work / "whole" / PLACES[verb]
    if status := _end(_start(words(work, verb, out), log)):
        raise SystemExit(f"{verb} ended with status {status}; see {log}")
    if verb == "predict":
        shutil.copytree(out / "hq", work / "hq_png")
    return time.monotonic() - begin


def killed(work: Path, verb: str, draw: random.Random, seconds: float) -> Outcome:
    """Kill a fit while it saves, and resume it."""
    out, log = work / "killed", _fresh(work / "killed")
    last = out / "last.ckpt"
    process = _start(words(work, verb, out), log, TMPDIR="/dev/shm")
    while not last.is_file() and not _ended(process):
        time.sleep(0.001)
    time.sleep(draw.random() * 0.2 * seconds)
    before = _step(last)
    _signal(process, signal.SIGKILL)
    status, step = _end(process), _step(last)
    again = _end(_start(words(work, verb, out, resume=True), log))
    lost = [] if step >= max(before, 1) else [f"last.ckpt of step {step}, earlier {before}"]
    lost += [] if _same_weights(last, work / "whole" / "run" / "last.ckpt") else ["last.ckpt after the rerun"]
    wrong = [f"status {again} of the rerun"] if again else []
    wrong += [f"{path.name} is left" for path in out.glob(".*.tmp")]
    return Outcome(status, again, f"killed after step {step}, then status {again}", lost, wrong)


def stopped(work: Path, verb: str, draw: random.Random, seconds: float) -> Outcome:
    """Stop a verb by SIGTERM, and run it again."""
    out, log = work / "stopped", _fresh(work / "stopped")
    process = _start(words(work, verb, out), log)
    moment = draw.random() * 0.8 * seconds
    time.sleep(moment)
    done = _ended(process)
    _signal(process, signal.SIGTERM)
    status, said = _end(process), log.read_text(errors="replace")
    saved = (out / "last.ckpt").is_file()
    again = _end(_start(words(work, verb, out, resume=saved), log)) if status else None
    whole = work / "whole" / PLACES[verb]
    if verb == "fit":  # its folder has a log of each run
        lost = [] if _same_weights(out / "last.ckpt", whole / "last.ckpt") else ["last.ckpt"]
    else:
        lost = _different(out, whole)
    wrong = [] if status in (0, 143) else [f"status {status}"]
    wrong += [f"status {again} of the rerun"] if again else []
    wrong += [] if status == 0 or "to resume" in said else ["no line says how to resume"]
    wrong += ["traceback"] if "Traceback" in said else []
    came = f"{'was done, ' if done else ''}after {moment:.2f} s status {status}"
    return Outcome(status, again, came if again is None else f"{came}, then {again}", lost, wrong)


def full(work: Path, verb: str, draw: random.Random, seconds: float) -> Outcome:
    """Run a verb on a disk that has too little room, by a random share of what the verb writes."""
    files = [path for path in (work / "whole" / PLACES[verb]).rglob("*") if path.is_file()]
    pages = draw.randint(1, sum(-(-path.stat().st_size // PAGE) for path in files) - 1)
    return _on_disk(work, verb, f"size={pages * PAGE}", f"{pages * PAGE // 1024} kB: ")


def read_only(work: Path, verb: str, draw: random.Random, seconds: float) -> Outcome:
    """Run a verb on a disk that cannot be written."""
    return _on_disk(work, verb, "size=1m,ro", "")


def _on_disk(work: Path, verb: str, options: str, text: str) -> Outcome:
    disk, log = work / "disk", _fresh(work / "disk")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    status = _end(_start(words(work, verb, disk / "out"), log))
    said = log.read_text(errors="replace")
    (*_, last) = ["", *said.splitlines()]
    lost = [f"{path.name} is left" for path in disk.rglob("*.tmp") if path.name.startswith(".")]
    subprocess.run(["umount", disk], check=True)
    wrong = [] if status == 2 else [f"status {status}"]
    wrong += [] if last.startswith("ddpm-pairs: error: ") else ["the last line is no error"]
    wrong += ["traceback"] if "Traceback" in said else []
    return Outcome(status, None, f"{text}status {status}: {last[19:110]}", lost, wrong)


def _pictures(work: Path) -> None:
    write_pictures(work / "hq", 40, side=192)
    write_pictures(work / "lq", 20, side=64)


def _own_mounts() -> None:
    """Give this process and its children mounts that nobody else sees."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise SystemExit("this process may not have mounts of its own")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def _fresh(out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    log = out.with_suffix(".log")
    log.unlink(missing_ok=True)
    return log


def _start(line: list[str], log: Path, **environment: str) -> int:
    def work() -> int:
        torch.set_num_threads(1)  # for equal bits, however many cores are busy
        return program(line)

    return forked(work, log, environment=environment)


def _signal(process: int, number: int) -> None:
    """Signal a process and its loader processes; a process that has ended stays a zombie until it is reaped."""
    os.killpg(process, number)


def _ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: int, limit: float = 600) -> int:
    """Wait for a process; return its status, or that of SIGKILL if it does not end."""
    end = time.monotonic() + limit
    while not _ended(process) and time.monotonic() < end:
        time.sleep(0.01)
    if not _ended(process):
        _signal(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _state(path: Path) -> dict | None:
    """Read a checkpoint; ``None`` if it is missing or damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None


def _step(path: Path) -> int:
    state = _state(path)
    return -1 if state is None else state["global_step"]


def _same_weights(one: Path, other: Path) -> bool:
    first, second = _state(one), _state(other)
    if first is None or second is None or first["global_step"] != second["global_step"]:
        return False
    names = first["state_dict"].keys()
    return all(torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in names)


def _different(one: Path, other: Path) -> list[str]:
    """Return the names of the files that differ, or that only one folder has."""
    first, second = _content(one), _content(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _content(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.name not in MAY_DIFFER}


def _keep(work: Path, kind: str, place: Path) -> None:
    """Keep the log and the folder of a fault that went wrong."""
    name = kind if kind in ("killed", "stopped") else "disk"
    shutil.copy(work / f"{name}.log", place.with_suffix(".log"))
    shutil.copytree(work / name, place)


if __name__ == "__main__":
    main()
