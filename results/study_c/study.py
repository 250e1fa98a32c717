"""Samplers: does a walk of a dozen evaluations match the paper's, which takes hundreds?

The embedded DDPM denoises the same handcrafted LQ from the same t with several methods. The results are compared with
the camera's own images and with the initial LQ.

    PYTHONPATH=benchmarks python -m results.study_c.study --hq_dir web_photos/ --lq_dir lq_train/ --work work/

Finished methods are skipped. Times are measured last, with all methods alternating on a few patches. The output ends
with the table.
"""

import argparse
import json
import math
import statistics
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from walks import UNIPC, Job, Walk, build, ours

from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.walk import Sampling
from ddpm_pairs.diffusion import load_denoiser, samplers
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.pixels import eight_bit, psnr_of
from ddpm_pairs.metrics.texture import native_patches
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.tensors import generator_for
from results.known_world.gains import markdown
from results.realism import HEADS, RealPictures, kept, read

SCALE, SIDE, BATCH = 4, 64, 8
WAYS: dict[str, Sampling | None] = {
    "ancestral, every step": Sampling("ancestral", None),
    "ours, k = 8": Sampling("sde-dpmsolver++", 8),
    "ours, k = 12": Sampling("sde-dpmsolver++", 12),
    "ours, k = 20": Sampling("sde-dpmsolver++", 20),
    "k = 12, uniform in log-SNR": Sampling("sde-dpmsolver++", 12),
    "k = 12, curve 1.8": Sampling("sde-dpmsolver++", 12),
    "DDIM, k = 12": Sampling("ddim", 12),
    "DDIM, k = 50": Sampling("ddim", 50),
    "UniPC, 50-step grid, as the authors released": None,
}
CURVES = {"k = 12, uniform in log-SNR": 1.0, "k = 12, curve 1.8": 1.8}
"""Methods whose grid differs from ``ddpm_pairs.diffusion.samplers.CURVE``."""
CPU = torch.device("cpu")
TIMED, ROUNDS = 16, 3
"""Number of patches and of rounds for timing; the shortest time counts."""


def main() -> None:
    """Read the command line, run all unfinished methods, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hq_dir", type=Path, required=True, help="folder of HQ images with sides of 256 px or more")
    parser.add_argument("--lq_dir", type=Path, required=True, help="folder of the camera's LQ images")
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs")
    parser.add_argument("--ckpt_path", default="blind_camera", help="the DDPM")
    parser.add_argument("--start", default="bicubic", help="the handcrafted start")
    parser.add_argument("--ts", nargs="+", type=int, default=[50, 100, 200])
    parser.add_argument("--patches", type=int, default=256, help="patches per method and t")
    parser.add_argument("--threads", type=int, choices=(1, 2, 4), default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    starts = initial_lq(arguments.hq_dir, arguments.start, arguments.patches)
    real = RealPictures(arguments.lq_dir, arguments.patches, SIDE)
    floor = kept(arguments.work / "floor.json", real.floor)
    initial = kept(arguments.work / "initial.json", partial(real.compare, list(starts)))
    rows = [["method", "t", *HEADS, "PSNR to initial LQ, dB", "evaluations", "ms per patch"]]
    rows.append(["the camera, half against half", "", *floor.cells(), "", "", ""])
    rows.append(["initial LQ", "0", *initial.cells(), "", "", ""])
    for t in arguments.ts:
        job = Job(starts, [t] * len(starts))
        for way in WAYS:
            if not file_of(arguments.work, way, t).exists():
                with grid_of(way):
                    save(file_of(arguments.work, way, t), job, walk_of(way, arguments.ckpt_path, arguments.threads))
        times = times_of(arguments, job)
        for way in WAYS:
            path = file_of(arguments.work, way, t)
            done = np.load(path)
            lq = torch.from_numpy(done["lq"])
            found = kept(path.with_suffix(".json"), partial(real.compare, list(lq.float() / 255)))
            nearness = statistics.fmean(psnr_of(eight_bit(start), one) for start, one in zip(starts, lq, strict=True))
            ending = [f"{nearness:.1f}", str(done["evaluations"]), f"{times[way] * 1e3:.0f}"]
            rows.append([way, str(t), *found.cells(), *ending])
    print(markdown(rows))


def initial_lq(hq_dir: Path, start: str, n: int) -> Tensor:
    """Return handcrafted LQ patches (n, 3, 64, 64), float32 in [0, 1], made from native HQ patches."""
    hq = native_patches(read(hq_dir, side=SIDE * SCALE), n=n, seed=0, size=SIDE * SCALE)
    model = by_name(start, SCALE)
    drawn = [model.draw(generator_for(0, str(number), "degradation")) for number in range(n)]
    groups = [slice(first, first + BATCH) for first in range(0, n, BATCH)]
    return torch.cat([model.apply(hq[group], drawn[group]) for group in groups])


def walk_of(way: str, ckpt_path: str, threads: int) -> Walk:
    """Build a method with its own network; ours in the precision that ``predict`` selects."""
    denoiser = load_denoiser(weights_file(ckpt_path)).eval()
    sampling = WAYS[way]
    if sampling is None:
        return build(UNIPC, denoiser, CPU, threads, 1)
    runtime = Runtime(threads=threads)
    denoiser = runtime.place(denoiser, CPU)
    run = partial(ours, denoiser, sampling, CPU, BATCH)
    return Walk(denoiser, denoiser, runtime.precision, run, lambda t: len(sampling.plan(denoiser.schedule, t)))


def grid_of(way: str) -> AbstractContextManager:
    """Return a context in which samplers use the grid of a method."""
    return patch.object(samplers, "CURVE", CURVES.get(way, samplers.CURVE))


def file_of(work: Path, way: str, t: int) -> Path:
    """Return the file of a method's LQ."""
    return work / f"{way.replace(' ', '_')}_{t}.npz"


def save(path: Path, job: Job, walk: Walk) -> None:
    """Run a walk and save LQ and evaluations per image."""
    lq = walk.run(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name("unfinished.npz")
    np.savez(unfinished, lq=lq.numpy(), evaluations=walk.needs(job.ts[0]))
    unfinished.rename(path)


def times_of(arguments: argparse.Namespace, job: Job) -> dict[str, float]:
    """Return the seconds per patch of each method, measured once in alternating rounds on a few patches."""
    path = arguments.work / f"seconds_{job.ts[0]}.json"
    if not path.exists():
        few = Job(job.starts[:TIMED], job.ts[:TIMED])
        walks = {way: walk_of(way, arguments.ckpt_path, arguments.threads) for way in WAYS}
        best = dict.fromkeys(WAYS, math.inf)
        for way, walk in list(walks.items()) * ROUNDS:
            begin = time.perf_counter()
            with grid_of(way):
                walk.run(few)
            best[way] = min(best[way], (time.perf_counter() - begin) / TIMED)
        write_atomically(path, json.dumps(best).encode())
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
