"""The t study as a LightningModule: ``lightning test --config ablation.yaml``."""

import json
import math
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from ddpm_pairs.data.crops import MIN_SIDE
from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.data.unpaired import UnpairedImages
from ddpm_pairs.degradations import Degradation, Sampling, Walk, by_name
from ddpm_pairs.degradations.base import described, prepare, spec_of
from ddpm_pairs.degradations.by_name import label_of
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.images.pixels import canvas_size, crop_to_multiple, eight_bit, pad_to_canvas, psnr_of
from ddpm_pairs.metrics.features import FeatureNetwork, Inception, RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import LEAST_PICTURES
from ddpm_pairs.metrics.weights import INCEPTION, weights_path
from ddpm_pairs.plain_text import print_plain
from ddpm_pairs.study.cells import Cell, make_cells, table, write_csv
from ddpm_pairs.study.figures import save_grid, save_plot
from ddpm_pairs.study.folder import PictureResult, StudyFolder, stack
from ddpm_pairs.study.recommendation import Recommendation, recommend
from ddpm_pairs.study.report import study_report
from ddpm_pairs.study.sets import BATCH, RealSet, choose_pictures, read_real_set
from ddpm_pairs.study.wandb_log import log_study
from ddpm_pairs.tensors import generator_for


@dataclass(frozen=True)
class Findings:
    """All that a finished study has measured.

    Attributes:
        results: One per image.
        together: The same, stacked.
        real: The real LQ patches.
        cells: Scores of every degradation at every t.
        chosen: The recommended cell.
    """

    results: list[PictureResult]
    together: PictureResult
    real: RealSet
    cells: list[Cell]
    chosen: Recommendation


