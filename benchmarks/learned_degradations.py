"""Compare the speed of learned degradations with that of the handcrafted Real-ESRGAN chain.

Prints a Markdown table with one row per degradation: images per second at LQ of 64 px (HQ of 256 px, scale 4), and the
ratio to ``real_esrgan``. The networks have the sizes of their configs; their weights are random, because the speed does
not depend on them. The pools contain random kernels and patches of the default sizes. Parameters are drawn before.
Rounds alternate between all degradations, so other load on the machine affects all of them equally; each number is the
median over its rounds.

    python benchmarks/learned_degradations.py > table.md
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from skimage.data import astronaut

from ddpm_pairs.bounded_yaml import read_yaml
from ddpm_pairs.degradations import Degradation, Learned, RealESRGAN
from ddpm_pairs.degradations.classes import class_of
from ddpm_pairs.degradations.learned.pools import RealSR

BATCH = 8
SIDE = 256
CONFIGS = Path(__file__).parents[1] / "configs"
GANS = ("dsgan", "dsgan_small", "dasr", "dasr_small", "pdm", "pdm_small")


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=7, help="rounds per number")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    machine = f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}"
    print(f"{machine}; batches of {BATCH}, HQ of {SIDE} px\n")
    print("| degradation | parameters | images/s | ratio |\n| --- | --- | --- | --- |")
    models = {"real_esrgan": RealESRGAN(), **{name: gan(name) for name in GANS}, "pools": pools()}
    for name, speed, ratio in measured(models, arguments.rounds):
        count = parameters_of(models[name])
        print(f"| {name} | {f'{count / 1e6:.3f} M' if count else ''} | {speed:.1f} | {ratio:.2f} |")


def measured(models: dict[str, Degradation], rounds: int) -> list[tuple[str, float, float]]:
    """Return name, images per second, and speed over that of the first, for each degradation."""
    hq = torch.from_numpy(np.stack([astronaut()[:SIDE, :SIDE]] * BATCH).transpose(0, 3, 1, 2).copy()).float() / 255
    drawn = {
        name: [model.draw(torch.Generator().manual_seed(row)) for row in range(BATCH)] for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.apply(hq, drawn[name])
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}  # the first round warms up
    first = medians[next(iter(models))]
    return [(name, BATCH / median, first / median) for name, median in medians.items()]


def gan(name: str) -> Learned:
    """Return the untrained network of a config as a degradation."""
    net = read_yaml(CONFIGS / f"{name}.yaml")["model"]["init_args"]["net"]
    return Learned(class_of(net["class_path"])(**net["init_args"]))


def pools() -> Learned:
    """Return pools of the default sizes, filled with noise."""
    net = RealSR(scale=4, kernels=100, kernel_side=36, patches=1000, patch_side=32)
    net.kernels.copy_(torch.rand(net.kernels.shape).flatten(1).softmax(1).view(net.kernels.shape))
    net.patches.random_(120, 136)
    net.sources.copy_(torch.arange(1000) // 4)
    return Learned(net)


def parameters_of(model: Degradation) -> int:
    """Return the number of trained parameters; 0 for those without a network."""
    return sum(one.numel() for one in model.net.parameters()) if isinstance(model, Learned) else 0


if __name__ == "__main__":
    main()
