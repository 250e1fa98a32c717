"""Which pairs train the best restorer, if the ground truth is known?

The camera is the demo's. From one folder of photographs, 200 become the camera's LQ images, without their HQ; 80 are
HQ for pairs; 30 with their true LQ are the test. A DDPM is trained on the camera. The same small RRDB network is
trained on handcrafted pairs, on our pairs, on half of each, and on true pairs, which are the ceiling.

    python -m results.known_world.study --photographs web_photos/ --work /tmp/known_world

Each step is one command of the program, which is printed. Finished steps are skipped, and interrupted steps resume, so
rerun the same command after any interruption. ``--only`` runs some steps, for example two trainings in two terminals.
The last step prints the tables.
"""

from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.known_world.world import CAMERA, REAL, run_study, variants
from results.realism import realism_table

STARTS = {
    "handcrafted": "--model.degradation real_esrgan --model.t_max 0",
    "true": CAMERA,
    # the camera lowers the PSNR of bicubic LQ by more than the gate's 2 dB, and so should a pair
    "ours": "--ckpt_path {work}/ddpm/last.ckpt --model.degradation bicubic --model.t_min 50 --model.t_max 150 "
    "--model.psnr_drop null --model.precision bf16",
}
TRAININGS = {
    "handcrafted": variants("handcrafted"),
    "ours": variants("ours"),
    "half": variants("handcrafted", "ours"),
    "true": variants("true"),
}
"""Folders of pairs for each restorer; each folder contributes the same number of samples."""


def tables(measured: Path) -> str:
    """Return the tables: pairs compared with the camera's images; restorers' scores, with paired 95% intervals."""
    return f"{realism_table(measured, REAL, TRAININGS)}\n\n{restorer_table(measured)}"


def restorer_table(measured: Path) -> str:
    """Return scores on the test, gains over handcrafted pairs with paired 95% intervals, and shares of the ceiling."""
    scores = {name: per_picture(measured / f"scores_{name}") for name in TRAININGS}
    start = set_metrics(measured / "scores_handcrafted")["input"]
    handcrafted, ceiling = scores["handcrafted"], (scores["true"]["psnr"] - scores["handcrafted"]["psnr"]).mean()
    heads = ["trained on", *(f"{metric}, gain (95%)" for metric in DIGITS), "share of the ceiling's gain in PSNR"]
    unrestored = [f"{start[metric]:.{digits}f}" for metric, digits in DIGITS.items()]
    rows = [heads, ["nothing: bicubic upscaling", *unrestored, ""]]
    for name, values in scores.items():
        row = [name, *(f"{values[metric].mean():.{digits}f}" for metric, digits in DIGITS.items()), ""]
        if name != "handcrafted":
            for column, (metric, digits) in enumerate(DIGITS.items(), start=1):
                row[column] += f", {gain_in_words(values[metric] - handcrafted[metric], digits)}"
            row[-1] = f"{100 * (values['psnr'] - handcrafted['psnr']).mean() / ceiling:.0f}%"
        rows.append(row)
    return markdown(rows)


if __name__ == "__main__":
    run_study(__doc__, 8000, STARTS, TRAININGS, tables)
