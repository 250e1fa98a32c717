"""A blind camera: how near do our LQ come to it, and do they train a better restorer than handcrafted ones?

Of the camera there are 625 LQ pictures and nothing else. Restorers learn from Real-ESRGAN pairs, from ours, and from
half of each, with equal budgets; they restore other pictures of the camera, and of other cameras whose truth is known.

    python -m results.study_b.study --data data/ --work work/

``data/`` holds `blind_camera/lq_train`, `blind_camera/lq_test`, `hq_natural/web_photos`, `hq_natural/bsds500_train` and
`realsr_test`. Steps that are done are left alone and those that were interrupted go on; ``--only`` runs some steps,
such as two trainings at once in two terminals. The last step prints the tables.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from ddpm_pairs.seeding import seed_of
from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture
from results.realism import HEADS, RealPictures, compare, kept, median_psnr, read
from results.steps import Steps, study_parser
from results.study_b.figure import save_figure, save_restored

PHOTOGRAPHS = ("web_photos", "bsds500_train")
HELD_OUT = 30
"""HQ pictures whose pairs choose between seeds and train nothing."""
VARIANTS = 4
WALK = "--ckpt_path blind_camera --model.precision bf16 --model.psnr_drop null --model.t_min 50 --model.t_max 150"
PROBE = f"{WALK} --model.degradation bicubic"
"""Pairs that the start is calibrated with."""
KINDS = {
    "handcrafted": "--model.degradation real_esrgan --model.t_max 0",
    "ours": f"{WALK} --config {{work}}/start.yaml",
}
STARTS = {
    **{name: f"--model.degradation {name} --model.t_max 0" for name in ("bicubic", "classical", "bsrgan")},
    "calibrated": "--config {work}/start.yaml --model.t_max 0",
}
"""Handcrafted LQ that only the first table shows, besides ``PROBE``'s."""
TRAININGS = {"handcrafted": ["handcrafted"], "pairs": ["ours"], "mix": ["handcrafted", "ours"]}
SEEDS = {"handcrafted": 3, "pairs": 3, "mix": 1}
RESTORERS = [f"{name}_{seed}" for name in TRAININGS for seed in range(SEEDS[name])]


def main() -> None:
    """Read the command line and run what is not done."""
    parser = study_parser(__doc__, iterations=8000)
    parser.add_argument("--data", type=Path, required=True, help="the folder of pictures")
    arguments = parser.parse_args()
    steps = Steps(arguments.work, arguments.threads)
    data = arguments.data.resolve()
    camera = data / "blind_camera" / "lq_train"
    steps.always("photographs", lambda: link_photographs(data / "hq_natural", arguments.work))
    predict = f"predict --config pairs_natural.yaml --model.threads {arguments.threads}"
    for kind, options in ({"probe": PROBE} | KINDS | STARTS).items():
        for seed in range(VARIANTS if kind in KINDS else 1):
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
    for name in TRAININGS:
        steps.once(f"export_{name}", partial(export, arguments.work, name))
    steps.always("table", lambda: print(tables(arguments.work, camera)))
    steps.run(arguments.only)


def link_photographs(photographs: Path, work: Path) -> None:
    """Link the photographs into one folder, but for some that are held out."""
    found = [path for name in PHOTOGRAPHS for path in sorted((photographs / name).iterdir())]
    found.sort(key=lambda path: seed_of("study b", path.name))
    for number, path in enumerate(found):
        link = work / ("held_out" if number < HELD_OUT else "hq") / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path)


def add_restorer(steps: Steps, restorer: str, iterations: int, data: Path) -> None:
    """Train a restorer, score it on held-out pairs and on real pairs of other cameras, restore this one's pictures."""
    name, seed = restorer.rsplit("_", 1)
    folders = ",".join(f"{{work}}/pairs/{kind}_{n}" for kind in TRAININGS[name] for n in range(VARIANTS))
    run = f"{{work}}/rrdb_{restorer}"
    options = f"--data.pairs_dir '[{folders}]' --trainer.max_steps {iterations} --seed_everything {seed}"
    steps.command(f"fit_{restorer}", f"fit --config rrdb_small.yaml {options} --ckpt_path last --output_dir {run}")
    weights = f"--config rrdb_small.yaml --ckpt_path {run}/last.ckpt"
    held_out = "[" + ",".join(f"{{work}}/held_out_pairs/{kind}" for kind in KINDS) + "]"
    for test, pairs in (("held_out", f"'{held_out}'"), ("realsr", data / "realsr_test")):
        places = f"--data.pairs_dir {pairs} --output_dir {{work}}/{test}_{restorer}"
        steps.command(f"{test}_{restorer}", f"test {weights} {places}")
    restored = f"{{work}}/lq_test_{restorer}"
    places = f"--data.lq_dir {data}/blind_camera/lq_test --output_dir {restored}"
    steps.command(f"restore_{restorer}", f"predict {weights} {places}")


