"""What matters: the DDPM's range of t, its schedule, and which score predicts the better restorer.

The data is that of ``results/known_world``. Three DDPMs are trained on its camera from scratch, for the same number of
iterations: on t up to 300 of the cosine schedule, on all its t, and on the linear schedule up to the same log-SNR. Each
makes pairs from bicubic LQ at equal log-SNR. Then the recipes of ``results/study_b/search.py`` are ranked by scores of
their LQ, which need no restorer, and by the scores of their restorers.

    python -m results.study_d.study --photographs web_photos/ --work world/

Run the search first, with the same folder. The last step prints the tables.
"""

from argparse import Namespace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from ddpm_pairs.diffusion import Schedule
from ddpm_pairs.files import write_atomically
from results.known_world.gains import DIGITS, markdown, per_picture
from results.known_world.world import REAL, add_tables, add_world, predict
from results.realism import HEADS, Realism, RealPictures, compare, kept, load
from results.steps import Steps, study_parser
from results.study_b import search
from results.t_studies import keep_t_study, t_table

T, RANGE = 1000, 300
TS = (50, 100, 150, 200)
"""Steps of the cosine schedule."""
T_STUDY = "[0,25,50,100,150,200]"
"""Steps of the t study."""


def at_equal_log_snr(schedule: str, t: int) -> int:
    """Return the t of a schedule whose log-SNR is closest to that of step t of the cosine schedule."""
    wanted, other = Schedule("cosine", T).log_snr_at(t), Schedule(schedule, T)
    return min(range(1, T + 1), key=lambda one: abs(other.log_snr_at(one) - wanted))


DDPMS = {
    "cosine_300": ("cosine", RANGE),
    "cosine_1000": ("cosine", T),
    "linear": ("linear", at_equal_log_snr("linear", RANGE)),
}
"""Schedule and largest t of each training."""


def main() -> None:
    """Read the command line and run all unfinished steps."""
    parser = study_parser(__doc__, iterations=5000)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of 310 photographs or more, HQ for x4")
    arguments = parser.parse_args()
    steps = Steps(arguments.work, arguments.threads)
    add_world(steps, arguments.photographs)
    for name in DDPMS:
        add_ddpm(steps, name, arguments)
    add_t_study(steps)
    steps.always("measure", lambda: measure(arguments.work))
    add_tables(steps, tables)
    steps.run(arguments.only)


def add_ddpm(steps: Steps, name: str, arguments: Namespace) -> None:
    """Train a DDPM and make pairs at each t."""
    schedule, t_max = DDPMS[name]
    folder = f"{{work}}/matters/{name}"
    options = f"--data.crop_size 32 --model.schedule {schedule} --model.t_max {t_max}"
    options += f" --trainer.max_steps {arguments.iterations} --ckpt_path last"
    lq = "--data.lq_dir {work}/camera/lq"
    steps.command(f"matters/ddpm_{name}", f"fit --config ddpm_small.yaml {lq} {options} --output_dir {folder}/ddpm")
    for t in TS:
        here = at_equal_log_snr(schedule, t)
        start = f"--ckpt_path {folder}/ddpm/last.ckpt --model.degradation bicubic --model.precision bf16"
        options = f"{start} --model.psnr_drop null --model.t_min {here} --model.t_max {here}"
        places = f"--data.hq_dir {{work}}/hq --output_dir {folder}/pairs_{t}"
        steps.command(f"matters/pairs_{name}_{t}", f"{predict(steps)} {options} {places}")


def add_t_study(steps: Steps) -> None:
    """Add the t study of the DDPM that makes the search's pairs."""
    options = f"--ckpt_path {{work}}/ddpm/last.ckpt --model.precision bf16 --model.threads {steps.threads}"
    options += f" --model.pictures 80 --model.ts {T_STUDY} --model.degradations [bicubic,classical,bsrgan,real_esrgan]"
    places = "--data.hq_dir {work}/hq --data.lq_dir {work}/camera/lq --output_dir {work}/matters/t_study"
    steps.command("matters/t_study", f"test --config ablation.yaml {options} {places}")


def measure(work: Path) -> None:
    """Compare each DDPM's pairs with the camera's images; copy the results of the t study."""
    real = RealPictures(work / "camera" / "lq")
    for name, t in product(DDPMS, TS):
        pairs = work / "matters" / name / f"pairs_{t}"
        kept(work / "measured" / "matters" / f"{name}_{t}.json", partial(compare, real, [pairs]))
    study = work / "matters" / "t_study"
    keep_t_study(study, work / "measured" / "matters" / "t_study")
    write_atomically(Path(__file__).with_name("ablation.png"), (study / "ablation.png").read_bytes())


def tables(measured: Path) -> str:
    """Return the tables: DDPMs at equal log-SNR; the t study; which score predicts the better restorer."""
    t_study = t_table(measured / "matters" / "t_study", "start", REAL)
    return f"{ddpm_table(measured)}\n\n{t_study}\n\n{prediction_table(measured / search.FOLDER)}"


def ddpm_table(measured: Path) -> str:
    """Return the table of each DDPM's LQ compared with the camera's, at equal log-SNR."""
    rows = [["DDPM", "t of cosine", "its own t", "PSNR of a pair", *HEADS]]
    rows.append([REAL, "", "", "", *load(measured / search.FOLDER / "floor.json").cells()])
    for name, (schedule, t_max) in DDPMS.items():
        for t in TS:
            found = load(measured / "matters" / f"{name}_{t}.json")
            words = [f"{schedule}, t up to {t_max}", str(t), str(at_equal_log_snr(schedule, t))]
            rows.append([*words, f"{found.psnr:.1f}", *found.cells()])
    return markdown(rows)


def prediction_table(folder: Path) -> str:
    """Return rank correlations of errors of a recipe's LQ with its restorer's scores; 1 is a perfect prediction."""
    floor = load(folder / "floor.json")
    recipes = [name for name in search.STARTS if (folder / f"{name}.json").exists()]
    measures = [errors(load(folder / f"{name}.json"), floor) for name in recipes]
    scores = [per_picture(folder / f"scores_{name}") for name in recipes]
    rows = [[f"error, over {len(recipes)} recipes", *(metric.upper() for metric in DIGITS)]]
    for error in measures[0]:
        ranked = [one[error] for one in measures]
        better = {one: [(-1 if one == "lpips" else 1) * score[one].mean() for score in scores] for one in DIGITS}
        rows.append([error, *(f"{-spearmanr(ranked, better[metric]).statistic:+.2f}" for metric in DIGITS)])
    return markdown(rows)


def errors(found: Realism, floor: Realism) -> dict[str, float]:
    """Return several distances of a set of LQ from the camera's; smaller is closer."""
    return {
        "FID": found.fid,
        "fid192": found.fid192,
        "KID": found.kid,
        "chroma noise": abs(np.log(found.chroma_noise / floor.chroma_noise)),
        "power of the finest octave": abs(found.power_gaps[-1]),
        "power of the 3 finest octaves, RMS": float(np.sqrt(np.mean(np.square(found.power_gaps[-3:])))),
        "shortfall in PSNR of a pair": -found.psnr,
    }


if __name__ == "__main__":
    main()
