"""Which pairs train the best restorer? A small search over recipes, with known ground truth.

The data is that of ``results/known_world``, so nothing is selected on the images that evaluate Study B. Each recipe
makes four variants of the 80 HQ images and is scored by a short training of the small RRDB network.

    python -m results.study_b.search --photographs web_photos/ --work /tmp/known_world

The folder may be that of the known world's study, whose images, DDPM, and pairs are then used. The last step prints the
table. It also compares each recipe's LQ with the camera's, to show which scores predict a good restorer.
"""

from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture
from results.known_world.world import CAMERA, REAL, run_study, variants
from results.realism import HEADS, load

FOLDER = "search/"

DDPM = "--ckpt_path {work}/ddpm/last.ckpt --model.psnr_drop null --model.precision bf16"


def walked(start: str, t_min: int, t_max: int) -> str:
    """Return the options of pairs from a start and a range of t."""
    return f"{DDPM} {start} --model.t_min {t_min} --model.t_max {t_max}"


BASE = "handcrafted"
"""The baseline of the comparison."""
STARTS = {
    BASE: "--model.degradation real_esrgan --model.t_max 0",
    "true": CAMERA,
    "ours": walked("--model.degradation bicubic", 50, 150),
    "calibrated": "--config {work}/start.yaml --model.t_max 0",
    "calibrated_50_150": walked("--config {work}/start.yaml", 50, 150),
    "calibrated_noisy_50_150": walked("--config {work}/start.yaml --config results/study_b/noisy.yaml", 50, 150),
    "bicubic_10_40": walked("--model.degradation bicubic", 10, 40),
    "bicubic_100_250": walked("--model.degradation bicubic", 100, 250),
    "blur_50_150": walked("--config results/study_b/mild_blur.yaml", 50, 150),
    "classical_50_150": walked("--model.degradation classical", 50, 150),
    "classical_200": walked("--model.degradation classical", 200, 200),
    "real_esrgan_50_150": walked("--model.degradation real_esrgan", 50, 150),
    "bsrgan_50_150": walked("--model.degradation bsrgan", 50, 150),
}
TRAININGS = {kind: variants(kind) for kind in STARTS} | {
    "half": variants("handcrafted", "ours"),
    "one_variant": variants("calibrated_50_150")[:1],
}
"""Folders of pairs for each restorer; each folder contributes the same number of samples."""


def table(measured: Path) -> str:
    """Return the table: each recipe's LQ compared with the camera's, and the scores of the restorer trained on it."""
    search = measured / FOLDER
    rows = [["pairs", "PSNR of a pair", *HEADS, *(metric.upper() for metric in DIGITS), f"PSNR over {BASE}"]]
    rows.append([REAL, "", *load(search / "floor.json").cells(), *[""] * (len(DIGITS) + 1)])
    base = per_picture(search / f"scores_{BASE}")["psnr"]
    for name in TRAININGS:
        if (search / f"{name}.json").exists():
            found, values = load(search / f"{name}.json"), per_picture(search / f"scores_{name}")
            row = [name, f"{found.psnr:.1f}", *found.cells()]
            row += [f"{values[metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
            gain = "" if name == BASE else gain_in_words(values["psnr"] - base, DIGITS["psnr"])
            rows.append([*row, gain])
    return markdown(rows)


if __name__ == "__main__":
    run_study(__doc__, 4000, STARTS, TRAININGS, table, FOLDER)
