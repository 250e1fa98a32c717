"""Pairs per second from initial LQ to LQ: ours in every mode, and the loops of other projects.

Prints one Markdown table. Each row shows pairs/s, network evaluations per pair and per second, occupancy (evaluations
that the images needed over those that the network made), the share of the device's bound (FLOP/s of the evaluations
over those of a large matrix product in the fastest precision), and the memory that a batch adds at its peak. It also
shows the fidelity of the results: radial power relative to that of the per-image ancestral walk and of real LQ, PSNR to
the initial LQ, and `fid192` if Inception's weights are found.

Every method starts with the same initial LQ, t, and noise in memory and ends with 8-bit LQ on the host. Decoding,
degrading, and encoding are the same for all and are not timed. t is spaced evenly over 1..t_max. Rounds alternate
between all methods, so that other load on the machine affects all of them equally. Each number is the median over its
rounds. Fidelity is measured on other images, with t up to the DDPM's training range.

    python benchmarks/synthesis.py > table.md
    python benchmarks/synthesis.py --lq_dir LQ/ --hq_dir HQ/ --fidelity 256
    python benchmarks/synthesis.py --ckpt_path paper --sides 256 512 --batches 1 4 8 16 32 --walks fast default unipc

Initial LQ is HQ degraded by `real_esrgan`. With `--lq_dir` alone, it is real LQ, which should not change.
The batched ancestral row needs `pip install denoising-diffusion-pytorch`.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fidelity import HEADER, Comparison, choose, spread
from machine import describe, flops_a_second, flops_of, in_turns, peak_memory, table_row, timed
from walks import ANCESTRAL, BATCHED, P_SAMPLE, TITLES, UNIPC, Job, Walk, build, load

WARM_UP_T = 20  # the smallest t for which UniPC evaluates the network
SPEED_HEADER = (
    "method",
    "LQ px",
    "batch",
    "precision",
    "pairs/s",
    "over ancestral, per image",
    "evaluations per pair",
    "evaluations/s",
    "over UniPC's",
    "occupancy",
    "share of bound",
    "peak MiB",
)


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ckpt_path", default="blind_camera", help="DDPM: a file, a shipped name, or untrained (small or paper)"
    )
    parser.add_argument("--walks", nargs="+", choices=TITLES, default=list(TITLES), help="methods to measure")
    parser.add_argument("--sides", nargs="+", type=int, default=[64], help="side of LQ in pixels, one or more")
    parser.add_argument("--batches", nargs="+", type=int, default=[8], help="batch size, one or more")
    parser.add_argument("--pictures", type=int, default=16, help="images per round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per number")
    parser.add_argument("--t_max", type=int, default=500, help="largest t in the speed measurements")
    parser.add_argument("--threads", type=int, choices=(1, 2, 4), default=2, help="CPU threads")
    parser.add_argument("--compile", action="store_true", help="compile our network; stderr shows the time it takes")
    parser.add_argument("--fidelity", type=int, default=64, help="images for fidelity; 0 measures only speed, on noise")
    parser.add_argument("--hq_dir", type=Path, help="folder of HQ images (default: embedded photographs)")
    parser.add_argument("--lq_dir", type=Path, help="folder of real LQ images on which the DDPM was trained")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except ValueError as error:
        parser.error(str(error))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print.

    Raises:
        ValueError: If a folder, the checkpoint, or a size cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    load(arguments.ckpt_path)  # fail early if there is none
    if P_SAMPLE in arguments.walks and importlib.util.find_spec("denoising_diffusion_pytorch") is None:
        arguments.walks.remove(P_SAMPLE)
        print("denoising-diffusion-pytorch is not installed; its row is skipped", file=sys.stderr)
    torch.set_num_threads(arguments.threads)
    bound, precision = flops_a_second(device)
    print(f"{describe(device, arguments.threads)}; bound {bound / 1e12:.3g} TFLOP/s in {precision}; ", end="")
    print(f"{arguments.pictures} images per round, {arguments.rounds} rounds, t over 1..{arguments.t_max}, ", end="")
    print(f"{Path(arguments.ckpt_path).name}\n")
    header = [*SPEED_HEADER, *(HEADER if arguments.fidelity else ())]
    print(table_row(header) + "\n|" + " --- |" * len(header), flush=True)
    for side in arguments.sides:
        measure(arguments, side, device, bound)


def measure(arguments: argparse.Namespace, side: int, device: torch.device, bound: float) -> None:
    """Print the rows of one size."""
    asked = [(name, batch) for name in arguments.walks for batch in (arguments.batches if name in BATCHED else [1])]
    walks = {(name, batch): _build(arguments, name, device, batch) for name, batch in asked}
    if arguments.fidelity:
        starts = choose(arguments.hq_dir, None, arguments.pictures, side, 1).starts
    else:  # speed does not depend on content, and HQ of four times the side is slow to degrade
        starts = torch.rand(arguments.pictures, 3, side, side, generator=torch.Generator().manual_seed(1))
    job = Job(starts, spread(arguments.t_max, arguments.pictures, 1))
    for (name, batch), walk in walks.items():
        short = Job(starts[:batch], [WARM_UP_T] * min(batch, len(starts)))
        print(f"{name}, batch {batch}: {timed(partial(walk.run, short), device):.1f} s of warm-up", file=sys.stderr)
    seconds = in_turns({key: partial(_seconds, walk, job, device) for key, walk in walks.items()}, arguments.rounds)
    seen = {key: walk.evaluated for key, walk in walks.items()}
    first = {name: walks[name, batch] for name, batch in reversed(asked)}  # fidelity does not depend on the batch
    fidelity = _fidelity(arguments, side, first, device) if arguments.fidelity else {}
    cost = _flops(next(iter(walks.values())), side, device)
    needed = {key: sum(map(walk.needs, job.ts)) for key, walk in walks.items()}
    rates = {key: needed[key] / took for key, took in seconds.items()}
    nothing = ["-"] * len(HEADER) if arguments.fidelity else []
    for key, walk in walks.items():
        name, batch = key
        settings = (arguments.ckpt_path, str(device), arguments.threads, batch, side, arguments.compile)
        cells = [
            TITLES[name],
            side,
            batch,
            walk.precision,
            f"{len(starts) / seconds[key]:.3g}",
            _ratio(seconds.get((ANCESTRAL, 1)), seconds[key]),
            f"{needed[key] / len(starts):.1f}",
            f"{rates[key]:.1f}",
            _ratio(rates[key], rates.get((UNIPC, 1))),
            f"{needed[key] / seen[key]:.1%}",
            f"{seen[key] / seconds[key] * cost / bound:.1%}",
            f"{peak_memory(device, prepare_batch, name, *settings):.0f}",
        ]
        print(table_row([*cells, *(fidelity.pop(name, nothing))]), flush=True)
    for name, cells in fidelity.items():
        if name not in TITLES:
            print(table_row([name, side, *["-"] * (len(SPEED_HEADER) - 2), *cells]), flush=True)


def prepare_batch(
    name: str, checkpoint: str, device: str, threads: int, batch: int, side: int, compile: bool
) -> Callable[[], Any]:
    """Return a batch of short walks as work, after a smaller one; memory does not depend on the number of steps."""
    walk = build(name, load(checkpoint), torch.device(device), threads, batch, compile)
    small, whole = (Job(torch.rand(batch, 3, s, s), [WARM_UP_T] * batch) for s in (walk.denoiser.multiple * 2, side))
    walk.run(small)
    return partial(walk.run, whole)


def _build(arguments: argparse.Namespace, name: str, device: torch.device, batch: int) -> Walk:
    denoiser = load(arguments.ckpt_path)
    return build(name, denoiser, device, arguments.threads, batch, arguments.compile)


def _seconds(walk: Walk, job: Job, device: torch.device) -> float:
    walk.evaluated = 0
    return timed(partial(walk.run, job), device)


def _fidelity(
    arguments: argparse.Namespace, side: int, walks: dict[str, Walk], device: torch.device
) -> dict[str, list[str]]:
    """Return the cells of each method and of the references."""
    pictures = choose(arguments.hq_dir, arguments.lq_dir, arguments.fidelity, side, 2)
    walks = walks if ANCESTRAL in walks else {**walks, ANCESTRAL: _build(arguments, ANCESTRAL, device, 1)}
    t_max = min(arguments.t_max, walks[ANCESTRAL].denoiser.t_max)
    job = Job(pictures.starts, spread(t_max, arguments.fidelity, 2), seed=2)
    results = {name: walk.run(job) for name, walk in walks.items()}
    comparison = Comparison(pictures, results[ANCESTRAL], device)
    return {**{name: comparison.row(lq) for name, lq in results.items()}, **comparison.references()}


def _flops(walk: Walk, side: int, device: torch.device) -> int:
    """Return the floating-point operations of one evaluation for one image."""
    dtype = next(walk.denoiser.net.parameters()).dtype
    x_t = torch.randn(1, 3, side, side, device=device, dtype=dtype)
    return flops_of(walk.denoiser.net, (x_t, torch.zeros(1, dtype=torch.int64, device=device)))


def _ratio(value: float | None, base: float | None) -> str:
    return "-" if value is None or base is None else f"{value / base:.3g}x"


if __name__ == "__main__":
    main()
