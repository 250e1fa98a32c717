"""What do signals, kills while saving, and full or read-only disks leave behind?

    python results/scale/faults.py --work /tmp/faults

Four kinds of faults take turns; the script prints a row per fault, and a last line with the number that went right.

* ``killed``: a fit that saves after every step dies by SIGKILL at a random moment, with TMPDIR on another disk.
  ``last.ckpt`` must be readable and no older than the last complete save; the resumed fit must end with exactly the
  weights of an uninterrupted one.
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
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from small_runs import forked, predict_words, prepared, write_pictures

import ddpm_pairs.cli.trainer  # noqa: F401 - imported before the forks, to save time
from ddpm_pairs.cli.main import main as program

VERBS = ("fit", "predict", "study", "score", "pack")
PLACES = {"fit": "run", "predict": "pairs", "study": "study", "score": "scores", "pack": "packed"}
MAY_DIFFER = {"run.yaml", "contact_sheet.png", "config.yaml", "last.ckpt", "report.html", "metrics.csv", "study.json"}
CLONE_NEWNS = 0x00020000
STEPS = 12


def main() -> None:
    """Read the command line, cause faults, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs")
    parser.add_argument("--faults", type=int, default=100, help="number of faults")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    arguments = parser.parse_args()
    work, draw = arguments.work.resolve(), random.Random(arguments.seed)
    log = prepared(work, lambda: _pictures(work))
    kinds: list[Callable[[Path, str, random.Random], tuple[str, bool]]] = [killed, stopped]
    if os.geteuid() == 0:
        _own_mounts()
        kinds += [full, read_only]
    seconds = {verb: unbroken(work, verb, log) for verb in VERBS}
    print("| fault | kind | verb | what came | right |\n| --- | --- | --- | --- | --- |")
    passed = []
    faults = zip(itertools.cycle(kinds), itertools.cycle(verb for verb in VERBS for _ in kinds))
    for number, (kind, verb) in enumerate(itertools.islice(faults, arguments.faults), start=1):
        verb = "fit" if kind is killed else verb
        text, right = kind(work, verb, draw) if kind in (full, read_only) else kind(work, verb, seconds[verb], draw)
        passed.append(right)
        print(f"| {number} | {kind.__name__} | {verb} | {text} | {'yes' if right else 'NO'} |", flush=True)
    print(f"\n{sum(passed)} of {len(passed)} faults: nothing lost, status and words right.")
    raise SystemExit(0 if all(passed) else 1)


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


def killed(work: Path, verb: str, seconds: float, draw: random.Random) -> tuple[str, bool]:
    """Kill a fit while it saves, and resume it."""
    out, log = work / "killed", _fresh(work / "killed")
    last = out / "last.ckpt"
    process = _start(words(work, verb, out), log, TMPDIR="/dev/shm")
    while not last.is_file() and not _ended(process):
        time.sleep(0.001)
    time.sleep(draw.random() * 0.2 * seconds)
    _signal(process, signal.SIGKILL)
    _end(process)
    step = _state(last)["global_step"]
    status = _end(_start(words(work, verb, out, resume=True), log))
    same = _same_weights(last, work / "whole" / "run" / "last.ckpt")
    left = [path.name for path in out.glob(".*.tmp")]
    return f"killed after step {step}, resumed with status {status}", step > 0 and not status and same and not left


def stopped(work: Path, verb: str, seconds: float, draw: random.Random) -> tuple[str, bool]:
    """Stop a verb by SIGTERM, and run it again."""
    out, log = work / "stopped", _fresh(work / "stopped")
    process = _start(words(work, verb, out), log)
    time.sleep(draw.random() * 0.8 * seconds)
    done = _ended(process)
    _signal(process, signal.SIGTERM)
    status, said = _end(process), log.read_text(errors="replace")
    saved = (out / "last.ckpt").is_file()
    again = _end(_start(words(work, verb, out, resume=saved), log)) if status else 0
    whole = work / "whole" / PLACES[verb]
    same = _content(out) == _content(whole)
    if verb == "fit":
        same = _same_weights(out / "last.ckpt", whole / "last.ckpt")
    spoken = done or status == 0 or "to resume" in said
    right = status in (0, 143) and spoken and "Traceback" not in said and not again and same
    return f"{'was done, ' if done else ''}status {status}, then {again}", right


def full(work: Path, verb: str, draw: random.Random) -> tuple[str, bool]:
    """Run a verb on a disk that is nearly full."""
    size = draw.choice([16, 40, 100])

    def fill(disk: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)

    return _on_disk(work, verb, fill, f"{size} kB: ")


def read_only(work: Path, verb: str, draw: random.Random) -> tuple[str, bool]:
    """Run a verb on a disk that cannot be written."""

    def lock(disk: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", disk], check=True)

    return _on_disk(work, verb, lock, "")


def _on_disk(work: Path, verb: str, mount: Callable[[Path], None], text: str) -> tuple[str, bool]:
    disk, log = work / "disk", _fresh(work / "disk")
    disk.mkdir()
    mount(disk)
    status = _end(_start(words(work, verb, disk / "out"), log))
    (*_, last) = ["", *log.read_text(errors="replace").splitlines()]
    left = [path for path in disk.rglob("*.tmp") if path.name.startswith(".")]
    subprocess.run(["umount", disk], check=True)
    right = status == 2 and last.startswith("ddpm-pairs: error: ") and "Traceback" not in log.read_text() and not left
    return f"{text}status {status}: {last[19:110]}", right


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


def _state(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def _same_weights(one: Path, other: Path) -> bool:
    first, second = _state(one), _state(other)
    names = first["state_dict"].keys()
    return first["global_step"] == second["global_step"] and all(
        torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in names
    )


def _content(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.name not in MAY_DIFFER}


if __name__ == "__main__":
    main()
