"""Table 3: which way of making LQ comes closest to a blind camera, as it is and as the start of a walk?

Four degradations are learned from the camera's LQ images and unrelated HQ photographs, each for at most one hour of one
core. Then the study of starts (``lightning test --config table3.yaml``) compares them with the handcrafted ones, once
per seed.

    python -m results.rivals.table3 --data data/ --work /tmp/rivals

Each step is one command of the program, which is printed. Finished steps are skipped, and interrupted steps resume, so
rerun the same command after any interruption. ``--only`` runs some steps, for example two fits in two terminals. The
last step prints the table.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from results.known_world.gains import markdown
from results.steps import Steps, keep_measured, study_parser

MEASURED = Path(__file__).with_name("measured")
GANS = ("dsgan", "dasr", "pdm")
HANDCRAFTED = ("real_esrgan", "bicubic", "bsrgan", "classical")
KERNELS = 24
"""Kernels of the pools, which take about a quarter of an hour of one core."""
SEEDS = (0, 1, 2)
PICTURES, TS = 150, "[0,50,100,150]"
HEADS = {
    "fid": ("FID", 1, 1),
    "kid": ("KID x 1000", 1000, 1),
    "fid192": ("fid192", 1, 2),
    "share_kid": ("way by KID", 100, 0),
    "share_fid192": ("way by fid192", 100, 0),
    "chroma_noise": ("chroma noise", 1, 2),
    "power_1/4-1/2": ("finest octave, dB", 1, 1),
    "psnr_median": ("median PSNR", 1, 1),
    "milliseconds": ("ms per pair", 1, 0),
}
"""Columns of ``starts.csv``, their headers, factors, and numbers of decimals."""


def main() -> None:
    """Read the command line, run all unfinished steps, and print the table."""
    parser = study_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hq_natural/ and blind_camera/")
    arguments = parser.parse_args()
    steps, data = Steps(arguments.work, arguments.threads), arguments.data.resolve()
    hq, lq = data / "hq_natural" / "web_photos", data / "blind_camera" / "lq_train"
    learned = add_learned(steps, str(hq), str(lq))
    starts = ",".join([*HANDCRAFTED, *learned.values()])
    for seed in SEEDS:
        options = f"--model.degradations '[{starts}]' --model.ts '{TS}' --model.pictures {PICTURES}"
        places = f"--ckpt_path blind_camera --data.hq_dir {hq} --data.lq_dir {lq} --output_dir {{work}}/table3_{seed}"
        words = f"test --config table3.yaml {options} {places} --seed_everything {seed}"
        steps.command(f"table3_{seed}", f"{words} --model.threads {arguments.threads}")
        steps.once(f"keep_{seed}", lambda seed=seed: keep(arguments.work, seed))
    steps.always("keep", lambda: keep_measured(arguments.work / "measured", MEASURED))
    steps.always("table", lambda: print(table(arguments.work / "measured")))
    steps.run(arguments.only)


def add_learned(steps: Steps, hq: str, lq: str) -> dict[str, str]:
    """Add the fits of the GANs and the pools.

    Args:
        steps: The study.
        hq: Folder of HQ images.
        lq: Folder of real LQ images.

    Returns:
        The file of each degradation, by name, in which ``{work}`` is the folder of the study.
    """
    for name in GANS:
        places = f"--data.hq_dir {hq} --data.lq_dir {lq} --ckpt_path last --output_dir {{work}}/{name}"
        steps.command(f"fit_{name}", f"fit --config {name}_small.yaml {places}")
        steps.command(f"export_{name}", f"export {{work}}/{name}/last.ckpt {{work}}/{name}.safetensors")
    steps.command("pools", f"pools {lq} {{work}}/realsr.safetensors --kernels {KERNELS}")
    return {name: f"{{work}}/{name}.safetensors" for name in (*GANS, "realsr")}


def keep(work: Path, seed: int) -> None:
    """Copy the table of one seed to the measurements."""
    target = work / "measured" / f"table3_{seed}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((work / f"table3_{seed}" / "starts.csv").read_bytes())


def table(measured: Path) -> str:
    """Return the table of all seeds: means, and in parentheses the lowest and the highest value."""
    seeds = [_rows(path) for path in sorted(measured.glob("table3_*.csv"))]
    rows = [["LQ", "t", *(head for head, _, _ in HEADS.values())]]
    for place, row in enumerate(seeds[0]):
        ts = sorted({int(one[place]["t"]) for one in seeds if one[place]["t"]})
        cells = []
        for name, (_, factor, digits) in HEADS.items():
            values = [float(one[place][name]) * factor for one in seeds if one[place][name]]
            cells.append(_spread(values, digits))
        rows.append([row["degradation"], ", ".join(map(str, ts)), *cells])
    return markdown(rows)


def _rows(path: Path) -> list[Mapping[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return ""
    low, mean, high = (f"{one:.{digits}f}" for one in (min(values), np.mean(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


if __name__ == "__main__":
    main()
