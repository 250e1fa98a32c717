"""The t study as a LightningModule: ``lightning test --config ablation.yaml``."""

import json
import math
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from rich.console import Console
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
from ddpm_pairs.seeding import generator_for
from ddpm_pairs.study.cells import make_cells, table, write_csv
from ddpm_pairs.study.figures import save_grid, save_plot
from ddpm_pairs.study.folder import PictureResult, StudyFolder, stack
from ddpm_pairs.study.recommendation import Recommendation, recommend
from ddpm_pairs.study.report import study_report
from ddpm_pairs.study.sets import BATCH, choose_pictures, read_real_set


class TStudy(L.LightningModule):
    """Makes every HQ image's LQ for a list of t and of degradations, and compares the sets with real LQ images.

    LQ is what ``predict`` would write at that t, with the same draws and the same noise at each t. Of each, the same
    native patch is kept; patches of all images in a cell are compared with as many of the real images. t = 0, the start
    alone, is always among the t.

    Args:
        degradations: The starts, each as ``--model.degradation`` of ``predict`` takes it: a name, a class path with its
            arguments, a YAML file (a chain, or what ``calibrate`` wrote), or the weights of a learned degradation.
        ts: Steps; those beyond the checkpoint's training are left out, and it says so.
        pictures: HQ images to take, a seeded choice; all where there are fewer.
        patch: Side of the patches, LQ pixels.
        scale: HQ sides over LQ sides; null uses the first degradation's own. All must have the same.
        psnr_drop: The recommended t may cost this many dB of median PSNR against t = 0; null allows any.
        psnr_floor: The recommended t keeps this median PSNR in dB; null asks for none.
        mode: As ``PairGenerator``'s.
        sampler: As ``PairGenerator``'s.
        num_steps: As ``PairGenerator``'s.
        slots: As ``PairGenerator``'s.
        tile: As ``PairGenerator``'s.
        threads: As ``PairGenerator``'s.
        precision: As ``PairGenerator``'s; a study that is resumed keeps the one that it began with.
        features: ``inception``, or ``random`` to try out a study without weights.
        seed: Seed of everything drawn; the command line sets it to ``seed_everything``.

    Raises:
        UserError: For values outside their range.
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
            raise UserError("degradations is empty: give one or more")
        if min(ts, default=-1) < 0:
            raise UserError(f"ts is {ts}: expected steps from 0 on")
        if pictures < LEAST_PICTURES:
            raise UserError(f"pictures is {pictures}: expected {LEAST_PICTURES} or more")
        if patch < MIN_SIDE:
            raise UserError(f"patch is {patch}: expected {MIN_SIDE} px or more")
        self.ts = sorted({0, *ts})
        self.starts = [by_name(asked, scale, "--model.scale") for asked in degradations]
        both = zip(degradations, self.starts, strict=True)
        self.degradations = unique([label_of(asked, start) for asked, start in both])
        scales = {label: start.scale for label, start in zip(self.degradations, self.starts, strict=True)}
        if len(set(scales.values())) > 1:
            raise UserError(f"degradations have different scales ({scales}): give those of one scale, or --model.scale")
        self.words = dict(zip(self.degradations, degradations, strict=True))  # as they were typed
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
        """Find every reason not to begin, and schedule what is not done yet.

        Args:
            denoiser: The DDPM.
            checkpoint: SHA-256 of its file.
            data: The folders, searched already.
            root: The study's folder.
            device: Where to compute.

        Raises:
            UserError: for too few pictures, a study of other settings in the folder, or missing weights.
        """
        self.left_out = [t for t in self.ts if t > denoiser.t_max]
        self.ts = [t for t in self.ts if t <= denoiser.t_max]
        self.chosen = choose_pictures(
            data.pictures, self.settings["pictures"], self.patch, self.scale, self.seed, self.failures
        )
        if len(data.real) < 2 * LEAST_PICTURES:
            raise UserError(
                f"--data.lq_dir {data.lq_dir} has {len(data.real)} pictures: expected {2 * LEAST_PICTURES} or more, "
                "which can be halved to see how far real pictures lie from real ones"
            )
        self.settings |= {"ts": self.ts, "checkpoint": checkpoint}
        self.folder = StudyFolder(root)
        if self.runtime.precision is None:
            begun = self.folder.settings() or {}
            self.runtime.precision = self.settings["precision"] = begun.get("precision")
        self.folder.check(self.settings)
        self.network = Inception(weights_path(INCEPTION)) if self.features == "inception" else RandomFeatures()
        self.network.to(device)
        t = (0, max(self.ts))
        self.walks = [Walk(start, denoiser, t, None, self.sampling, self.tile, self.runtime) for start in self.starts]
        self._share(self.walks[0].running(device), device)
        todo = [picture for picture in self.chosen if not self.folder.has(picture.key)]
        data.schedule(self._batches(todo))
        self._data = [data]  # in a list, so as not to become a submodule of anything

    def _batches(self, pictures: list[Picture]) -> list[list[Picture]]:
        """Batches of one canvas size, which is alike for all walks unless a start asks for more."""
        by_canvas: dict[tuple[int, int], list[Picture]] = {}
        for picture in pictures:
            by_canvas.setdefault(self._canvas(picture.size), []).append(picture)
        slots = self.runtime.slots
        return [group[first : first + slots] for group in by_canvas.values() for first in range(0, len(group), slots)]

    def _canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        cropped = tuple(side - side % self.scale for side in size)
        return canvas_size(cropped, math.lcm(*(walk.multiple for walk in self.walks)))

    def _share(self, running: Denoiser, device: torch.device) -> None:
        """Let all walks use one network, placed on the device."""
        for walk in self.walks:
            walk.use(running, device)
            prepare(walk.start, device)
        self.settings["precision"] = self.runtime.precision

    def on_test_start(self) -> None:
        """Let the ranks agree on how to work, and write down the settings."""
        self.walks[0].agree(self.trainer.strategy, self.device)
        self._share(self.walks[0].running(self.device), self.device)
        self.folder.rank = self.trainer.global_rank
        if self.trainer.is_global_zero:
            self.folder.begin(self.settings)
        self.trainer.strategy.barrier()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Finish the images of a batch."""
        self.folder.report(batch["failures"])
        if batch["pictures"]:
            for result in self.results_of(batch["pictures"]):
                self.folder.save(result)

    def on_test_epoch_end(self) -> None:
        """Wait until every rank has finished its pictures; the report is made from all of them."""
        self.trainer.strategy.barrier("pictures of all ranks")

    @torch.inference_mode()
    def results_of(self, pictures: list[Work]) -> Iterator[PictureResult]:
        """Images of one canvas size in all cells."""
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
        """LQ (T, N, 3, h, w) of N images: the start is drawn and applied once, and so is the noise."""
        drawn = [walk.draw(generator_for(self.seed, key, "degradation")) for key in keys]
        initial = walk.start_lq(hq, drawn)
        return torch.stack([walk.denoise(initial, [one | {"t": t} for one in drawn]) for t in self.ts])

    def _result(self, key: str, hq: Tensor, lq: Tensor) -> PictureResult:
        """What is kept of an image.

        Args:
            key: Its key.
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
            checkpoint: What ``--ckpt_path`` was typed as, for the command that is recommended.

        Raises:
            UserError: if fewer than 4 pictures could be finished.
        """
        results = [self.folder.load(picture.key) for picture in self.chosen if self.folder.has(picture.key)]
        if len(results) < LEAST_PICTURES:
            raise UserError(f"{len(results)} pictures could be finished: expected {LEAST_PICTURES} or more")
        together, (data,) = stack(results), self._data
        real = read_real_set(data.real, len(results), self.patch, self.seed, self.network, self.device, self.failures)
        self.failures = self.folder.join(self.failures)
        schedule = self.walks[0].denoiser.schedule
        logsnrs = [schedule.log_snr_at(t) if t > 0 else None for t in self.ts]
        cells = make_cells(together, self.degradations, self.ts, logsnrs, real)
        limits = (self.psnr_drop, self.psnr_floor, real.floor.kid)
        chosen = recommend(cells, *limits, partial(self._command, checkpoint))
        root = self.folder.root
        write_csv(root / "ablation.csv", cells, real)
        save_plot(root / "ablation.png", cells, real, chosen)
        save_grid(root / "grid.png", together, self.degradations, self.ts)
        write_atomically(root / "recommendation.json", (json.dumps(chosen.as_dict(), indent=2) + "\n").encode())
        page = study_report(cells, real, chosen, results, self.settings, self._notes())
        write_atomically(root / "report.html", page.encode())
        self._print(table(cells, real), chosen)
        return chosen

    def _command(self, checkpoint: str, degradation: str, t: int) -> str:
        """What to type for pairs from one of the starts, in the words in which it was typed."""
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
            notes.append(f"t beyond the checkpoint's training was left out: {', '.join(map(str, self.left_out))}")
        if self.failures:
            notes.append(f"pictures left out: {len(self.failures)}, such as {vars(self.failures[0])}")
        return notes

    def _print(self, cells: str, chosen: Recommendation) -> None:
        console = Console(highlight=False, soft_wrap=True)
        console.print(cells)
        for note in self._notes():
            console.print(note)
        for warning in chosen.warnings:
            console.print(f"warning: {warning}")
        console.print(f"recommended: {chosen.words}\n  {chosen.command}")


def unique(labels: list[str]) -> list[str]:
    """The labels, numbered from the second of a name on: ``chain``, ``chain-2``."""
    return [
        label if (before := labels[:n].count(label)) == 0 else f"{label}-{before + 1}" for n, label in enumerate(labels)
    ]
