"""Measure seconds and memory per training step of configs, relative to the first one.

Each config is fitted by the program itself for a few steps on random images, in a process of its own, and the rounds
alternate between the configs, so other load on the machine affects all of them equally. Prints a Markdown table:
milliseconds per step (the median over all rounds, without the first step of each), the ratio to the first config,
images per step, and the largest memory of the process (on a GPU, that of the GPU).

    python benchmarks/step_cost.py rrdb_small.yaml noise_da_rrdb_small.yaml align_rrdb_small.yaml
    python benchmarks/step_cost.py redegnet_small.yaml redegnet.yaml --batch_size 2 -- --model.perceptual.features lpips

Options after ``--`` are given to every fit.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_pairs.bounded_yaml import read_yaml

CONFIGS = Path(__file__).parents[1] / "configs"
PICTURES = 8
PAIRS = "--data.pairs_dir {folder}/pairs"
REAL = "--data.lq_dir {folder}/real"
DATA = {
    "RestorationPairs": PAIRS,
    "AdaptationImages": f"{PAIRS} {REAL}",
    "FacePairs": "--data.faces_dir {folder}/pairs --data.hq_dir {folder}/pairs/hq",
}
"""Options of a fit by its DataModule."""
MODELS = {"SelfConsistency": "--model.degraded_by blind_camera"}
"""Options that a module requires."""
FIT = (
    "--trainer.max_steps {steps} --trainer.val_check_interval {steps} --trainer.limit_val_batches 0 "
    "--trainer.log_every_n_steps 1 --trainer.enable_progress_bar false --trainer.enable_model_summary false "
    "--data.num_workers 0 --data.batch_size {batch} --trainer.accelerator {accelerator}"
)
CODE = """
import resource, sys
import torch
from ddpm_pairs.cli.main import main
status = main(sys.argv[2:])
gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated()
open(sys.argv[1], "w").write(str(gpu or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
sys.exit(status)
"""


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="names of shipped configs")
    parser.add_argument("--steps", type=int, default=4, help="steps per fit, 2 or more")
    parser.add_argument("--rounds", type=int, default=3, help="fits per config")
    parser.add_argument("--batch_size", type=int, default=2, help="images per step")
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"))
    words = sys.argv[1:]
    own, others = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    arguments = parser.parse_args(own)
    seconds: dict[str, list[float]] = {name: [] for name in arguments.configs}
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_images(folder, max(side_of(name) for name in arguments.configs))
        for number in range(arguments.rounds):
            for name in arguments.configs:
                found, memory[name] = fit(name, arguments, others, folder, f"{number}_{name}")
                seconds[name] += found
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    first = medians[arguments.configs[0]]
    print("| config | ms per step | ratio | images per step | memory, GB |\n| --- | --- | --- | --- | --- |")
    for name, median in medians.items():
        cells = (name, f"{1000 * median:.0f}", f"{median / first:.2f}", arguments.batch_size, f"{memory[name]:.2f}")
        print(f"| {' | '.join(map(str, cells))} |")


def side_of(name: str) -> int:
    """Return the side of the HQ crops of a config."""
    return read_yaml(CONFIGS / name)["data"]["init_args"]["crop_size"]


def write_images(folder: Path, side: int) -> None:
    """Write random pairs of scales 1 and 4, and real LQ images."""
    generator = np.random.default_rng(0)
    for scale in (1, 4):
        for kind, size in (("hq", side), ("lq", side // scale)):
            write(folder / f"pairs_{scale}" / kind, size, generator)
    write(folder / "real", side, generator)


def write(folder: Path, side: int, generator: np.random.Generator) -> None:
    """Write a folder of random images."""
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{number}.png")


def fit(
    name: str, arguments: argparse.Namespace, others: list[str], folder: Path, out: str
) -> tuple[list[float], float]:
    """Fit a config; return the seconds of each step but the first, and the largest memory in GB."""
    config = read_yaml(CONFIGS / name)
    model, data = (config[part]["class_path"].rsplit(".", 1)[1] for part in ("model", "data"))
    scale = config["model"]["init_args"]["net"]["init_args"].get("scale", 1)
    options = f"{DATA[data]} {MODELS.get(model, '')} {FIT}".replace("{folder}/pairs", f"{{folder}}/pairs_{scale}")
    words = options.format(
        folder=folder, steps=arguments.steps, batch=arguments.batch_size, accelerator=arguments.accelerator
    ).split()
    command = [sys.executable, "-c", CODE, str(folder / "memory"), "fit", "--config", name, *words, *others]
    done = subprocess.run([*command, "--output_dir", str(folder / out)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    (log,) = (folder / out).rglob("metrics.csv")
    with log.open(newline="") as file:
        speeds = [
            float(row["train/pictures_per_second"]) for row in csv.DictReader(file) if row["train/pictures_per_second"]
        ]
    return [arguments.batch_size / speed for speed in speeds[1:]], float((folder / "memory").read_text()) / 1e9


if __name__ == "__main__":
    main()
