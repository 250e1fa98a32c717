"""A blind camera: how close are our LQ images to its own, and do they train a better restorer than handcrafted ones?

Of the camera, there are 625 LQ images and nothing else. Restorers are trained on Real-ESRGAN pairs, on ours, on half of
each, and on ours without calibration, with equal budgets. They restore other images of the camera, and images of other
cameras for which there is ground truth.

    python -m results.study_b.study --data data/ --work work/

``data/`` contains `blind_camera/lq_train`, `blind_camera/lq_test`, `hq_natural/web_photos`, `hq_natural/bsds500_train`,
and `realsr_test`. Finished steps are skipped, and interrupted steps resume. ``--only`` runs some steps, for example two
trainings in two terminals. The last step prints the tables.
"""

import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

from ddpm_pairs.tensors import seed_of
from results.realism import RealPictures, compare, kept, read
from results.steps import Steps, keep_measured, study_parser
from results.study_b.figure import save_figure, save_restored
from results.study_b.tables import COMPARED, LQ, PHOTOGRAPHS, SEEDS, TRAININGS, best_seed, tables

HELD_OUT = 30
"""Number of HQ images whose pairs select between seeds and are not trained on."""
VARIANTS = 4
WALK = "--ckpt_path blind_camera --model.precision bf16 --model.psnr_drop null --model.t_min 50 --model.t_max 150"
PROBE = f"{WALK} --model.degradation bicubic"
"""Options of the pairs with which the start is calibrated."""
KINDS = {
    "handcrafted": "--model.degradation real_esrgan --model.t_max 0",
    "ours": f"{WALK} --config {{work}}/start.yaml",
}
TRAINED = KINDS | {"shipped": PROBE}
"""Pairs on which restorers are trained; the last are those of `pairs_natural.yaml` as it is shipped."""
RELEASED = "--model.degradation ddpm_pairs.degradations.RealESRGAN --model.degradation.jpeg released --model.t_max 0"
"""Options of the handcrafted pairs with the JPEG of Real-ESRGAN's released code; the other draws are the same."""
VARIED = TRAINED | {"released": RELEASED}
"""Pairs of which there are several variants of each photograph."""
STARTS = {
    **{name: f"--model.degradation {name} --model.t_max 0" for name in ("bicubic", "classical", "bsrgan")},
    "calibrated": "--config {work}/start.yaml --model.t_max 0",
}
"""LQ without a walk that only the first table shows."""
EXPORTED = ("handcrafted", "pairs", "mix")
"""Restorers whose weights are kept in this folder."""
RESTORERS = [f"{name}_{seed}" for name in TRAININGS for seed in range(SEEDS[name])]


def main() -> None:
    """Read the command line and run all unfinished steps."""
    parser = study_parser(__doc__, iterations=8000)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    arguments = parser.parse_args()
    steps = Steps(arguments.work, arguments.threads)
    data = arguments.data.resolve()
    camera = data / "blind_camera" / "lq_train"
    steps.always("photographs", lambda: link_photographs(data / "hq_natural", arguments.work))
    predict = f"predict --config pairs_natural.yaml --model.threads {arguments.threads}"
    for kind, options in ({"probe": PROBE} | VARIED | STARTS).items():
        for seed in range(VARIANTS if kind in VARIED else 1):
            places = f"--data.hq_dir {{work}}/hq --output_dir {{work}}/pairs/{kind}_{seed}"
            steps.command(f"pairs_{kind}_{seed}", f"{predict} {options} --seed_everything {seed} {places}")
        if kind == "probe":
            steps.command("start", f"calibrate {{work}}/pairs/probe_0 {camera} {{work}}/start.yaml")
    for kind, options in KINDS.items():
        places = f"--data.hq_dir {{work}}/held_out --output_dir {{work}}/held_out_pairs/{kind}"
        steps.command(f"held_out_{kind}", f"{predict} {options} --seed_everything {VARIANTS} {places}")
    steps.once("figure", partial(save_figure, arguments.work, camera, Path(__file__).with_name("pairs.png")))
    for restorer in RESTORERS:
        add_restorer(steps, restorer, arguments.iterations, data)
    restored = partial(save_restored, arguments.work, data / "blind_camera" / "lq_test")
    steps.once("restored", lambda: restored(Path(__file__).with_name("restored.png")))
    steps.always("measure_lq", lambda: measure_lq(arguments.work, camera))
    steps.always("measure_restored", lambda: measure_restored(arguments.work))
    for name in EXPORTED:
        steps.once(f"export_{name}", partial(export, arguments.work, name))
    measured = arguments.work / "measured"
    steps.always("keep", lambda: keep_measured(measured, Path(__file__).with_name("measured")))
    steps.always("table", lambda: print(tables(measured)))
    steps.run(arguments.only)


