"""``ddpm-pairs demo``: run the full pipeline on bundled photographs, without a network connection.

Real LQ images cannot be bundled, so a simulated camera takes their place. It can photograph the HQ scenes too, so the
last step can measure how close the pairs come to its images.
"""

import shlex
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ddpm_pairs.cli.trainer import TrainerCLI, interruptions
from ddpm_pairs.demo.scenes import HQ_PHOTOGRAPHS, LQ_PHOTOGRAPHS, SCALE, photograph, scenes, write_pictures
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.metrics.texture import band_names
from ddpm_pairs.pairset.folder import PairsFolder, read_run
from ddpm_pairs.reports.texture import TextureGap, render, texture_gap
from ddpm_pairs.run_folder import RunFolder
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.provenance import generator_from_run

PRETRAINED = "blind_camera"
THREADS = 2
RECORD = "demo.yaml"


@dataclass(frozen=True)
class Recipe:
    """The size of a demo; the defaults take about four minutes on two cores.

    Attributes:
        lq_pictures: Number of LQ images to train on.
        lq_side: Side of the LQ images in pixels.
        hq_pictures: Number of HQ images to make pairs from.
        hq_side: Side of the HQ images in pixels.
        channels: Channels of the network per level.
        steps: Number of training steps.
        trained_t: Largest t in training.
        t_min: Smallest t of the pairs.
        t_max: Largest t of the pairs.
    """

    lq_pictures: int = 180
    lq_side: int = 96
    hq_pictures: int = 64
    hq_side: int = 256
    channels: tuple[int, ...] = (32, 48, 64, 64)
    steps: int = 1200
    trained_t: int = 150
    t_min: int = 50
    t_max: int = 150


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs demo``.

    Args:
        arguments: ``output_dir``, ``pretrained`` and ``seed`` of the command line.

    Returns:
        0.

    Raises:
        UserError: See ``run_demo``.
    """
    run_demo(arguments.output_dir, arguments.pretrained, arguments.seed, Recipe())
    return 0


def run_demo(root: Path, pretrained: bool, seed: int, recipe: Recipe) -> None:
    """Run the demo, or resume one with the same settings in ``root``.

    Args:
        root: Output folder.
        pretrained: Use the bundled weights instead of training.
        seed: Random seed.
        recipe: Size of the demo.

    Raises:
        UserError: If the folder contains something else, or the weights are not bundled.
    """
    begin = time.monotonic()
    if pretrained:
        weights_file(PRETRAINED)
    claim(root, {"pretrained": pretrained, "seed": seed, "recipe": _plain(recipe)})
    torch.set_num_threads(THREADS)

    _announce(1, "cut bundled photographs into HQ images and scenes for the camera")
    hq = scenes(HQ_PHOTOGRAPHS, recipe.hq_pictures, recipe.hq_side, (0.6, 1.0), seed)
    write_pictures(root / "hq", lambda: hq)
    print(f"      {recipe.hq_pictures} HQ images from {', '.join(HQ_PHOTOGRAPHS)} in {root / 'hq'}")

    _announce(2, "take LQ images with a simulated camera, because real ones cannot be bundled")
    if not pretrained:
        lq_scenes = recipe.lq_pictures, recipe.lq_side * SCALE, (0.75, 1.5), seed
        write_pictures(root / "lq", lambda: photograph(scenes(LQ_PHOTOGRAPHS, *lq_scenes), seed, "roll 1"))
        print(f"      {recipe.lq_pictures} LQ images from {', '.join(LQ_PHOTOGRAPHS)} in {root / 'lq'}")
    for roll in (1, 2):
        write_pictures(root / "camera_truth" / f"roll_{roll}", lambda roll=roll: photograph(hq, seed, f"roll {roll}"))
    print(f"      two series of the HQ scenes in {root / 'camera_truth'}, only for the table at the end")

    checkpoint = PRETRAINED if pretrained else str(root / "ddpm" / "last.ckpt")
    if pretrained:
        _announce(3, f"no training: use the bundled weights {PRETRAINED}, trained on images of another camera")
    else:
        _announce(3, "train a small DDPM on the LQ images (takes minutes; Ctrl-C is safe)")
        train(root, seed, recipe)

    _announce(4, f"make pairs: degrade {recipe.hq_pictures} HQ images, noise them to step t, and denoise them")
    words = ["--config", "pairs_natural.yaml", "--config", "parts/cpu.yaml", "--ckpt_path", checkpoint]
    words += ["--data.hq_dir", str(root / "hq"), "--output_dir", str(root / "pairs")]
    words += ["--model.t_min", str(recipe.t_min), "--model.t_max", str(recipe.t_max)]
    run_verb(["predict", *words, *([] if seed == 0 else ["--seed_everything", str(seed)])])

    _announce(5, "measure how close the pairs come to the camera")
    print(compare(root, seed, pretrained))
    print(closing(root, time.monotonic() - begin))


def claim(root: Path, settings: dict[str, Any]) -> None:
    """Start a demo in the folder, or resume one with the same settings.

    Raises:
        UserError: If the folder contains something else.
    """
    folder = RunFolder(root, RECORD, "a demo")
    folder.check(settings)
    if folder.settings() is not None:
        print(f"{root} contains this demo already; finished steps are not repeated")
    elif root.is_dir() and any(root.iterdir()):
        raise UserError(f"--output_dir {root} contains other files; choose an empty or a new folder")
    else:
        folder.begin(settings)


def train(root: Path, seed: int, recipe: Recipe) -> None:
    """Train the DDPM with ``lightning fit`` and a config in ``root``, unless it is trained already."""
    config, folder = root / "ddpm.yaml", root / "ddpm"
    text = "# The DDPM that `ddpm-pairs demo` trains.\n" + yaml.safe_dump(_fit_config(root, seed, recipe))
    write_atomically(config, text.encode())
    words = ["--config", str(config), "--output_dir", str(folder)]
    last = folder / "last.ckpt"
    if last.is_file():
        step = torch.load(last, map_location="cpu", weights_only=True)["global_step"]
        if step >= recipe.steps:
            print(f"      already trained: {last}")
            return
        words += ["--ckpt_path", "last"]
    cli = run_verb(["fit", *words])
    losses = {name: float(value) for name, value in cli.trainer.callback_metrics.items() if name.startswith("val/loss")}
    bands = ", ".join(f"{name.removeprefix('val/loss_t')}: {losses[name]:.4f}" for name in losses if "_t" in name)
    print(f"      validation loss {losses['val/loss']:.4f}; by band of t {bands}")


def _fit_config(root: Path, seed: int, recipe: Recipe) -> dict[str, Any]:
    network = {"channels": list(recipe.channels), "layers_per_block": 1, "attention_levels": [], "norm_groups": 8}
    return {
        "seed_everything": seed,
        "model": {
            "class_path": "ddpm_pairs.diffusion.DDPM",
            "init_args": {
                "net": {"class_path": "ddpm_pairs.diffusion.UNet", "init_args": network},
                "t_max": recipe.trained_t,
                "loss": "mse",
                "learning_rate": 1e-3,
                "warmup_steps": 100,
                "cosine_decay": True,
            },
        },
        "data": {
            "class_path": "ddpm_pairs.data.LowQualityImages",
            "init_args": {"lq_dir": str(root / "lq"), "crop_size": 32, "batch_size": 16, "num_workers": 1},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": recipe.steps,
            "max_epochs": -1,
            "gradient_clip_val": 1.0,
            "val_check_interval": max(recipe.steps // 3, 1),
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "callbacks": [{"class_path": "ddpm_pairs.callbacks.EMA"}],
        },
        "checkpoint_every_n_steps": 250,
    }


def run_verb(argv: list[str]) -> TrainerCLI:
    """Print a command and run it in this process.

    Returns:
        The parsed command, with its ``trainer``.
    """
    print(f"      $ lightning {shlex.join(argv)}", flush=True)
    cli = TrainerCLI(argv)
    with interruptions():
        cli.prepare()()
    return cli


def compare(root: Path, seed: int, pretrained: bool) -> str:
    """Compare initial and final LQ with the camera's images of the same scenes; return the table and its verdicts."""
    records = list(PairsFolder(root / "pairs").records())
    generator = generator_from_run(read_run(root / "pairs"))
    real = [_read(path) for path in sorted((root / "camera_truth").rglob("*.png"))]
    initial = generator.initial_lqs([_read(root / "pairs" / record["hq"]) for record in records], records)
    final = [_read(root / "pairs" / record["lq"]) for record in records]
    gap = texture_gap(real, {"initial LQ": initial, "LQ of the pairs": final}, seed=seed)
    lines = [render(gap, "camera"), "", *verdicts(gap)]
    if pretrained:
        lines.append(
            f"{PRETRAINED} was trained on another camera, so the pairs are not expected to come close to this one.\n"
            "Run without --pretrained to train on this camera."
        )
    return "\n".join(lines)


