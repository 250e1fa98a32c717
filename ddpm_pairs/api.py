"""The Python interface: what ``lightning predict`` and ``ddpm-pairs score`` do, as four functions.

They write the same folders as the commands. Calling a function again resumes an interrupted run, and the other verbs
can read the results.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from ddpm_pairs.data import HighQualityImages, RestorationPairs
from ddpm_pairs.degradations import Degradation
from ddpm_pairs.diffusion import Denoiser, load_denoiser
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of
from ddpm_pairs.images.find import Failure
from ddpm_pairs.metrics.evaluated import METRICS
from ddpm_pairs.reports.contact_sheet import write_contact_sheet
from ddpm_pairs.reports.scoring.compute import score_folders
from ddpm_pairs.reports.scoring.output import write_scores
from ddpm_pairs.reports.scoring.scores import Scores
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.restoration.writer import RestorationWriter
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.synthesis.writer import PairWriter


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        made: Number of pairs or images made by this run, without those of earlier runs.
        failures: Sources without a result, each with its reason.
        seconds: Duration of the run.
    """

    made: int
    failures: list[Failure]
    seconds: float


def load_ddpm(name_or_path: str | Path) -> Denoiser:
    """Load a trained DDPM.

    A network of your own needs ``ddpm_pairs.trust_classes`` first, because building it runs its code.

    Args:
        name_or_path: The name of shipped weights (``blind_camera``), a ``.ckpt`` from ``lightning fit`` (its EMA
            weights are used), a ``.safetensors`` export, or a diffusers folder.

    Returns:
        The denoiser in eval mode, float32, on the CPU.

    Raises:
        UserError: If there is no such file, it does not contain a DDPM, or it names a class that is not trusted.
    """
    return load_denoiser(weights_file(str(name_or_path)))


def make_pairs(
    hq_dir: str | Path,
    output_dir: str | Path,
    degradation: Degradation | str,
    *,
    seed: int = 0,
    variants: int = 1,
    psnr_drop: float | None = None,
    num_workers: int = 2,
    device: str | None = None,
) -> Summary:
    """Degrade a folder of HQ images and write a pairs folder, as ``lightning predict`` does.

    Pairs that are already in ``output_dir`` are not made again. The LQ of image ``key`` is ``degradation(hq, seed,
    [key])``, rounded to 8 bits.

    Args:
        hq_dir: Folder of HQ images, searched recursively.
        output_dir: The pairs folder.
        degradation: A ``Walk``, or any other degradation: an object, a name such as ``real_esrgan``, a class path, or
            a YAML file.
        seed: Seed of all random parameters and noise.
        variants: Number of pairs per HQ image, each with its own random degradation.
        psnr_drop: Mark pairs whose PSNR falls by more dB than this during denoising as not accepted; ``None`` accepts
            all.
        num_workers: Loader processes.
        device: ``cpu`` or ``cuda``; ``None`` uses a GPU if there is one.

    Returns:
        The number of pairs made, and the sources that gave none.

    Raises:
        UserError: If the folder or an option is unusable, or ``output_dir`` contains pairs made with different
            settings.
    """
    generator = PairGenerator(degradation, t_max=0, variants=variants, psnr_drop=psnr_drop, seed=seed)
    data = HighQualityImages(str(hq_dir), num_workers=num_workers)
    writer = PairWriter(str(output_dir))
    trainer = _trainer(device, writer)
    writer.check(generator, data, trainer.strategy.root_device.type)
    trainer.predict(generator, data, return_predictions=False)
    if writer.summary["folder"].pairs:
        write_contact_sheet(Path(output_dir), writer.summary["folder"].pairs, generator)
    return Summary(writer.summary["made"], writer.summary["failures"], writer.summary["seconds"])


def restore(
    lq_dir: str | Path,
    output_dir: str | Path,
    weights: str | Path,
    *,
    tile: int | None = 256,
    overlap: int = 32,
    num_workers: int = 2,
    device: str | None = None,
) -> Summary:
    """Restore a folder of images, as ``lightning predict`` does with a restorer.

    Images that are already in ``output_dir`` are not restored again.

    Args:
        lq_dir: Folder of LQ images, searched recursively.
        output_dir: Results are written to ``<output_dir>/restored/<key>.png``.
        weights: Weights of a restorer: a ``.ckpt`` of this package, or a ``.pth`` or ``.safetensors`` file whose
            network is recognized from the weights.
        tile: Side in LQ pixels above which an image is restored in tiles of this side; ``None`` never uses tiles.
        overlap: Overlap of the tiles in LQ pixels.
        num_workers: Loader processes.
        device: ``cpu`` or ``cuda``; ``None`` uses a GPU if there is one.

    Returns:
        The number of images restored, and the sources that could not be restored.

    Raises:
        UserError: If the folder, the weights, or an option is unusable, or ``output_dir`` contains images restored
            with different settings.
    """
    checkpoint = weights_file(str(weights))
    restorer = Restorer(load_restorer(checkpoint), tile, overlap)
    data = RestorationPairs(lq_dir=str(lq_dir), num_workers=num_workers)
    data.find()
    settings = {"checkpoint_sha256": sha256_of(checkpoint), "tile": tile, "overlap": overlap}
    writer = RestorationWriter(output_dir, settings)
    writer.check(data)
    _trainer(device, writer).predict(restorer, data, return_predictions=False)
    return Summary(writer.summary["made"], writer.summary["failures"], writer.summary["seconds"])


def score(
    result: str | Path,
    reference: str | Path,
    *,
    metrics: tuple[str, ...] = METRICS,
    patch: int | None = None,
    output_dir: str | Path | None = None,
    device: str | None = None,
) -> Scores:
    """Compare two folders of images, as ``ddpm-pairs score`` does.

    Args:
        result: Folder of images to score.
        reference: Folder of images to score against. Paired scores need equal names in both.
        metrics: Any of ``fid``, ``kid``, ``lpips``, ``psnr``, and ``ssim``.
        patch: Side in pixels of the native patches that set scores compare; ``None`` compares whole images.
        output_dir: Also write ``metrics.json``, ``metrics.csv``, and ``report.html`` there; ``None`` writes nothing.
        device: ``cpu`` or ``cuda``; ``None`` uses a GPU if there is one.

    Returns:
        The scores: ``values``, 95% ``intervals``, ``notes`` on missing scores, and how they were computed.

    Raises:
        UserError: If a folder or an option is unusable, or the weights of a metric are missing.
    """
    scores = score_folders(Path(result), Path(reference), metrics, patch, _device(device))
    if output_dir is not None:
        write_scores(Path(output_dir), scores)
    return scores


def _accelerator() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(device: str | None) -> torch.device:
    """Return the device to use.

    Raises:
        UserError: If it is not ``cpu`` or ``cuda``, or this machine has no such GPU.
    """
    name = _accelerator() if device is None else str(device)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"device: got {device!r}; expected cpu or cuda")
    found = torch.device(name)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device: got {device!r}, but this machine has {torch.cuda.device_count()} GPUs; use cpu")
    return found


def _trainer(device: str | None, writer: Callback) -> L.Trainer:
    """Return a Trainer that predicts on one device, with ``writer`` as its only callback."""
    place = _device(device)
    return L.Trainer(
        accelerator="gpu" if place.type == "cuda" else "cpu",
        devices=1 if place.index is None else [place.index],
        logger=False,
        callbacks=[writer],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