def link_photographs(photographs: Path, work: Path) -> None:
    """Link the photographs into one folder, except for those that are held out."""
    found = [path for name in PHOTOGRAPHS for path in sorted((photographs / name).iterdir())]
    found.sort(key=lambda path: seed_of("study b", path.name))
    for number, path in enumerate(found):
        link = work / ("held_out" if number < HELD_OUT else "hq") / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path)


def add_restorer(steps: Steps, restorer: str, iterations: int, data: Path) -> None:
    """Train a restorer, score it on held-out pairs and real pairs of other cameras, and restore this one's images."""
    name, seed = restorer.rsplit("_", 1)
    folders = ",".join(f"{{work}}/pairs/{kind}_{n}" for kind in TRAININGS[name] for n in range(VARIANTS))
    run = f"{{work}}/rrdb_{restorer}"
    options = f"--data.pairs_dir '[{folders}]' --trainer.max_steps {iterations} --seed_everything {seed}"
    steps.command(f"fit_{restorer}", f"fit --config rrdb_small.yaml {options} --ckpt_path last --output_dir {run}")
    weights = f"--config rrdb_small.yaml --ckpt_path {run}/last.ckpt"
    held_out = "[" + ",".join(f"{{work}}/held_out_pairs/{kind}" for kind in KINDS) + "]"
    for test, pairs in (("held_out", f"'{held_out}'"), ("realsr", data / "realsr_test")):
        places = f"--data.pairs_dir {pairs} --output_dir {{work}}/measured/{test}_{restorer}"
        steps.command(f"{test}_{restorer}", f"test {weights} {places}")
    restored = f"{{work}}/lq_test_{restorer}"
    places = f"--data.lq_dir {data}/blind_camera/lq_test --output_dir {restored}"
    steps.command(f"restore_{restorer}", f"predict {weights} {places}")


def export(work: Path, name: str) -> None:
    """Write the best seed's weights as float16 to this folder, replacing those of an earlier run."""
    out = Path(__file__).with_name(f"rrdb_{name}.safetensors")
    weights = work / f"rrdb_{name}_{best_seed(work / 'measured', name)}" / "last.ckpt"
    out.unlink(missing_ok=True)  # the program does not overwrite the file of an earlier run
    subprocess.run([sys.executable, "-m", "ddpm_pairs", "export", weights, out, "--half"], check=True)


def measure_lq(work: Path, real_dir: Path) -> None:
    """Compare LQ of each kind with the camera's, and those of ``COMPARED`` also by source of HQ."""
    real, out, pairs = RealPictures(real_dir), work / "measured" / "lq", work / "pairs"
    kept(out / "floor.json", real.floor)
    for kind in LQ:
        folders = [pairs / f"{kind}_{seed}" for seed in range(VARIANTS if kind in COMPARED else 1)]
        kept(out / f"{kind}.json", partial(compare, real, folders))
    for kind, photographs in product(COMPARED, PHOTOGRAPHS):
        folders = [pairs / f"{kind}_{seed}" / "lq" / photographs for seed in range(VARIANTS)]
        kept(out / f"{kind}_{photographs}.json", lambda lq=folders: real.compare(read(*lq)))


def measure_restored(work: Path) -> None:
    """Compare each restorer's results on the test with the HQ photographs; unfinished restorers are skipped."""
    sharp = RealPictures(work / "hq", side=128)
    for restorer in RESTORERS:
        folder = work / f"lq_test_{restorer}" / "restored"
        if (work / "done" / f"restore_{restorer}").exists():
            kept(work / "measured" / "restored" / f"{restorer}.json", lambda lq=folder: sharp.compare(read(lq)))


if __name__ == "__main__":
    main()