def verdicts(gap: TextureGap) -> list[str]:
    """Return one sentence per measure: whether the second row is closer to the real images than the first."""
    before, after = gap.rows
    sentences = [_verdict("Chroma noise", before.chroma_gap, after.chroma_gap, gap.floor.chroma_gap, "")]
    bands = band_names(len(before.power_gaps))
    for n in reversed(range(len(bands))):
        powers = [row.power_gaps[n] for row in (before, after, gap.floor)]
        sentences.append(_verdict(f"Luminance power at {bands[n]} cycles per pixel", *powers, " dB"))
    return sentences


def _verdict(name: str, before: float, after: float, floor: float, unit: str) -> str:
    if max(abs(before), abs(after)) <= abs(floor):
        found = "is within the floor before and after"
    else:
        found = "came closer to the camera" if abs(after) < abs(before) else "did NOT come closer to the camera"
    return f"{name} {found}: off by {before:+.2f}{unit}, then {after:+.2f}{unit} (floor {abs(floor):.2f})."


def closing(root: Path, seconds: float) -> str:
    """Return the last lines of the demo, with the next steps."""
    return f"""
Done in {seconds / 60:.1f} minutes. Look at {root / "pairs" / "contact_sheet.png"}.
With your own folders of LQ and HQ images:
  lightning fit     --config ddpm_small.yaml    --data.lq_dir LQ/ --output_dir runs/mine
  lightning predict --config pairs_natural.yaml --ckpt_path runs/mine/last.ckpt --data.hq_dir HQ/ --output_dir pairs/
The better the DDPM is trained, the larger t can be without invented structure. Denoising hardly blurs: if colors or
edges are sharper than in your LQ images, fit the initial degradation to them with `ddpm-pairs calibrate`."""


def _announce(number: int, text: str) -> None:
    print(f"\n[{number}/5] {text}", flush=True)


def _plain(recipe: Recipe) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}


def _read(path: Path) -> Tensor:
    return torch.from_numpy(decode_picture(path)).permute(2, 0, 1)
