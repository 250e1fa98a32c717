"""Faces: realism over t and handcrafted starts, and GPENs trained on handcrafted pairs and on ours.

LQ faces are LFW's, 250 px; their center is cropped, and they are never resized. HQ faces are undegraded portraits of
256 px. They are shrunk and cropped, so that the mean faces of both sets have their eyes at the same position.

    python -m results.study_a.study --data data/ --work work/

``data/`` contains `lq_faces/lfw`, `hq_faces/train`, and `hq_faces/test`. Finished steps are skipped, and interrupted
steps resume. ``--only`` runs some steps. The last step prints the tables.
"""

from functools import partial
from pathlib import Path

from PIL import Image

from ddpm_pairs.files import write_atomically
from results.realism import RealPictures, compare, kept, read
from results.steps import Steps, keep_measured, study_parser
from results.study_a.figure import save_pairs, save_restored
from results.study_a.tables import LQ, tables
from results.t_studies import keep_t_study

HERE = Path(__file__).parent
LQ_SIDE, FACE_SIDE = 144, 128
"""px: side of LFW's center from which the DDPM crops; side of GPEN's faces."""
HQ_SIDE, HQ_CORNER = 173, (22, 31)
"""px: side of shrunk HQ, with eyes 42 px apart as in LFW; left and top edge of the face in it."""
PROBES = 150
"""Number of HQ faces with which the start is calibrated."""
DDPM_STEPS, PRIOR_STEPS = 4000, 3000
WALK = "--ckpt_path {work}/ddpm/last.ckpt --model.precision bf16"
STARTS = ("bicubic", "classical", "bsrgan", "real_esrgan")
ON_HQ_GRID = "{{{{class_path: ddpm_pairs.degradations.OnHQGrid, init_args: {{{{degradation: {}}}}}}}}}"
STUDIES = {
    "natural": ("[0,50,100,200,300]", ",".join(STARTS)),
    "faces": (
        "[0,100,200]",
        ",".join("classical_faces" if n == 1 else ON_HQ_GRID.format(s) for n, s in enumerate(STARTS)),
    ),
}
"""t and degradations: at HQ size, or smaller and resized back to the HQ grid."""
RANGE = f"{WALK} --model.psnr_drop null --model.t_min 50 --model.t_max 150"
PROBE = f"{RANGE} --model.degradation bicubic"
KINDS = {
    "handcrafted": "--model.degradation real_esrgan --model.t_max 0",
    "ours": f"{RANGE} --config {{work}}/start.yaml",
}
SIZES = f"--model.net.init_args.size {FACE_SIDE} --model.discriminator.init_args.size {FACE_SIDE}"
GPEN = f"--config gpen_small.yaml {SIZES} --data.crop_size {FACE_SIDE}"


def main() -> None:
    """Read the command line and run all unfinished steps."""
    parser = study_parser(__doc__, iterations=3000)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    arguments = parser.parse_args()
    steps = Steps(arguments.work, arguments.threads)
    steps.once("faces", partial(cut_faces, arguments.data, arguments.work))
    steps.command(
        "ddpm",
        "fit --config ddpm_small.yaml --data.lq_dir {work}/lq --model.init_from blind_camera "
        f"--trainer.max_steps {DDPM_STEPS} --ckpt_path last --output_dir {{work}}/ddpm",
    )
    add_pairs(steps)
    steps.command(
        "prior",
        f"fit --config gpen_small_prior.yaml {SIZES} --data.hq_dir {{work}}/hq_train --data.crop_size {FACE_SIDE} "
        f"--trainer.max_steps {PRIOR_STEPS} --ckpt_path last --output_dir {{work}}/prior",
    )
    for kind in KINDS:
        add_restorer(steps, kind, arguments.iterations)
    steps.once("t_study_figures", lambda: show_t_study(arguments.work / "t_study_natural"))
    steps.once("pairs_figure", lambda: save_pairs(arguments.work, HERE / "pairs.png"))
    steps.once("restored_figure", lambda: save_restored(arguments.work, HERE / "restored.png"))
    steps.always("measure", lambda: measure(arguments.work))
    measured = arguments.work / "measured"
    steps.always("keep", lambda: keep_measured(measured, HERE / "measured"))
    steps.always("table", lambda: print(tables(measured)))
    steps.run(arguments.only)


