"""Time per training step: ours, denoising-diffusion-pytorch's, and diffusers', at equal numbers of parameters.

Prints one Markdown table. To compare the loops, each loop trains the same network. To compare what users get, each peer
also trains its own network, at the width with the closest number of parameters. (A network with most parameters in deep
levels needs fewer operations, which the table also shows.) A step is forward, backward, clipping, optimizer, and EMA on
a batch in memory; ten steps include one update of an EMA that is updated every ten steps. Rounds alternate between all
loops, so that other load on the machine affects all of them equally. Each number is the median over rounds of the mean
step. A ratio above 1 means that ours is faster. Peak memory is what network, optimizer, EMA, and two steps add to a
process with its libraries loaded.

    python benchmarks/train_step.py > table.md
    python benchmarks/train_step.py --network paper --side 256 --batch 16 --precisions bf16      # on a GPU

The rows of denoising-diffusion-pytorch need `pip install denoising-diffusion-pytorch`.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from machine import DTYPES, describe, flops_of, in_turns, peak_memory, table_row
from training_loops import TITLES, WARM_UP, build_loop
from training_networks import NETWORKS, size_of

HEADER = (
    "loop",
    "network",
    "parameters, M",
    "GFLOP per image, forward",
    "precision",
    "ms per step",
    "images/s",
    "time over ours",
    "peak MiB",
)


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--network", choices=NETWORKS, default="small", help="our network, as in ddpm_small.yaml or ddpm.yaml"
    )
    parser.add_argument("--side", type=int, default=64, help="side of the crops in pixels, a multiple of 32")
    parser.add_argument("--batch", type=int, default=16, help="crops per step")
    parser.add_argument("--steps", type=int, default=10, help="timed steps per round, after one warm-up step")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per number")
    parser.add_argument(
        "--precisions", nargs="+", choices=DTYPES, default=["fp32", "bf16"], help="bf16 is mixed precision"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    if arguments.side % 32 or arguments.side < 32:
        parser.error(f"--side: got {arguments.side}; expected a multiple of 32, as all the networks require")
    names = [name for name in TITLES if installed() or not name.startswith("peer")]
    if not installed():
        print("denoising-diffusion-pytorch is not installed; its rows are skipped", file=sys.stderr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(arguments.threads)
    print(f"{describe(device, arguments.threads)}; batches of {arguments.batch} crops of {arguments.side} px, ", end="")
    print(f"{arguments.rounds} rounds of {arguments.steps} steps\n\n{table_row(HEADER)}\n|{' --- |' * len(HEADER)}")
    for precision in arguments.precisions:
        measure(arguments, names, precision, device)


def measure(arguments: argparse.Namespace, names: list[str], precision: str, device: torch.device) -> None:
    """Print the rows of one precision."""
    network, side, batch = arguments.network, arguments.side, arguments.batch
    loops = {name: build_loop(name, network, side, device, precision) for name in names}
    batches = crops(WARM_UP + arguments.steps, batch, side)
    rounds = {name: partial(loop.seconds, batches) for name, (loop, _) in loops.items()}
    seconds = in_turns(rounds, arguments.rounds)
    for name, (_, net) in loops.items():
        where = next(net.parameters()).device
        inputs = (torch.randn(1, 3, side, side, device=where), torch.zeros(1, dtype=torch.int64, device=where))
        memory = peak_memory(
            device, prepare_steps, name, network, side, batch, precision, str(device), arguments.threads
        )
        cells = [
            *TITLES[name],
            f"{size_of(net) / 1e6:.2f}",
            f"{flops_of(net, inputs) / 1e9:.2f}",
            precision,
            f"{seconds[name] * 1e3:.4g}",
            f"{batch / seconds[name]:.3g}",
            f"{seconds[name] / seconds['ours']:.2f}x",
            f"{memory:.0f}",
        ]
        print(table_row(cells), flush=True)


def prepare_steps(
    name: str, network: str, side: int, batch: int, precision: str, device: str, threads: int
) -> Callable[[], Any]:
    """Return two steps from scratch as work, for a process with its libraries loaded."""
    torch.set_num_threads(threads)

    def work() -> None:
        loop, _ = build_loop(name, network, side, torch.device(device), precision)
        loop.seconds(crops(WARM_UP + 1, batch, side))

    return work


def crops(count: int, batch: int, side: int) -> list[torch.Tensor]:
    """Return random batches (batch, 3, side, side) in [0, 1]."""
    return list(torch.rand(count, batch, 3, side, side, generator=torch.Generator().manual_seed(0)))


def installed() -> bool:
    """Return whether denoising-diffusion-pytorch is installed."""
    return importlib.util.find_spec("denoising_diffusion_pytorch") is not None


if __name__ == "__main__":
    main()
