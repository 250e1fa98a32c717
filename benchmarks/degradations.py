"""Compare the speed of the degradation models with a per-image NumPy/OpenCV pipeline of the same steps.

Prints a Markdown table with one row per model and image size. Ours runs in batches of 8 on one and two CPU threads (and
on CUDA if available), the pipeline in one and two processes. Ours starts with a uint8 batch and ends with LQ on the
device; the pipeline starts and ends with uint8 images in memory. Both replay the same parameters, and drawing them is
not timed. Rounds alternate between all contestants, so that other load on the machine affects all of them equally. Each
number is the median over its rounds.

    python benchmarks/degradations.py > table.md
"""

import argparse
import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from opencv_degradations import OpenCVDegradation, peer_of
from skimage.data import astronaut

from ddpm_pairs.degradations import BSRGAN, Bicubic, Classical, ClassicalFaces, Degradation, OnHQGrid, RealESRGAN

BATCH = 8
MODELS = {
    "bicubic": Bicubic(),
    "classical": Classical(),
    "classical faces": ClassicalFaces(),
    "bsrgan": BSRGAN(),
    "real_esrgan": RealESRGAN(),
    "real_esrgan faces": OnHQGrid("real_esrgan"),
}
THREADS = (1, 2)


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="models to measure")
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512], help="side of HQ in pixels, one or more")
    parser.add_argument("--batches", type=int, default=4, help="batches of 8 random degradations per round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per number")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, ", end="")
    print(f"OpenCV {cv2.__version__}, NumPy {np.__version__}; batches of {BATCH}; images/s\n")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    gpu = ["ours, GPU", "GPU peak MiB"] if "cuda" in devices else []
    ratios = [f"ratio, {n}" for n in THREADS]
    header = ["model", "HQ", *_columns("ours", "thread"), *_columns("OpenCV", "process"), *ratios, "CPU peak MiB", *gpu]
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header), flush=True)
    # start the pipeline's processes before this process starts threads
    with ProcessPoolExecutor(max(THREADS), multiprocessing.get_context("forkserver"), cv2.setNumThreads, (1,)) as pool:
        for name in arguments.models:
            for size in arguments.sizes:
                row = measure(MODELS[name], size, arguments.batches, arguments.rounds, devices, pool)
                print("| " + " | ".join([name, str(size), *row]) + " |", flush=True)


def measure(
    model: Degradation, size: int, batches: int, rounds: int, devices: list[str], pool: ProcessPoolExecutor
) -> list[str]:
    """Time one model at one size; return the cells of its row."""
    peer = peer_of(model)
    drawn = [[model.draw(torch.Generator().manual_seed(BATCH * n + i)) for i in range(BATCH)] for n in range(batches)]
    pictures = photographs(size)
    every = [entry for batch in drawn for entry in batch]
    contestants: list[Callable[[], None]] = [
        *(lambda n=n: ours(model, pictures, drawn, "cpu", n) for n in THREADS),
        *(lambda n=n: theirs(peer, size, every, pool, n) for n in THREADS),
        *(lambda d=d: ours(model, pictures, drawn, d, 1) for d in devices[1:]),
    ]
    for contestant in contestants:
        contestant()
    seconds = [[_timed(contestant) for contestant in contestants] for _ in range(rounds)]
    speeds = [len(every) / statistics.median(column) for column in zip(*seconds, strict=True)]
    count = len(THREADS)
    cells = [f"{speed:.1f}" for speed in speeds[: 2 * count]]
    cells += [f"{ours / theirs:.2f}" for ours, theirs in zip(speeds[:count], speeds[count : 2 * count], strict=True)]
    cells.append(f"{peak_memory(model, size, drawn[0]):.0f}")
    if "cuda" in devices:
        torch.cuda.reset_peak_memory_stats()
        ours(model, pictures, drawn, "cuda", 1)
        cells += [f"{speeds[-1]:.1f}", f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"]
    return cells


@cache
def photographs(size: int) -> np.ndarray:
    """Return (BATCH, size, size, 3) uint8 BGR: one photograph, flipped and rotated."""
    photo = cv2.resize(astronaut()[..., ::-1], (size, size), interpolation=cv2.INTER_AREA)
    turned = [np.rot90(photo, turns) for turns in range(4)]
    return np.stack([*turned, *(picture[:, ::-1] for picture in turned)])


def ours(
    model: Degradation, pictures: np.ndarray, drawn: list[list[dict[str, Any]]], device: str, threads: int
) -> None:
    """Degrade all batches on a device."""
    torch.set_num_threads(threads)
    batch = torch.from_numpy(np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2)))
    for parameters in drawn:
        model.apply(batch.to(device).float().div_(255), parameters)
    if device == "cuda":
        torch.cuda.synchronize()


def theirs(
    peer: OpenCVDegradation, size: int, every: list[dict[str, Any]], pool: ProcessPoolExecutor, processes: int
) -> None:
    """Degrade the same number of images with the pipeline, split over processes."""
    shares = [pool.submit(degrade_share, peer, size, every[n::processes]) for n in range(processes)]
    for share in shares:
        share.result()


def degrade_share(peer: OpenCVDegradation, size: int, parameters: list[dict[str, Any]]) -> None:
    """Degrade one process's images, one by one."""
    for number, entry in enumerate(parameters):
        peer(photographs(size)[number % BATCH], entry)


def peak_memory(model: Degradation, size: int, parameters: list[dict[str, Any]]) -> float:
    """Return the MiB that one batch on one CPU thread adds to the memory of a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as alone:
        return alone.submit(added_memory, model, size, parameters).result()


def added_memory(model: Degradation, size: int, parameters: list[dict[str, Any]]) -> float:
    """Return the MiB by which resident memory at the peak of a batch exceeds that before it."""
    ours(model, photographs(64), [parameters], "cpu", 1)  # the first call loads libraries and tables
    pictures = photographs(size)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _status("VmHWM")
    ours(model, pictures, [parameters], "cpu", 1)
    return _status("VmHWM") - before


def _status(field: str) -> float:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def _columns(who: str, what: str) -> list[str]:
    return [f"{who}, {n} {what}{'' if n == 1 else 's' if what == 'thread' else 'es'}" for n in THREADS]


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
