"""Does adaptation in noise space add to pairs that already look real, if the ground truth is known?

The world is that of ``results/known_world``. ``rrdb_small`` is trained on Real-ESRGAN's pairs, on ours, and on true
pairs. With the first two, it is also trained with adaptation to the camera's 200 LQ images, for equally many
iterations: in noise space, by feature alignment, and by self-consistency with the DDPM.

    python -m results.study_noise_da.known_world --photographs web_photos/ --work /tmp/known_world

Steps that the studies of ``results/known_world`` and ``results/rivals`` have finished in the same folder are not
repeated. Otherwise as there.
"""

from pathlib import Path

from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.known_world.study import STARTS
from results.known_world.world import add_pairs, add_restorer, add_world, variants
from results.rivals.table2 import FOLDER
from results.steps import Steps, keep_measured, study_parser

MEASURED = Path(__file__).with_name("measured") / "known_world"
KINDS = ("handcrafted", "ours")
"""Kinds of pairs with which the restorer also adapts."""
ADAPTATIONS = {
    "noise_da": "noise_da_rrdb_small.yaml --model.ramp {half}",
    "aligned": "align_rrdb_small.yaml --model.ramp {half}",
    "consistent": "consistency_rrdb_small.yaml --model.degraded_by {{work}}/ddpm/last.ckpt",
}
"""Configs and options of the adaptations; ``half`` is half of the iterations."""


def main() -> None:
    """Read the command line, run all unfinished steps, and print the table."""
    parser = study_parser(__doc__, 4000)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 310 photographs or more, HQ for x4")
    arguments = parser.parse_args()
    steps, measured = Steps(arguments.work, arguments.threads), arguments.work / "measured" / FOLDER
    add_world(steps, arguments.photographs)
    for kind, options in STARTS.items():
        add_pairs(steps, kind, options)
        add_restorer(steps, kind, variants(kind), arguments.iterations, FOLDER)
    names = list(STARTS)
    for kind in KINDS:
        for way, options in ADAPTATIONS.items():
            names.append(f"{kind}_{way}")
            add_adapted(steps, kind, names[-1], options.format(half=arguments.iterations // 2), arguments.iterations)
    scores = [measured / f"scores_{name}" for name in names]
    steps.always("keep", lambda: [keep_measured(one, MEASURED / one.name) for one in scores])
    steps.always("table", lambda: print(table(measured, names)))
    steps.run(arguments.only)


def add_adapted(steps: Steps, kind: str, name: str, options: str, iterations: int) -> None:
    """Add the training of a restorer that adapts to the camera's LQ, and its scores on the test.

    Args:
        steps: The study.
        kind: Kind of the pairs.
        name: Name of the restorer.
        options: Its config and options.
        iterations: Training iterations.
    """
    folders = ",".join(f"{{work}}/pairs/{one}" for one in variants(kind))
    run, scores = f"{{work}}/{FOLDER}rrdb_{name}", f"{{work}}/measured/{FOLDER}scores_{name}"
    data = f"--data.pairs_dir '[{folders}]' --data.lq_dir {{work}}/camera/lq --trainer.max_steps {iterations}"
    steps.command(f"{FOLDER}fit_{name}", f"fit --config {options} {data} --ckpt_path last --output_dir {run}")
    places = f"--ckpt_path {run}/last.ckpt --data.pairs_dir {{work}}/test_pairs --output_dir {scores}"
    steps.command(f"{FOLDER}test_{name}", f"test --config rrdb_small.yaml {places}")


def table(measured: Path, names: list[str]) -> str:
    """Return the scores on the test, gains over Real-ESRGAN's pairs, and shares of the gain of true pairs."""
    found = {name: per_picture(measured / f"scores_{name}") for name in names if (measured / f"scores_{name}").is_dir()}
    start, reference = set_metrics(measured / "scores_handcrafted")["input"], found["handcrafted"]
    heads = ["trained on", *(f"{metric}, gain (95%)" for metric in DIGITS), "share of the gain of true pairs in PSNR"]
    rows = [heads]
    rows.append(["nothing: bicubic upscaling", *(f"{start[name]:.{digits}f}" for name, digits in DIGITS.items()), ""])
    for name, values in found.items():
        cells = [f"{values[metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
        share = ""
        if name != "handcrafted":
            gains = [gain_in_words(values[metric] - reference[metric], digits) for metric, digits in DIGITS.items()]
            cells = [f"{cell}, {gain}" for cell, gain in zip(cells, gains, strict=True)]
        if name != "handcrafted" and "true" in found:
            ceiling = (found["true"]["psnr"] - reference["psnr"]).mean()
            share = f"{100 * (values['psnr'] - reference['psnr']).mean() / ceiling:.0f}%"
        rows.append([name, *cells, share])
    return markdown(rows)


if __name__ == "__main__":
    main()
