"""Shared by the studies in this folder: many small images, a tiny DDPM, and runs of predict that can be killed."""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from ddpm_pairs.cli.main import main
from ddpm_pairs.diffusion import Denoiser, Schedule, UNet
from ddpm_pairs.files import write_atomically


def write_pictures(folder: Path, count: int, side: int = 64, bitmaps: bool = False) -> None:
    """Write images of a few random colors, enlarged.

    Args:
        folder: Output folder, with a thousand images per subfolder.
        count: Number of images.
        side: Side of the images in px, a multiple of 8.
        bitmaps: Write every other image as BMP, which predict must encode; it copies a PNG.
    """
    for number in range(count):
        colors = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        suffix = ".bmp" if bitmaps and number % 2 else ".png"
        picture = cv2.imencode(suffix, colors.repeat(side // 8, 0).repeat(side // 8, 1))[1]
        write_atomically(folder / f"{number // 1000:03}" / f"{number:06}{suffix}", picture.tobytes())


def write_checkpoint(path: Path) -> None:
    """Write a checkpoint of a DDPM with random weights."""
    torch.manual_seed(0)
    net = UNet(channels=[8, 16], layers_per_block=1, attention_levels=[], norm_groups=4)
    torch.nn.init.normal_(net.conv_out.weight, std=0.2)  # zero in a new network
    denoiser = Denoiser(net, Schedule(), "epsilon", 60)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"ddpm_pairs": denoiser.spec(), "state_dict": state}, path)


def prepared(work: Path, pictures: Callable[[], None]) -> Path:
    """Make a folder for a study, with the images and the network.

    Args:
        work: The folder, which must not exist yet.
        pictures: Writes the images.

    Returns:
        The log file in it for the output of all processes.
    """
    if work.exists():
        raise SystemExit(f"--work {work} already exists; use a new folder")
    work.mkdir(parents=True)
    log = work / "log.txt"

    def fill() -> None:
        pictures()
        write_checkpoint(work / "tiny.ckpt")

    # In its own process, because a process that has computed with torch cannot be forked safely.
    wait([forked(fill, log)], log)
    return log


def predict_words(work: Path, out: Path, workers: int = 1) -> list[str]:
    """Return the command line of predict for these images."""
    words = "predict --config pairs_natural.yaml --model.degradation bicubic --model.t_min 0 --model.t_max 60"
    words += " --model.num_steps 2 --model.precision fp32 --model.threads 1 --model.slots 8 --trainer.accelerator cpu"
    places = ["--ckpt_path", str(work / "tiny.ckpt"), "--data.hq_dir", str(work / "hq"), "--output_dir", str(out)]
    return [*words.split(), *places, "--data.num_workers", str(workers)]


def start(words: list[str], ranks: int, log: Path) -> list[int]:
    """Start a command in a group of forked processes, which share the modules that this process has imported.

    Args:
        words: The arguments of ``lightning``.
        ranks: Number of processes that share the work, each started as by torchrun.
        log: File to which their output is appended.

    Returns:
        The process ids. The first is also the group's id, for ``kill``.
    """
    environment = {}
    if ranks > 1:
        words = [*words, "--trainer.devices", str(ranks), "--trainer.strategy", "ddp"]
        environment = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "TORCHELASTIC_RUN_ID": "1"}
    processes: list[int] = []
    for rank in range(ranks):
        if ranks > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        group = processes[0] if processes else 0
        processes.append(forked(lambda: main(words), log, group, dict(environment)))
    return processes


def forked(work: Callable[[], int | None], log: Path, group: int = 0, environment: dict[str, str] | None = None) -> int:
    """Run a function in a forked process, whose exit status it returns; return the process id immediately."""
    child = os.fork()
    if child:
        os.setpgid(child, group or child)
        return child
    status = 1
    try:
        os.setpgid(0, group)
        os.environ |= environment or {}
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(written, 1)
        os.dup2(written, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        status = work() or 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def kill(processes: list[int], first: int | None = None, grace: float = 0.2) -> None:
    """Kill a group with SIGKILL: all at once, or one rank first and the others a moment later, like a launcher."""
    if first is not None:
        os.kill(processes[first], signal.SIGKILL)
        time.sleep(grace)
    os.killpg(processes[0], signal.SIGKILL)
    for process in processes:
        os.waitpid(process, 0)


def ended(processes: list[int]) -> bool:
    """Return whether the first process has ended, with any status, without reaping it."""
    return os.waitid(os.P_PID, processes[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait(processes: list[int], log: Path) -> None:
    """Wait for all processes.

    Raises:
        SystemExit: If one failed.
    """
    statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    if any(statuses):
        raise SystemExit(f"a run ended with status {statuses}; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
