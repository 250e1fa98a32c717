"""Cost of the shipped configs: seconds per step, images per second, peak memory, and how often the host waits.

Prints one Markdown table. Each job is a command as a user types it, run for some steps in this process on images made
from embedded photographs, including loader, callbacks, and writer. Peak memory is the memory that torch allocates on
the GPU. All networks are untrained, including VGG19 in the perceptual loss of `rrdb_gan.yaml`; the cost is the same.

    python benchmarks/jobs.py > table.md
"""

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from machine import describe, table_row
from PIL import Image
from skimage.data import astronaut, coffee, rocket
from watch import Watch

from ddpm_pairs.cli.main import main as ddpm_pairs

HEADER = ("job", "batch", "s per step", "images/s", "peak MiB", "host waits per step", "location")
QUIET = (
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.callbacks+=watch.Watch",
)
TINY_WALKS = "--data.num_workers 0 --model.variants 2 --model.num_steps 2 --model.slots 4"


@dataclass(frozen=True)
class Job:
    """A command to measure.

    Attributes:
        name: Name of its output folder.
        title: Title of its row.
        words: The command line, with ``{work}`` for the folder of images and outputs.
        overlays: Shipped configs that make it tiny for a CPU.
        tiny: Options that make it tiny for a CPU.
    """

    name: str
    title: str
    words: str
    overlays: tuple[str, ...] = ()
    tiny: str = ""


JOBS = (
    Job(
        "ddpm_natural",
        "fit, ddpm_natural.yaml, 256 px",
        "fit --config ddpm_natural.yaml --data.lq_dir {work}/hq_512",
        ("parts/debug.yaml",),
    ),
    Job(
        "pairs_natural",
        "predict, pairs_natural.yaml, LQ of 256 px",
        "predict --config pairs_natural.yaml --data.hq_dir {work}/hq_1024 --ckpt_path {work}/ddpm_natural/last.ckpt"
        " --model.variants 4",
        tiny=TINY_WALKS,
    ),
    Job(
        "ddpm",
        "fit, ddpm.yaml, 512 px",
        "fit --config ddpm.yaml --data.lq_dir {work}/hq_512",
        ("parts/debug.yaml",),
    ),
    Job(
        "pairs",
        "predict, pairs.yaml, LQ of 512 px",
        "predict --config pairs.yaml --data.hq_dir {work}/hq_512 --ckpt_path {work}/ddpm/last.ckpt --model.variants 4",
        tiny=TINY_WALKS,
    ),
    Job(
        "rrdb",
        "fit, rrdb.yaml, HQ of 256 px",
        "fit --config rrdb.yaml --data.pairs_dir {work}/x4",
        ("parts/debug_rrdb.yaml",),
    ),
    Job(
        "rrdb_gan",
        "fit, rrdb_gan.yaml, HQ of 256 px",
        "fit --config rrdb_gan.yaml --data.pairs_dir {work}/x4",
        ("parts/debug_rrdb.yaml", "parts/debug_rrdb_gan.yaml"),
    ),
    Job(
        "gpen_prior",
        "fit, gpen_prior.yaml, 512 px",
        "fit --config gpen_prior.yaml --data.hq_dir {work}/hq_512",
        ("parts/debug_gpen.yaml",),
    ),
    Job(
        "gpen",
        "fit, gpen.yaml, 512 px",
        "fit --config gpen.yaml --data.pairs_dir {work}/x1",
        ("parts/debug_gpen.yaml",),
    ),
)


def main() -> int:
    """Read the command line, measure, and print.

    Returns:
        0 if all jobs ran, otherwise 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=[job.name for job in JOBS], help="jobs to measure (default: all)")
    parser.add_argument("--rehearse", action="store_true", help="use a CPU and tiny sizes; the numbers are meaningless")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.rehearse else "cpu")
    if arguments.rehearse:
        Watch.warm_up, Watch.steps = 1, 1
    print(f"{describe(device, torch.get_num_threads())}; {Watch.steps} steps after {Watch.warm_up}\n")
    print(table_row(HEADER) + "\n|" + " --- |" * len(HEADER), flush=True)
    chosen = [job for job in JOBS if arguments.jobs is None or job.name in arguments.jobs]
    with tempfile.TemporaryDirectory() as work:
        make_images(Path(work), tiny=arguments.rehearse)
        cells = [measure(job, Path(work), device, arguments.rehearse) for job in chosen]
    return int(None in cells)


def measure(job: Job, work: Path, device: torch.device, tiny: bool) -> list[object] | None:
    """Run a job, and print and return its row; if it failed, print the reason on stderr and return ``None``."""
    verb, *words = job.words.format(work=work).split()
    words += ["--output_dir", f"{work}/{job.name}", *QUIET]
    if tiny:
        words += [f"--config={one}" for one in (*job.overlays, "parts/cpu.yaml")] + job.tiny.split()
    if verb == "fit":
        words += ["--trainer.limit_val_batches=0"]
    memory = 0.0
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        memory = torch.cuda.memory_allocated()
    status: object = 1
    try:
        with contextlib.redirect_stdout(sys.stderr):
            status = ddpm_pairs([verb, *words])
    except (Exception, SystemExit):  # continue with the next job
        traceback.print_exc()
    found = Watch.found
    if status != 0 or found is None:
        print(f"{job.name}: {' '.join([verb, *words])} ended with {status}", file=sys.stderr)
        print(table_row([job.title, "failed", *"-----"]), flush=True)
        return None
    peak = f"{(torch.cuda.max_memory_allocated() - memory) / 2**20:.0f}" if device.type == "cuda" else "-"
    waits = ", ".join(f"{place} x{times}" for place, times in found.waits.most_common(4)) or "-"
    speed = f"{found.images / found.seconds:.3g}"
    cells = [job.title, found.images, f"{found.seconds:.3g}", speed, peak, found.waits.total(), waits]
    print(table_row(cells), flush=True)
    return cells


def make_images(work: Path, tiny: bool) -> None:
    """Write folders of images, and of pairs at scales 4 and 1, below ``work``; and untrained weights of VGG19.

    Args:
        work: An empty folder.
        tiny: Whether to make few small images.
    """
    count, sides = (6, (64, 64)) if tiny else (40, (512, 1024))
    for side, name in zip(sides, ("hq_512", "hq_1024"), strict=True):
        for number, image in enumerate(_photographs(count, side)):
            _save(image, work / name / f"{number:03}.png")
    for path in sorted((work / "hq_512").iterdir()):
        hq = Image.open(path)
        for scale in (4, 1):
            small = hq.resize((hq.width // 4, hq.height // 4), Image.Resampling.BICUBIC)
            _save(hq, work / f"x{scale}" / "hq" / path.name)
            _save(small if scale == 4 else small.resize(hq.size), work / f"x{scale}" / "lq" / path.name)
    if not tiny:
        weights = {
            f"features.{name}": value for name, value in torchvision.models.vgg19().features.state_dict().items()
        }
        torch.save(weights, work / "vgg19-dcbb9e9d.pth")
        os.environ["DDPM_PAIRS_WEIGHTS"] = str(work)


def _photographs(count: int, side: int) -> Iterator[Image.Image]:
    """Yield square images of three photographs, shifted so that no two are equal."""
    photos = [photo()[:300, :400] for photo in (astronaut, coffee, rocket)]
    for number in range(count):
        moved = np.roll(photos[number % 3], (17 * number, 29 * number), axis=(0, 1))
        yield Image.fromarray(moved).resize((side, side), Image.Resampling.BICUBIC)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)


if __name__ == "__main__":
    sys.exit(main())