def best_seed(work: Path, name: str) -> int:
    """The seed that restores held-out pairs of both kinds best, by PSNR."""
    return max(trained_seeds(work, name), key=lambda seed: per_picture(work / f"held_out_{name}_{seed}")["psnr"].mean())


def export(work: Path, name: str) -> None:
    """Write the best seed's weights as float16 beside this file."""
    out = Path(__file__).with_name(f"rrdb_{name}.safetensors")
    weights = work / f"rrdb_{name}_{best_seed(work, name)}" / "last.ckpt"
    subprocess.run([sys.executable, "-m", "ddpm_pairs", "export", weights, out, "--half"], check=True)


def tables(work: Path, camera: Path) -> str:
    """Table 1 in kind: LQ beside the camera's; Tables 2 and 3: restorers."""
    return f"{realism_table(work, camera)}\n\n{content_table(work, camera)}\n\n{restorer_table(work)}"


def realism_table(work: Path, real_dir: Path) -> str:
    """LQ of each kind beside the camera's on native patches."""
    real = RealPictures(real_dir)
    floor = kept(work / "realism" / "floor.json", real.floor)
    rows = [["LQ", "PSNR of a pair", *HEADS], ["the camera's, half against half", "", *floor.cells()]]
    for kind in (*STARTS, "probe", *KINDS):
        folders = [work / "pairs" / f"{kind}_{seed}" for seed in range(VARIANTS if kind in KINDS else 1)]
        found = kept(work / "realism" / f"{kind}.json", partial(compare, real, folders))
        psnr = median_psnr(folder / "manifest.jsonl" for folder in folders)
        rows.append([kind, f"{psnr:.1f}", *found.cells()])
    return markdown(rows)


def content_table(work: Path, real_dir: Path) -> str:
    """LQ by the photographs that they were made of, to tell how they are degraded from what they show."""
    real = RealPictures(real_dir)
    rows = [["LQ", "made of", *HEADS]]
    for photographs in PHOTOGRAPHS:
        for kind in KINDS:
            folders = [work / "pairs" / f"{kind}_{seed}" / "lq" / photographs for seed in range(VARIANTS)]
            found = kept(work / "realism" / f"{kind}_{photographs}.json", lambda lq=folders: real.compare(read(*lq)))
            rows.append([kind, photographs, *found.cells()])
    return markdown(rows)


def restorer_table(work: Path) -> str:
    """What each restorer makes of held-out pairs, of real pairs of other cameras, and of the blind camera's test."""
    sharp = RealPictures(work / "hq", side=128)
    heads = ["trained on", "seed", "held-out pairs: PSNR", *(f"RealSR: {metric.upper()}" for metric in DIGITS)]
    rows = [[*heads, "restored test beside HQ: FID", "fid192", "KID x 1000"]]
    base = mean_of_seeds(work, "realsr", "handcrafted")
    for name in TRAININGS:
        for seed in trained_seeds(work, name):
            held_out, realsr = (per_picture(work / f"{test}_{name}_{seed}") for test in ("held_out", "realsr"))
            restored = work / f"lq_test_{name}_{seed}" / "restored"
            found = kept(
                work / "realism" / f"restored_{name}_{seed}.json", lambda folder=restored: sharp.compare(read(folder))
            )
            scores = [f"{realsr[metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
            rows.append([name, str(seed), f"{held_out['psnr'].mean():.2f}", *scores, *found.cells()[:3]])
        if name != "handcrafted":
            mean = mean_of_seeds(work, "realsr", name)
            gains = [gain_in_words(mean[metric] - base[metric], digits) for metric, digits in DIGITS.items()]
            rows.append([name, "gain over handcrafted", "", *gains, "", "", ""])
    return markdown(rows)


def trained_seeds(work: Path, name: str) -> list[int]:
    """Seeds of which everything is done."""
    return [seed for seed in range(SEEDS[name]) if (work / "done" / f"restore_{name}_{seed}").exists()]


def mean_of_seeds(work: Path, test: str, name: str) -> dict[str, np.ndarray]:
    """Scores picture by picture, mean of the seeds that are trained."""
    found = [per_picture(work / f"{test}_{name}_{seed}") for seed in trained_seeds(work, name)]
    return {metric: np.mean([one[metric] for one in found], axis=0) for metric in DIGITS}


if __name__ == "__main__":
    main()
