"""Does adaptation in noise space teach a denoiser a camera's noise, and what in it does?

The denoiser is trained on HQ images with white Gaussian noise of up to 75 8-bit levels, made on the fly. The real LQ
are images of the demo's camera at scale 1, whose noise is correlated over pixels and channels, and photographs of
PolyU; the test images of both have a ground truth. Rows of the paper's ablation are trained on the camera: ranges of
noise levels, shuffling, contrast, and one condition alone. Wider restorers show whether capacity helps. Feature
alignment and self-consistency with a DDPM of the camera are trained for comparison.

    python -m results.study_noise_da.denoise --data data/ --work /tmp/denoise

``data/`` contains ``hq_natural`` (web_photos, bsds500_train, polyu_mean) and ``lq_natural/polyu``. Each step is one
command of the program, which is printed. Finished steps are skipped, and interrupted steps resume, so rerun the same
command after any interruption. ``--only`` runs some steps, for example two trainings in two terminals. The last step
prints the tables.
"""

from pathlib import Path

from ddpm_pairs.tensors import seed_of
from results.known_world.gains import DIGITS, gain_in_words, markdown, per_picture, set_metrics
from results.steps import Steps, keep_measured, study_parser

MEASURED = Path(__file__).with_name("measured") / "denoise"
CONFIG = "noise_da_denoise_small.yaml"
DDPM = (
    "fit --config ddpm_small.yaml --data.lq_dir {work}/camera/lq --data.crop_size 32 --trainer.max_steps 6000 "
    "--model.init_from blind_camera --ckpt_path last --output_dir {work}/ddpm"
)
SHARES = {"camera_scenes": 150, "test_scenes": 30, "hq": 130}
"""Numbers of web photographs; those of ``hq`` join the 200 of BSDS500."""
POLYU_TEST = 30
ALONE = "--model.shuffle false --model.contrast none"
"""The denoiser alone, without what removes shortcuts."""
WIDE = "--model.net.init_args.widths [32,64,128,256]"
UNET = "--model.net ddpm_pairs.restoration.RestorationUNet --model.net.init_args.widths [16,32,64,128]"
BASELINES = {
    "aligned": f"align_rrdb_small.yaml {UNET} --model.features encoder.3 --model.discriminator.init_args.channels 128",
    "consistent": f"consistency_rrdb_small.yaml {UNET} --model.degraded_by {{work}}/ddpm/last.ckpt",
}
"""Other adaptations to the camera: their configs and options. They start from the same pixel loss and the same data."""
CAMERA = {
    "vanilla": "--model.mode vanilla",
    "range_1_100": f"{ALONE} --model.t_range [1,100]",
    "range_900_1000": f"{ALONE} --model.t_range [900,1000]",
    "denoiser_alone": ALONE,
    "with_shuffling": "--model.contrast none",
    "full": "",
    "synthetic_only": f"{ALONE} --model.condition synthetic",
    "real_only": f"{ALONE} --model.condition real",
    "vanilla_wide": f"--model.mode vanilla {WIDE}",
    "full_wide": WIDE,
}
"""Options of each training that adapts to the camera, in the order of the table."""
POLYU = {"vanilla": None, "full": ""}
"""Options of each training that adapts to PolyU; ``None`` takes the restorer of the camera's table."""


def main() -> None:
    """Read the command line, run all unfinished steps, and print the tables."""
    parser = study_parser(__doc__, 4000)
    parser.add_argument("--data", type=Path, required=True, help="folder with hq_natural/ and lq_natural/")
    arguments = parser.parse_args()
    steps, measured = Steps(arguments.work, arguments.threads), arguments.work / "measured"
    steps.always("photographs", lambda: share_out(arguments.data.resolve(), arguments.work))
    camera = "--model.degradation ddpm_pairs.demo.camera.Camera --model.degradation.scale 1 --model.t_max 0"
    for folder, source in (("camera", "camera_scenes"), ("camera_test", "test_scenes")):
        places = f"--data.hq_dir {{work}}/{source} --output_dir {{work}}/{folder}"
        steps.command(
            folder, f"predict --config pairs_natural.yaml --model.threads {arguments.threads} {camera} {places}"
        )
    steps.command("ddpm", DDPM)
    half = f"--model.ramp {arguments.iterations // 2}"
    configs = {name: f"{CONFIG} {half} {options}" for name, options in CAMERA.items()} | {
        "aligned": f"{BASELINES['aligned']} {half}",
        "consistent": BASELINES["consistent"],
    }
    for name, config in configs.items():
        add_restorer(steps, "camera", name, config, arguments.iterations)
    for name, options in POLYU.items():
        config = None if options is None else f"{CONFIG} {half} {options}"
        add_restorer(steps, "polyu", name, config, arguments.iterations)
    steps.always("keep", lambda: keep_measured(measured, MEASURED))
    steps.always("table", lambda: print(tables(measured)))
    steps.run(arguments.only)


