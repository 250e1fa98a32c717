"""Which pairs train the better restorer, in a world whose truth is known?

The world is the demo's camera. Of one folder of photographs, 200 become the camera's LQ pictures, of which nothing else
is known; 80 are HQ for pairs; 30 and their true LQ are the test. A DDPM learns the camera; the same small RRDB network
is trained on handcrafted pairs, on our pairs, on half of each, and on true pairs, which are the ceiling.

    python results/known_world/study.py --photographs web_photos/ --work /tmp/known_world

Each step is one command of the program, printed as it is run. A step that is done is left alone, and one that was
interrupted goes on, so the same line goes on after anything. ``--only`` runs some steps, such as two trainings at once
in two terminals. The last step prints the table.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from ddpm_pairs.seeding import seed_of

SHARES = {"scenes": 200, "hq": 80, "test": 30}
VARIANTS = 4
"""Each HQ picture is degraded so many times, with other draws."""
CAMERA = "--model.degradation ddpm_pairs.camera.Camera --model.t_max 0"
STARTS = {
    "handcrafted": "--model.degradation real_esrgan --model.t_max 0",
    "true": CAMERA,
    # the camera costs bicubic LQ more than the gate's 2 dB, and so should a pair
    "ours": "--ckpt_path {work}/ddpm/last.ckpt --model.degradation bicubic --model.t_min 50 --model.t_max 150 "
    "--model.psnr_drop null --model.precision bf16",
    "ours_real_esrgan": "--ckpt_path {work}/ddpm/last.ckpt --model.t_min 50 --model.t_max 150 --model.precision bf16",
}
TRAININGS = {
    "handcrafted": ["handcrafted"],
    "ours": ["ours"],
    "ours_real_esrgan": ["ours_real_esrgan"],
    "half": ["handcrafted", "ours"],
    "true": ["true"],
}
"""Which pairs each restorer is trained on, equally many samples of each."""
DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3}
"""What is scored, and the decimals shown."""
DDPM = (
    "fit --config ddpm_small.yaml --data.lq_dir {work}/camera/lq --model.init_from blind_camera "
    "--data.crop_size 32 --trainer.max_steps 6000 --ckpt_path last --output_dir {work}/ddpm"
)


def main() -> None:
    """Read the command line and run what is not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="310 photographs or more, HQ for x4")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--only", nargs="+", help="names of steps")
    parser.add_argument("--iterations", type=int, default=8000, help="of each restorer")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    steps = steps_of(arguments)
    for name in arguments.only or steps:
        if name not in steps:
            parser.error(f"no step {name!r}: expected some of {', '.join(steps)}")
        steps[name]()


def steps_of(arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """All steps by name, in order."""
    work, threads = arguments.work, arguments.threads

    steps: dict[str, Callable[[], None]] = {}

    def add(name: str, words: str) -> None:
        def step() -> None:
            done = work / "done" / name
            if not done.exists():
                run(words.format(work=work), threads)
                done.parent.mkdir(exist_ok=True)
                done.touch()

        steps[name] = step

    steps["photographs"] = lambda: share_out(arguments.photographs, work)
    predict = f"predict --config pairs_natural.yaml --model.threads {threads}"
    for folder, source in (("camera", "scenes"), ("test_pairs", "test")):
        add(folder, f"{predict} {CAMERA} --data.hq_dir {{work}}/{source} --output_dir {{work}}/{folder}")
    add("ddpm", DDPM)
    for start, options in STARTS.items():
        for seed in range(VARIANTS):
            name = f"{start}_{seed}"
            places = f"--data.hq_dir {{work}}/hq --output_dir {{work}}/pairs/{name}"
            add(f"pairs_{name}", f"{predict} {options} --seed_everything {seed} {places}")
    for name, starts in TRAININGS.items():
        folders = ",".join(f"{{work}}/pairs/{start}_{seed}" for start in starts for seed in range(VARIANTS))
        options = f"--data.pairs_dir '[{folders}]' --trainer.max_steps {arguments.iterations}"
        add(f"fit_{name}", f"fit --config rrdb_small.yaml {options} --ckpt_path last --output_dir {{work}}/rrdb_{name}")
        weights = f"--ckpt_path {{work}}/rrdb_{name}/last.ckpt"
        places = f"--data.pairs_dir {{work}}/test_pairs --output_dir {{work}}/scores_{name}"
        add(f"test_{name}", f"test --config rrdb_small.yaml {weights} {places}")
    steps["table"] = lambda: print(table(work))
    return steps


def run(words: str, threads: int) -> None:
    """Run one command of the program."""
    print(f"lightning {words}", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-m", "ddpm_pairs", *shlex.split(words)], check=True, env=environment)


def share_out(photographs: Path, work: Path) -> None:
    """Link each photograph into one of the folders, in a seeded order."""
    found = sorted(photographs.iterdir(), key=lambda path: seed_of("known world", path.name))
    if len(found) < sum(SHARES.values()):
        raise SystemExit(f"{photographs} holds {len(found)} files: expected {sum(SHARES.values())} photographs or more")
    for folder, count in SHARES.items():
        (work / folder).mkdir(parents=True, exist_ok=True)
        for path in found[:count]:
            link = work / folder / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        found = found[count:]


def table(work: Path) -> str:
    """Scores on the test, gains over handcrafted pairs with paired 95% intervals, and the share of the ceiling's."""
    scores = {name: per_picture(work / f"scores_{name}") for name in TRAININGS if (work / f"scores_{name}").is_dir()}
    start = json.loads((work / "scores_handcrafted" / "metrics.json").read_text())["input"]
    ceiling = (scores["true"]["psnr"] - scores["handcrafted"]["psnr"]).mean()
    heads = ["trained on", *(f"{metric}, gain (95%)" for metric in DIGITS), "share of the ceiling's gain in PSNR"]
    rows = [heads, ["---"] * len(heads)]
    rows.append(["enlarged bicubically", *(f"{start[metric]:.{digits}f}" for metric, digits in DIGITS.items()), ""])
    for name, values in scores.items():
        row = [name.replace("_", ", ")]
        for metric, digits in DIGITS.items():
            row.append(f"{values[metric].mean():.{digits}f}")
            if name != "handcrafted":
                gain = values[metric] - scores["handcrafted"][metric]
                found = bootstrap((gain,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
                mean, low, high = (f"{value:+.{digits}f}" for value in (gain.mean(), found.low, found.high))
                row[-1] += f", {mean} ({low} to {high})"
        share = (values["psnr"] - scores["handcrafted"]["psnr"]).mean() / ceiling
        rows.append([*row, "" if name == "handcrafted" else f"{100 * share:.0f}%"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def per_picture(folder: Path) -> dict[str, np.ndarray]:
    """Scores of the test pictures in the order of their keys."""
    with (folder / "pictures.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["key"])
    return {metric: np.array([float(row[metric]) for row in rows]) for metric in DIGITS}


if __name__ == "__main__":
    main()
