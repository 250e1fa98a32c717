"""ReDegNet where the ground truth is known: codes of a camera, read from its faces, on natural images.

The world is that of ``results/known_world``: the demo's camera, 200 of its natural LQ images without HQ, 80 HQ images,
and a test with ground truth. In addition, the camera takes pictures of half of a folder of faces. A small GPEN, trained
on the other half with a handcrafted degradation, restores them; ReDegNet learns from these pairs, and from pairs with
the true faces as the best case. Their banks are compared with the camera's natural LQ, as they are and walked, and
their pairs train the same small RRDB network as those of ``results/rivals``.

    python -m results.redegnet.known_world --photographs web_photos/ --faces faces/ --work /tmp/known_world

Steps that other studies of this world have finished in the same folder are not repeated. Each step is one command of
the program, which is printed. Finished steps are skipped, and interrupted steps resume, so rerun the same command after
any interruption. ``--only`` runs some steps.
"""

from pathlib import Path

from ddpm_pairs.tensors import seed_of
from results.known_world.world import CAMERA, add_pairs, add_restorer, add_world, predict, variants
from results.rivals.table2 import FOLDER, WALK
from results.rivals.table2 import table as restorer_table
from results.steps import Steps, keep_measured, study_parser

MEASURED = Path(__file__).with_name("measured")
GPEN = (
    "fit --config gpen_small.yaml --data DegradedImages --data.hq_dir {work}/faces/gpen --data.degradation "
    "ddpm_pairs.degradations.OnHQGrid --data.crop_size 256 --data.batch_size 4 --trainer.max_steps 4000 "
    "--model.net.init_args.size 256 --model.discriminator.init_args.size 256 "
    "--model.discriminator.init_args.narrow 0.0625 --ckpt_path last --output_dir {work}/gpen"
)
FACES = {
    "redegnet": "--data.faces_dir {work}/faces/camera_pairs/lq --data.restorer {work}/gpen/last.ckpt",
    "redegnet_true_faces": "--data.faces_dir {work}/faces/camera_pairs",
}
"""Face data of each ReDegNet: faces restored by GPEN, and the true ones."""
STARTS = ("real_esrgan", "bicubic")
SEEDS = (0, 1, 2)


def main() -> None:
    """Read the command line, run all unfinished steps, and print the restorers' table."""
    parser = study_parser(__doc__, 4000)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 310 photographs or more, HQ for x4")
    parser.add_argument("--faces", type=Path, required=True, help="folder of aligned HQ faces of 256 px")
    arguments = parser.parse_args()
    steps, measured = Steps(arguments.work, arguments.threads), arguments.work / "measured"
    add_world(steps, arguments.photographs)
    steps.always("faces", lambda: share_faces(arguments.faces, arguments.work / "faces"))
    places = "--data.hq_dir {work}/faces/camera --output_dir {work}/faces/camera_pairs"
    steps.command("camera_pairs", f"{predict(steps)} {CAMERA} {places}")
    steps.command("gpen", GPEN)
    for name, faces in FACES.items():
        add_bank(steps, name, faces)
    add_realism(steps, measured)
    for name in FACES:
        for kind, t in ((name, "--model.t_max 0"), (f"{name}_walked", WALK)):
            add_pairs(steps, kind, f"--model.degradation {{work}}/{name}.safetensors {t}")
            add_restorer(steps, kind, variants(kind), arguments.iterations, FOLDER)
    steps.always("keep", lambda: keep_restorers(measured / FOLDER))
    steps.always("table", lambda: print(restorer_table(measured / FOLDER)))
    steps.run(arguments.only)


def share_faces(faces: Path, work: Path) -> None:
    """Link half of the faces for the camera and half for GPEN, in a seeded order."""
    found = sorted(faces.iterdir(), key=lambda path: seed_of("known faces", path.name))
    half = len(found) // 2
    for folder, part in (("camera", found[:half]), ("gpen", found[half:])):
        (work / folder).mkdir(parents=True, exist_ok=True)
        for path in part:
            link = work / folder / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())


def add_bank(steps: Steps, name: str, faces: str) -> None:
    """Add a ReDegNet and the bank of its codes.

    Args:
        steps: The study.
        name: Its name.
        faces: Options of its face data.
    """
    run, out = f"{{work}}/{name}", f"{{work}}/{name}.safetensors"
    options = f"{faces} --data.hq_dir {{work}}/hq --ckpt_path last --output_dir {run}"
    steps.command(f"fit_{name}", f"fit --config redegnet_small.yaml {options}")
    pairs = f"{run}/faces" if "--data.restorer" in faces else "{work}/faces/camera_pairs"
    steps.command(f"bank_{name}", f"bank {run}/last.ckpt {pairs} {out}")


def add_realism(steps: Steps, measured: Path) -> None:
    """Add the study of starts on the camera's natural LQ, once per seed."""
    starts = ",".join([*STARTS, *(f"{{work}}/{name}.safetensors" for name in FACES)])
    for seed in SEEDS:
        out = f"{{work}}/redegnet_starts_{seed}"
        options = f"--model.degradations '[{starts}]' --model.ts '[0,50,100,150]' --model.pictures 80"
        places = "--ckpt_path {work}/ddpm/last.ckpt --data.hq_dir {work}/hq --data.lq_dir {work}/camera/lq"
        words = f"test --config table3.yaml {options} {places} --output_dir {out} --seed_everything {seed}"
        steps.command(f"starts_{seed}", f"{words} --model.threads {steps.threads}")
        steps.once(f"keep_{seed}", lambda seed=seed: keep_starts(measured.parent, seed))


def keep_starts(work: Path, seed: int) -> None:
    """Copy the table of one seed to the measurements."""
    MEASURED.mkdir(exist_ok=True)
    table = (work / f"redegnet_starts_{seed}" / "starts.csv").read_bytes()
    (MEASURED / f"starts_{seed}.csv").write_bytes(table)


def keep_restorers(measured: Path) -> None:
    """Copy the scores of the restorers of ReDegNet's pairs."""
    for name in FACES:
        for kind in (name, f"{name}_walked"):
            keep_measured(measured / f"scores_{kind}", MEASURED / f"scores_{kind}")


if __name__ == "__main__":
    main()
