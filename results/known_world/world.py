"""The known world: photographs divided among a simulated camera, the HQ of pairs, and a test with ground truth."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ddpm_pairs.tensors import seed_of
from results.realism import RealPictures, compare, kept
from results.steps import Steps, keep_measured, study_parser

MEASURED = Path(__file__).with_name("measured")
"""Measurements of the studies in this world."""
SHARES = {"scenes": 200, "hq": 80, "test": 30}
REAL = "the camera's, half against half"
"""Label of the floor in tables."""
VARIANTS = 4
"""Number of pairs per HQ image, each with its own random degradation."""
PROBE = "ours"
"""The kind of pairs, from bicubic LQ, with which ``start.yaml`` is calibrated."""
CAMERA = "--model.degradation ddpm_pairs.demo.camera.Camera --model.t_max 0"
DDPM = (
    "fit --config ddpm_small.yaml --data.lq_dir {work}/camera/lq --model.init_from blind_camera "
    "--data.crop_size 32 --trainer.max_steps 6000 --ckpt_path last --output_dir {work}/ddpm"
)


def run_study(
    description: str,
    iterations: int,
    starts: Mapping[str, str],
    trainings: Mapping[str, list[str]],
    tables: Callable[[Path], str],
    folder: str = "",
) -> None:
    """Read the command line, run all unfinished steps, and print tables.

    Args:
        description: Description of the study, for its help.
        iterations: Default number of training iterations per restorer.
        starts: Options of ``predict`` by kind of pairs; those after ``PROBE`` may use ``{work}/start.yaml``.
        trainings: Folders of pairs by restorer.
        tables: Turns the folder of measurements into the text to print at the end.
        folder: Folder of restorers and measurements, see ``add_restorer``.
    """
    parser = study_parser(description, iterations)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 310 photographs or more, HQ for x4")
    arguments = parser.parse_args()
    steps = Steps(arguments.work, arguments.threads)
    add_world(steps, arguments.photographs)
    for kind, options in starts.items():
        add_pairs(steps, kind, options)
        if kind == PROBE:
            steps.command("start", f"calibrate {{work}}/pairs/{PROBE}_0 {{work}}/camera/lq {{work}}/start.yaml")
    for name, pairs in trainings.items():
        add_restorer(steps, name, pairs, arguments.iterations, folder)
    steps.always("measure", lambda: measure(arguments.work, trainings, folder))
    add_tables(steps, tables)
    steps.run(arguments.only)


def measure(work: Path, trainings: Mapping[str, list[str]], folder: str) -> None:
    """Compare the pairs of each restorer that is already scored with the camera's images."""
    real, out = RealPictures(work / "camera" / "lq"), work / "measured" / folder
    kept(out / "floor.json", real.floor)
    for name, pairs in trainings.items():
        if (out / f"scores_{name}").is_dir():
            kept(out / f"{name}.json", partial(compare, real, [work / "pairs" / one for one in pairs]))


def add_tables(steps: Steps, tables: Callable[[Path], str]) -> None:
    """Add steps that copy the measurements and print their tables."""
    measured = steps.work / "measured"
    steps.always("keep", lambda: keep_measured(measured, MEASURED))
    steps.always("table", lambda: print(tables(measured)))


def add_world(steps: Steps, photographs: Path) -> None:
    """Add the photographs, the camera's LQ images, the test, and the DDPM trained on the camera."""
    steps.always("photographs", lambda: share_out(photographs, steps.work))
    for folder, source in (("camera", "scenes"), ("test_pairs", "test")):
        places = f"--data.hq_dir {{work}}/{source} --output_dir {{work}}/{folder}"
        steps.command(folder, f"{predict(steps)} {CAMERA} {places}")
    steps.command("ddpm", DDPM)


def variants(*kinds: str) -> list[str]:
    """Return the folder names of all pairs of these kinds."""
    return [f"{kind}_{seed}" for kind in kinds for seed in range(VARIANTS)]


def add_pairs(steps: Steps, kind: str, options: str) -> None:
    """Add pairs of the HQ images, one folder per variant."""
    for seed, name in enumerate(variants(kind)):
        places = f"--data.hq_dir {{work}}/hq --output_dir {{work}}/pairs/{name}"
        steps.command(f"pairs_{name}", f"{predict(steps)} {options} --seed_everything {seed} {places}")


def add_restorer(steps: Steps, name: str, pairs: list[str], iterations: int, folder: str) -> None:
    """Add the training of a restorer, with equal shares of each folder of pairs, and its scores on the test.

    Args:
        steps: The study.
        name: Name of the restorer.
        pairs: Names of the pairs' folders.
        iterations: Training iterations.
        folder: Folder of restorers below ``work`` and of scores below ``work/measured``, with a final slash.
    """
    folders = ",".join(f"{{work}}/pairs/{one}" for one in pairs)
    run, scores = f"{{work}}/{folder}rrdb_{name}", f"{{work}}/measured/{folder}scores_{name}"
    options = f"--data.pairs_dir '[{folders}]' --trainer.max_steps {iterations}"
    fit = f"fit --config rrdb_small.yaml {options} --ckpt_path last --output_dir {run}"
    steps.command(f"{folder}fit_{name}", fit)
    places = f"--ckpt_path {run}/last.ckpt --data.pairs_dir {{work}}/test_pairs --output_dir {scores}"
    steps.command(f"{folder}test_{name}", f"test --config rrdb_small.yaml {places}")


def predict(steps: Steps) -> str:
    """Return the start of every command that makes pairs."""
    return f"predict --config pairs_natural.yaml --model.threads {steps.threads}"


def share_out(photographs: Path, work: Path) -> None:
    """Link each photograph into one of the folders, in a seeded order."""
    found = sorted(photographs.iterdir(), key=lambda path: seed_of("known world", path.name))
    if len(found) < sum(SHARES.values()):
        raise SystemExit(f"--photographs: got {len(found)} files; expected {sum(SHARES.values())} or more")
    for folder, count in SHARES.items():
        (work / folder).mkdir(parents=True, exist_ok=True)
        for path in found[:count]:
            link = work / folder / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        found = found[count:]