def cut_faces(data: Path, work: Path) -> None:
    """Crop LFW, and shrink and crop HQ."""
    for path in sorted((data / "lq_faces" / "lfw").iterdir()):
        face = Image.open(path).convert("RGB")
        for name, side in (("lq", LQ_SIDE), ("lq_faces", FACE_SIDE)):
            save(crop(face, (face.width - side) // 2, (face.height - side) // 2, side), work / name / path.name)
    for name in ("train", "test"):
        for number, path in enumerate(sorted((data / "hq_faces" / name).iterdir())):
            face = Image.open(path).convert("RGB").resize((HQ_SIDE, HQ_SIDE), Image.Resampling.LANCZOS)
            face = crop(face, *HQ_CORNER, FACE_SIDE)
            save(face, work / f"hq_{name}" / path.name)
            if name == "train" and number < PROBES:
                save(face, work / "hq_probe" / path.name)


def crop(picture: Image.Image, left: int, top: int, side: int) -> Image.Image:
    """Crop a square."""
    return picture.crop((left, top, left + side, top + side))


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG with this name and the suffix .png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path.with_suffix(".png"))


def add_pairs(steps: Steps) -> None:
    """Add the t study for both presets, the calibrated start, and the pairs for training and test."""
    for preset, (ts, starts) in STUDIES.items():
        options = f"{WALK} --model.scale 1 --model.degradations '[{starts}]' --model.pictures 120"
        options += f" --model.ts {ts} --model.threads {steps.threads}"
        places = "--data.hq_dir {work}/hq_train --data.lq_dir {work}/lq"
        places += f" --output_dir {{work}}/t_study_{preset}"
        steps.command(f"t_study_{preset}", f"test --config ablation.yaml {options} {places}")
    predict = f"predict --config pairs_natural.yaml --model.scale 1 --model.threads {steps.threads}"
    steps.command("probe", f"{predict} {PROBE} --data.hq_dir {{work}}/hq_probe --output_dir {{work}}/probe")
    steps.command("start", "calibrate {work}/probe {work}/lq {work}/start.yaml")
    for kind, start in KINDS.items():
        for seed, name in enumerate(("train", "test")):
            places = f"--data.hq_dir {{work}}/hq_{name} --output_dir {{work}}/{name}_pairs/{kind}"
            steps.command(f"{name}_pairs_{kind}", f"{predict} {start} --seed_everything {seed} {places}")


def add_restorer(steps: Steps, kind: str, iterations: int) -> None:
    """Train a GPEN on one kind of pairs, score it on test pairs of both kinds, and restore LFW."""
    starts = "--model.init_from {work}/prior/last.ckpt --model.discriminator_from {work}/prior/last.ckpt"
    run = f"--trainer.max_steps {iterations} --ckpt_path last --output_dir {{work}}/gpen_{kind}"
    steps.command(f"fit_{kind}", f"fit {GPEN} --data.pairs_dir {{work}}/train_pairs/{kind} {starts} {run}")
    weights = f"{GPEN} --ckpt_path {{work}}/gpen_{kind}/last.ckpt"
    for test in KINDS:
        places = f"--data.pairs_dir {{work}}/test_pairs/{test} --output_dir {{work}}/measured/test_{kind}_on_{test}"
        steps.command(f"test_{kind}_on_{test}", f"test {weights} {places}")
    places = f"--data.lq_dir {{work}}/lq_faces --output_dir {{work}}/lfw_{kind}"
    steps.command(f"restore_{kind}", f"predict {weights} {places}")


def show_t_study(folder: Path) -> None:
    """Copy the plot and the grid of a t study to this folder."""
    for name in ("ablation.png", "grid.png"):
        write_atomically(HERE / name, (folder / name).read_bytes())


def measure(work: Path) -> None:
    """Compare pairs with LFW, and LFW before and after restoration with HQ faces; copy the t studies."""
    real, hq = RealPictures(work / "lq"), RealPictures(work / "hq_train", side=FACE_SIDE)
    for preset in STUDIES:
        keep_t_study(work / f"t_study_{preset}", work / "measured" / f"t_study_{preset}")
    kept(work / "measured" / "lq" / "floor.json", real.floor)
    for kind in LQ:
        folder = work / ("probe" if kind == "probe" else f"train_pairs/{kind}")
        kept(work / "measured" / "lq" / f"{kind}.json", partial(compare, real, [folder]))
    faces = {"nothing": work / "lq_faces"} | {kind: work / f"lfw_{kind}" / "restored" for kind in KINDS}
    for name, folder in faces.items():
        kept(work / "measured" / "restored" / f"{name}.json", lambda lq=folder: hq.compare(read(lq)))


if __name__ == "__main__":
    main()