def share_out(data: Path, work: Path) -> None:
    """Link the photographs into the folders of the study, in a seeded order."""
    found = in_order(data / "hq_natural" / "web_photos")
    for folder, count in SHARES.items():
        link(found[:count], work / folder)
        found = found[count:]
    link(in_order(data / "hq_natural" / "bsds500_train"), work / "hq")
    real = in_order(data / "lq_natural" / "polyu")
    link(real[POLYU_TEST:], work / "polyu" / "lq")
    for side, folder, ending in (
        ("lq", data / "lq_natural" / "polyu", "real"),
        ("hq", data / "hq_natural" / "polyu_mean", "mean"),
    ):
        for path in real[:POLYU_TEST]:
            name = path.name.replace("_real.", ".")
            link_one(folder / path.name.replace("_real.", f"_{ending}."), work / "polyu_test" / side / name)


def in_order(folder: Path) -> list[Path]:
    """Return the files of a folder in a seeded order."""
    return sorted(folder.iterdir(), key=lambda path: seed_of("denoise", path.name))


def link(paths: list[Path], folder: Path) -> None:
    """Link files into a folder."""
    for path in paths:
        link_one(path, folder / path.name)


def link_one(path: Path, target: Path) -> None:
    """Link a file unless the link exists."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(path.resolve())


def add_restorer(steps: Steps, domain: str, name: str, config: str | None, iterations: int) -> None:
    """Add the training of a restorer that adapts to a domain, and its scores on the domain's test.

    Args:
        steps: The study.
        domain: ``camera`` or ``polyu``.
        name: Name of the restorer.
        config: Config and options of its training; ``None`` takes the restorer that adapts to the camera.
        iterations: Training iterations.
    """
    run = f"{{work}}/runs/{'camera' if config is None else domain}_{name}"
    if config is not None:
        data = "--data DegradedAdaptationImages --data.hq_dir {work}/hq --data.degradation gaussian_noise"
        shared = "--data.scale 1 --data.crop_size 64 --model.loss charbonnier"
        places = f"--data.lq_dir {{work}}/{domain}/lq --ckpt_path last --output_dir {run}"
        words = f"fit --config {config} {data} {shared} --trainer.max_steps {iterations} {places}"
        steps.command(f"fit_{domain}_{name}", words)
    scores = f"{{work}}/measured/{domain}_{name}"
    places = f"--ckpt_path {run}/last.ckpt --data.pairs_dir {{work}}/{domain}_test --output_dir {scores}"
    steps.command(f"test_{domain}_{name}", f"test --config {CONFIG} {places}")


def tables(measured: Path) -> str:
    """Return the table of each domain that is already measured."""
    return "\n\n".join(table(measured, one) for one in ("camera", "polyu") if (measured / f"{one}_vanilla").is_dir())


def table(measured: Path, domain: str) -> str:
    """Return the scores on a domain's test, with gains over the restorer that does not adapt and 95% intervals."""
    names = [name for name in {**CAMERA, **BASELINES, **POLYU} if (measured / f"{domain}_{name}").is_dir()]
    scores = {name: per_picture(measured / f"{domain}_{name}") for name in names}
    start = set_metrics(measured / f"{domain}_vanilla")["input"]
    rows = [[f"{domain}, adapted by", *(f"{metric}, gain (95%)" for metric in DIGITS)]]
    rows.append(["nothing: not restored", *(f"{start[metric]:.{digits}f}" for metric, digits in DIGITS.items())])
    for name in names:
        cells = [f"{scores[name][metric].mean():.{digits}f}" for metric, digits in DIGITS.items()]
        if name != "vanilla":
            gains = [scores[name][metric] - scores["vanilla"][metric] for metric in DIGITS]
            words = [gain_in_words(gain, digits) for gain, digits in zip(gains, DIGITS.values(), strict=True)]
            cells = [f"{cell}, {gain}" for cell, gain in zip(cells, words, strict=True)]
        rows.append([name, *cells])
    return markdown(rows)


if __name__ == "__main__":
    main()
