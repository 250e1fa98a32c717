"""Table 2 in kind: which way of making LQ trains the best restorer, if the ground truth is known?

The world is that of ``results/known_world``: the demo's camera, 200 of its LQ images without HQ, 80 HQ images, and a
test with ground truth. DSGAN, DASR, PDM, and RealSR's pools are learned from the camera's LQ and the HQ. Pairs of each,
as it is and walked back, train the same small RRDB network with the same loss: only the pairs differ. The originals
also change the training (DASR weighs its loss, DSGAN splits it); that is not done here.

    python -m results.rivals.table2 --photographs web_photos/ --work /tmp/known_world

Steps that ``results/known_world`` has finished in the same folder are not repeated. Otherwise as there.
"""

from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.known_world.study import STARTS as KNOWN
from results.known_world.world import VARIANTS, add_pairs, add_restorer, add_world, variants
from results.rivals.table3 import MEASURED, add_learned
from results.steps import Steps, keep_measured, study_parser

WALK = (
    "--ckpt_path {work}/ddpm/last.ckpt --model.t_min 50 --model.t_max 150 --model.psnr_drop null --model.precision bf16"
)
"""The walk of ``results/known_world``, for every start."""
FOLDER = "rivals/"
"""Folder of the restorers below ``work`` and of their scores below ``work/measured``."""


def main() -> None:
    """Read the command line, run all unfinished steps, and print the table."""
    parser = study_parser(__doc__, 4000)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 310 photographs or more, HQ for x4")
    arguments = parser.parse_args()
    steps = Steps(arguments.work, arguments.threads)
    add_world(steps, arguments.photographs)
    kinds = dict(KNOWN)
    for name, file in add_learned(steps, "{work}/hq", "{work}/camera/lq").items():
        kinds[name] = f"--model.degradation {file} --model.t_max 0"
        kinds[f"{name}_walked"] = f"--model.degradation {file} {WALK}"
    for kind, options in kinds.items():
        add_pairs(steps, kind, options)
        add_restorer(steps, kind, variants(kind), arguments.iterations, FOLDER)
    measured = arguments.work / "measured"
    steps.always("keep", lambda: keep_measured(measured / FOLDER, MEASURED / "table2"))
    steps.always("table", lambda: print(table(measured / FOLDER)))
    steps.run(arguments.only)


def table(folder: Path) -> str:
    """Return the scores on the test, and gains over Real-ESRGAN's pairs with paired 95% intervals.

    Args:
        folder: Folder with ``scores_<kind>`` of each restorer.
    """
    found = {path.name.removeprefix("scores_"): per_picture(path) for path in sorted(folder.glob("scores_*"))}
    reference = found["handcrafted"]
    rows = [["trained on pairs of", *(f"{metric}, gain (95%)" for metric in DIGITS)]]
    start = set_metrics(folder / "scores_handcrafted")["input"]
    rows.append(["nothing: bicubic upscaling", *(f"{start[metric]:.{digits}f}" for metric, digits in DIGITS.items())])
    order = sorted(found, key=lambda kind: found[kind]["psnr"].mean())
    for kind in order:
        cells = [f"{found[kind][metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
        if kind != "handcrafted":
            gains = [
                gain_in_words(found[kind][metric] - reference[metric], digits) for metric, digits in DIGITS.items()
            ]
            cells = [f"{cell}, {gain}" for cell, gain in zip(cells, gains, strict=True)]
        rows.append([kind, *cells])
    return f"{markdown(rows)}\n\n{VARIANTS} variants of each HQ image; one seed per restorer."


if __name__ == "__main__":
    main()