class TStudy(L.LightningModule):
    """Makes the LQ of every HQ image at several t and with several degradations, and compares it with real LQ images.

    LQ is what ``predict`` would write at that t; the random degradation and the noise of an image are the same at each
    t. The study keeps the same native patch of each LQ, and compares the patches of a cell with equally many patches of
    the real images. t = 0, the initial degradation alone, is always included.

    Args:
        degradations: Initial degradations, each in a form that ``--model.degradation`` of ``predict`` accepts: a name,
            a class path with its arguments, a YAML file (a chain, or the output of ``calibrate``), or the weights of a
            learned degradation.
        ts: Steps; those beyond the ``t_max`` of the checkpoint are skipped, and the report lists them.
        pictures: Number of HQ images, chosen at random; all if there are fewer.
        patch: Side of the patches in LQ pixels.
        scale: HQ size divided by LQ size, the same for all degradations; null uses the first degradation's own.
        psnr_drop: Largest loss of median PSNR against t = 0 in dB that the recommended t may have; null sets no limit.
        psnr_floor: Smallest median PSNR in dB that the recommended t may have; null sets no limit.
        mode: See ``PairGenerator``.
        sampler: See ``PairGenerator``.
        num_steps: See ``PairGenerator``.
        slots: See ``PairGenerator``.
        tile: See ``PairGenerator``.
        threads: See ``PairGenerator``.
        precision: See ``PairGenerator``; a resumed study keeps its precision.
        features: ``inception``, or ``random`` to try a study without weights.
        seed: Random seed; the command line sets it to ``seed_everything``.

    Raises:
        UserError: If a value is out of range.
    """

    verb_jobs: ClassVar = {"test": "ddpm_pairs.cli.jobs.study"}

    def __init__(
        self,
        degradations: list[Degradation | str] = ["real_esrgan", "bicubic"],  # noqa: B006 - never changed
        ts: list[int] = [0, 20, 50, 100, 200],  # noqa: B006
        pictures: int = 300,
        patch: int = 64,
        scale: int | None = None,
        psnr_drop: float | None = 2.0,
        psnr_floor: float | None = None,
        mode: Literal["fast", "default", "high", "exact"] = "default",
        sampler: Literal["sde-dpmsolver++", "dpmsolver++", "ddim", "ancestral"] | None = None,
        num_steps: int | None = None,
        slots: int = 8,
        tile: int | None = 256,
        threads: int = 2,
        precision: Literal["fp32", "bf16"] | None = None,
        features: Literal["inception", "random"] = "inception",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not degradations:
            raise UserError("--model.degradations: got none; expected one or more")
        if min(ts, default=-1) < 0:
            raise UserError(f"--model.ts: got {ts}; expected steps of 0 or more")
        if pictures < LEAST_PICTURES:
            raise UserError(f"--model.pictures: got {pictures}; expected {LEAST_PICTURES} or more")
        if patch < MIN_SIDE:
            raise UserError(f"--model.patch: got {patch}; expected {MIN_SIDE} px or more")
        self.ts = sorted({0, *ts})
        self.starts = [by_name(asked, scale, "--model.scale") for asked in degradations]
        both = zip(degradations, self.starts, strict=True)
        self.degradations = unique([label_of(asked, start) for asked, start in both])
        scales = {label: start.scale for label, start in zip(self.degradations, self.starts, strict=True)}
        if len(set(scales.values())) > 1:
            raise UserError(
                f"--model.degradations: got different scales ({scales}); use degradations of one scale, or set "
                "--model.scale"
            )
        self.words = dict(zip(self.degradations, degradations, strict=True))  # as they were given
        self.sampling, self.tile = Sampling.of_mode(mode, sampler, num_steps), tile
        self.runtime = Runtime(slots, threads, precision)
        self.walks: list[Walk] = []
        scale = self.starts[0].scale
        self.settings = {
            "degradations": self.degradations,
            "starts": [spec_of(start) for start in self.starts],
            "ts": self.ts,
            "pictures": pictures,
            "patch": patch,
            "scale": scale,
            "slots": slots,
            "tile": tile,
            "threads": threads,
            "seed": seed,
            "sampler": self.sampling.sampler,
            "num_steps": self.sampling.num_steps,
            "precision": precision,
            "features": features,
        }
        self.patch, self.scale, self.seed = patch, scale, seed
        self.psnr_drop, self.psnr_floor, self.features = psnr_drop, psnr_floor, features
        self.left_out: list[int] = []
        self.chosen: list[Picture] = []
        self.failures: list[Failure] = []
        self.folder: StudyFolder | None = None
        self.network: FeatureNetwork | None = None

    def prepare(
        self, denoiser: Denoiser, checkpoint: str, data: UnpairedImages, root: Path, device: torch.device
    ) -> None:
        """Check everything before the study, and schedule the images that are not finished.

        Args:
            denoiser: The DDPM.
            checkpoint: SHA-256 of the DDPM's file.
            data: The images, whose folders have been searched.
            root: Output folder of the study.
            device: Where to compute.

        Raises:
            UserError: If there are too few images, the folder contains a study with different settings, or weights are
                missing.
        """
        self.left_out = [t for t in self.ts if t > denoiser.t_max]
        self.ts = [t for t in self.ts if t <= denoiser.t_max]
        self.chosen = choose_pictures(
            data.pictures, self.settings["pictures"], self.patch, self.scale, self.seed, self.failures
        )
        if len(data.real) < 2 * LEAST_PICTURES:
            raise UserError(
                f"--data.lq_dir {data.lq_dir}: got {len(data.real)} images; expected {2 * LEAST_PICTURES} or more, "
                "because the floor compares two halves of them"
            )
        self.settings |= {"ts": self.ts, "checkpoint": checkpoint}
        self.folder = StudyFolder(root)
        if self.runtime.precision is None:
            begun = {} if self.folder.is_torn() else self.folder.settings() or {}
            self.runtime.precision = self.settings["precision"] = begun.get("precision")
        self.folder.check(self.settings)
        self.network = Inception(weights_path(INCEPTION)) if self.features == "inception" else RandomFeatures()
        self.network.to(device)
        t = (0, max(self.ts))
        self.walks = [Walk(start, denoiser, t, None, self.sampling, self.tile, self.runtime) for start in self.starts]
        self._share(self.walks[0].running(device), device)
        todo = [picture for picture in self.chosen if not self.folder.has(picture.key)]
        data.schedule(self._batches(todo))
        self._data = [data]  # in a list, so that it does not become a submodule

    def _batches(self, pictures: list[Picture]) -> list[list[Picture]]:
        """Group the images into batches of one canvas size, which fits all walks."""
        by_canvas: dict[tuple[int, int], list[Picture]] = {}
        for picture in pictures:
            by_canvas.setdefault(self._canvas(picture.size), []).append(picture)
        slots = self.runtime.slots
        return [group[first : first + slots] for group in by_canvas.values() for first in range(0, len(group), slots)]

    def _canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        cropped = tuple(side - side % self.scale for side in size)
        return canvas_size(cropped, math.lcm(*(walk.multiple for walk in self.walks)))

    def _share(self, running: Denoiser, device: torch.device) -> None:
        """Let all walks use one network on the device."""
        for walk in self.walks:
            walk.use(running, device)
            prepare(walk.start, device)
        self.settings["precision"] = self.runtime.precision

    def on_test_start(self) -> None:
        """Agree on the execution settings with the other ranks, and save the settings."""
        self.walks[0].agree(self.trainer.strategy, self.device)
        self._share(self.walks[0].running(self.device), self.device)
        self.folder.rank = self.trainer.global_rank
        if self.trainer.is_global_zero:
            self.folder.begin(self.settings)
        self.folder.starts_again = False
        self.trainer.strategy.barrier()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Finish the images of a batch."""
        self.folder.report(batch["failures"])
        if batch["pictures"]:
            for result in self.results_of(batch["pictures"]):
                self.folder.save(result)

    def on_test_epoch_end(self) -> None:
        """Wait until every rank has finished its images, because the report needs all of them."""
        self.trainer.strategy.barrier("pictures of all ranks")

    @torch.inference_mode()
    def results_of(self, pictures: list[Work]) -> Iterator[PictureResult]:
        """Yield the results of images of one canvas size in all cells."""
        cropped = [crop_to_multiple(picture.hq, self.scale) for picture in pictures]
        canvas = self._canvas(tuple(cropped[0].shape[1:]))
        hq = torch.stack([pad_to_canvas(one, canvas) for one in cropped]).to(self.device).float().div_(255)
        keys = [picture.key for picture in pictures]
        made = [eight_bit(self._at_each_t(walk, hq, keys)).cpu() for walk in self.walks]
        for n, (key, whole) in enumerate(zip(keys, cropped, strict=True)):
            height, width = (side // self.scale for side in whole.shape[1:])
            lq = torch.stack([one[:, n, :, :height, :width] for one in made])
            yield self._result(key, whole.cpu(), lq)

    def _at_each_t(self, walk: Walk, hq: Tensor, keys: list[str]) -> Tensor:
        """Return LQ (T, N, 3, h, w) of N images; the initial LQ and the noise are the same at all t."""
        drawn = [walk.draw(generator_for(self.seed, key, "degradation")) for key in keys]
        initial = walk.start_lq(hq, drawn)
        return torch.stack([walk.denoise(initial, [one | {"t": t} for one in drawn]) for t in self.ts])

    def _result(self, key: str, hq: Tensor, lq: Tensor) -> PictureResult:
        """Compute what is kept of an image.

        Args:
            key: The image's key.
            hq: uint8 (3, H, W).
            lq: uint8 (D, T, 3, h, w).
        """
        place = generator_for(self.seed, key, "patch")
        top, left = (int(torch.randint(side - self.patch + 1, (), generator=place)) for side in lq.shape[-2:])

        def cut(pixels: Tensor, times: int) -> Tensor:
            box = [slice(start * times, (start + self.patch) * times) for start in (top, left)]
            return pixels[..., box[0], box[1]].contiguous()

        patches = cut(lq, 1)
        psnr = [[psnr_of(hq, one) for one in row] for row in lq]
        flat = extract(self.network, [part.to(self.device) for part in patches.flatten(0, 1).split(BATCH)])
        return PictureResult(
            key,
            cut(hq, self.scale),
            patches,
            torch.tensor(psnr, dtype=torch.float64),
            {name: values.unflatten(0, patches.shape[:2]) for name, values in flat.items()},
        )

    def report(self, checkpoint: str) -> Recommendation:
        """Score all cells; write ``ablation.csv`` and ``.png``, ``grid.png``, ``recommendation.json``, ``report.html``.

        Args:
            checkpoint: ``--ckpt_path`` as typed, for the recommended command.

        Returns:
            The recommendation.

        Raises:
            UserError: If fewer than 4 images could be finished.
        """
        results = [one for picture in self.chosen if (one := self.folder.load(picture.key)) is not None]
        if len(results) < LEAST_PICTURES:
            raise UserError(f"got {len(results)} finished images; expected {LEAST_PICTURES} or more")
        together, (data,) = stack(results), self._data
        real = read_real_set(data.real, len(results), self.patch, self.seed, self.network, self.device, self.failures)
        self.failures = self.folder.join(self.failures)
        schedule = self.walks[0].denoiser.schedule
        logsnrs = [schedule.log_snr_at(t) if t > 0 else None for t in self.ts]
        cells = make_cells(together, self.degradations, self.ts, logsnrs, real)
        limits = (self.psnr_drop, self.psnr_floor, real.floor.kid)
        chosen = recommend(cells, *limits, partial(self._command, checkpoint))
        self.write(Findings(results, together, real, cells, chosen))
        return chosen

    def write(self, found: Findings) -> None:
        """Write the files of ``report``, and print the cells and the recommendation."""
        root, real, cells, chosen = self.folder.root, found.real, found.cells, found.chosen
        write_csv(root / "ablation.csv", cells, real)
        save_plot(root / "ablation.png", cells, real, chosen)
        save_grid(root / "grid.png", found.together, self.degradations, self.ts)
        write_atomically(root / "recommendation.json", (json.dumps(chosen.as_dict(), indent=2) + "\n").encode())
        page = study_report(cells, real, chosen, found.results, self.settings, self._notes())
        write_atomically(root / "report.html", page.encode())
        self._print(table(cells, real), chosen)

    def log(self, loggers: Iterable[Logger], chosen: Recommendation) -> None:
        """Log the finished study to W&B."""
        log_study(loggers, self.folder.root, chosen)

    def _command(self, checkpoint: str, degradation: str, t: int) -> str:
        """Return the command that makes pairs with one of the starts, which it names as it was given."""
        (data,), start = self._data, self.starts[self.degradations.index(degradation)]
        asked = self.words[degradation]
        options = {
            "--config": "pairs_natural.yaml",
            "--ckpt_path": checkpoint,
            "--data.hq_dir": data.hq_dir,
            "--model.degradation": asked if isinstance(asked, str) else json.dumps(described(start)),
            "--model.t_min": str(t),
            "--model.t_max": str(t),
            "--output_dir": "pairs",
        }
        if self.scale != by_name(asked).scale:
            options["--model.scale"] = str(self.scale)
        return shlex.join(["lightning", "predict", *(word for option in options.items() for word in option)])

    def _notes(self) -> list[str]:
        notes = []
        if self.left_out:
            notes.append(f"skipped t beyond the checkpoint's t_max: {', '.join(map(str, self.left_out))}")
        if self.failures:
            notes.append(f"skipped images: {len(self.failures)}, such as {vars(self.failures[0])}")
        return notes

    def _print(self, cells: str, chosen: Recommendation) -> None:
        print_plain(cells)
        for note in self._notes():
            print_plain(note)
        for warning in chosen.warnings:
            print_plain(f"warning: {warning}")
        print_plain(f"recommended: {chosen.words}\n  {chosen.command}")


def unique(labels: list[str]) -> list[str]:
    """Number repeated labels, starting with the second one: ``chain``, ``chain-2``."""
    return [
        label if (before := labels[:n].count(label)) == 0 else f"{label}-{before + 1}" for n, label in enumerate(labels)
    ]
