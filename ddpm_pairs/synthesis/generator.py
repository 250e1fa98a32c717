"""The predict loop that makes pairs: it batches and records images that a degradation turns into LQ."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.degradations import Degradation, HQPreparation, Sampling, Walk, by_name
from ddpm_pairs.degradations.base import (
    MIN_LQ_SIDE,
    apply_with_start,
    facts_of,
    multiple_of,
    prepare,
    too_small,
)
from ddpm_pairs.degradations.walk import check_t, tile_count
from ddpm_pairs.degradations.walk_tiles import MIN_TILE
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.images.pixels import crop_to_multiple, eight_bit, pad_to_canvas, psnr_against_hq
from ddpm_pairs.synthesis.old_runs import modern_record
from ddpm_pairs.tensors import generator_for, to_device

MOST_VARIANTS = 10_000


class PairGenerator(L.LightningModule):
    """Make HQ-LQ pairs: degrade, noise to step t, denoise (Yang et al. section 3.3).

    Call ``add_walk`` with the DDPM before predicting; the command line does this if ``--ckpt_path`` is given. Without
    it, which requires ``t_max`` 0, LQ is the output of the degradation. A pair depends on seed, key, checkpoint and
    these arguments, but not on its batch: degradation and network always run on ``slots`` images of one canvas size,
    and on a CPU with ``threads`` threads. An image larger than ``tile`` runs alone: it is degraded as a whole, and
    passes through the network ``slots`` tiles at a time.

    Args:
        degradation: The start: ``bicubic``, ``classical``, ``classical_faces``, ``bsrgan``, ``real_esrgan``,
            ``gaussian_noise``, a class path with its arguments, a YAML file with a chain or a config, the weights of a
            learned degradation, or any object with the methods of ``ddpm_pairs.degradations.Degradation``.
        scale: HQ sides over LQ sides: 1 (LQ on the HQ grid), 2 or 4. Null uses the degradation's own, and 4 for a name.
        sharpen_hq: Sharpen HQ first, as in Real-ESRGAN's training; the HQ of the pair is the sharpened image.
        gray_hq: Share of HQ images that are converted to gray first, 0..1; GPEN uses 0.2.
        t_min: Smallest t; ignored if ``t_max`` is 0.
        t_max: Largest t; t is uniform over t_min..t_max.
        t_weights: Weights of equally long bands from t_min to t_max, such as ``[3, 2, 1]`` for more small t; t is
            uniform within a band.
        mode: Sampler and maximum number of network evaluations per pair: ``fast`` (8), ``default`` (12) and ``high``
            (20) use ``sde-dpmsolver++``; ``exact`` uses every step of ``ancestral``, as the paper does.
        sampler: Overrides the mode's sampler: one of these, or the ODE samplers ``dpmsolver++`` and ``ddim``, which at
            equal t come only about half as close to the real degradation.
        num_steps: Maximum number of network evaluations per pair; overrides the mode's.
        eta: Noise of ``ddim``, 0..1.
        variants: Number of pairs per HQ image, each with its own random degradation; the keys after the first are
            ``<key>~1``, ``<key>~2``.
        psnr_drop: Pairs whose PSNR is more than this many dB below that of their initial LQ are marked
            ``accepted: false``, and restorers skip them; null accepts all.
        tile: Longest LQ side, in px, that the network processes in one piece; larger images are cut into overlapping
            tiles of about this side. Null never cuts.
        slots: Number of images that the network processes together, 4 or 8.
        threads: CPU threads per process, 1, 2 or 4.
        precision: ``fp32`` or ``bf16`` for the network; null uses bf16 if the device supports it natively (CUDA with
            compute capability 8.0 or newer, CPUs with AMX-bf16 or AVX512-bf16).
        compile: Compile the network once per canvas size, which takes minutes and is cached for later runs. Useful for
            long runs with few sizes. If compilation fails, a warning appears and the network runs uncompiled.
        seed: Seed of all random numbers; the command line sets it to ``seed_everything``.

    Attributes:
        start: The degradation without a walk.
        walk: The walk from ``start``, after ``add_walk`` or if the degradation is a walk; otherwise ``None``.
        degradation: What makes LQ: the walk, or the start if there is no walk.

    Raises:
        UserError: If a value is out of range.
    """

    verb_jobs: ClassVar = {"predict": "ddpm_pairs.cli.jobs.pairs"}

    def __init__(
        self,
        degradation: Degradation | str = "real_esrgan",  # in this order, a class path is parsed as a class
        scale: int | None = None,
        sharpen_hq: bool = False,
        gray_hq: float = 0.0,
        t_min: int = 0,
        t_max: int = 250,
        t_weights: list[float] | None = None,
        mode: Literal["fast", "default", "high", "exact"] = "default",
        sampler: Literal["sde-dpmsolver++", "dpmsolver++", "ddim", "ancestral"] | None = None,
        num_steps: int | None = None,
        eta: float = 0.0,
        variants: int = 1,
        psnr_drop: float | None = 2.0,
        tile: int | None = 256,
        slots: int = 8,
        threads: int = 2,
        precision: Literal["fp32", "bf16"] | None = None,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.start = by_name(degradation, scale, "--model.scale")
        self.scale = self.start.scale
        if t_max == 0:
            t_min = 0  # no walk, whatever t_min the config has
        check_t(t_min, t_max, t_weights)
        if (self.start.name, self.scale, t_max) == ("bicubic", 1, 0):
            raise UserError(
                "bicubic at scale 1 leaves HQ unchanged, and so does t_max 0; use a t_max above 0, or another "
                "degradation"
            )
        for name, value, least in (("variants", variants, 1), ("psnr_drop", psnr_drop, 0), ("tile", tile, MIN_TILE)):
            if value is not None and not value >= least:
                raise UserError(f"--model.{name}: got {value}; expected {least} or more")
        if variants > MOST_VARIANTS:
            raise UserError(f"--model.variants: got {variants}; expected {MOST_VARIANTS} or less")
        self.sharpen_hq, self.gray_hq = sharpen_hq, float(gray_hq)
        self.hq_preparation = HQPreparation(sharpen_hq, gray_hq) if sharpen_hq or gray_hq else None
        self.t, self.t_weights = (t_min, t_max), t_weights
        self.variants, self.psnr_drop, self.seed = variants, psnr_drop, seed
        self.tile, self.runtime = tile, Runtime(slots, threads, precision, compile)
        self.sampling = Sampling.of_mode(mode, sampler, num_steps, eta)
        self.walk: Walk | None = None
        self._added = False
        if isinstance(self.start, Walk):  # a walk has its own start and settings
            self.walk, self.start = self.start, self.start.start
            self.tile, self.runtime, self.sampling = self.walk.tile, self.walk.runtime, self.walk.sampling
            self.runtime.threads = self.runtime.threads or threads
        self.degradation, self._no_walk = self.walk or self.start, self.sampling.facts(None, 0)
        self.multiple, self._facts = multiple_of(self.degradation), facts_of(self.degradation)
        self._prepared: torch.device | None = None
        self.rows_used = self.rows_run = 0

    def add_walk(self, denoiser: Denoiser) -> None:
        """Make LQ with a walk of this DDPM from the start.

        Args:
            denoiser: The trained DDPM.

        Raises:
            UserError: If ``t_max`` is larger than that of the DDPM.
        """
        if self.t[1] > denoiser.t_max:
            raise UserError(
                f"--model.t_max: got {self.t[1]}; expected {denoiser.t_max} or less, the t_max of the checkpoint's DDPM"
            )
        self.start, self._added = self.degradation, True
        self.walk = Walk(self.start, denoiser, self.t, self.t_weights, self.sampling, self.tile, self.runtime)
        self.degradation, self._prepared = self.walk, None
        self.multiple, self._facts = self.walk.multiple, self.walk.facts

    def check(self) -> None:
        """Check that there is a DDPM if ``t_max`` needs one.

        Raises:
            UserError: If it is missing.
        """
        if self.t[1] > 0 and not self._added:
            raise UserError(
                "--ckpt_path is missing; --model.t_max above 0 needs a trained DDPM (or set --model.t_max 0 for "
                "pairs of the degradation alone)"
            )

    @property
    def occupancy(self) -> float | None:
        """Share of the network's rows so far that images or their tiles used, 0..1; ``None`` if no network ran.

        The others are repeats that fill short batches, and rows whose image has fewer steps than its batch.
        """
        return self.rows_used / self.rows_run if self.rows_run else None

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the HQ canvas (height, width) on which an HQ image of this (height, width) is degraded."""
        # Images are cropped to multiples of the scale first.
        return tuple(-(-(side - side % self.scale) // self.multiple) * self.multiple for side in size)

    def tiles(self, canvas: tuple[int, int]) -> int:
        """Return the number of tiles into which an HQ canvas is cut for the network; 1 if it is not cut."""
        height, width = (side // self.scale for side in canvas)
        if self.tile is None or max(height, width) <= self.tile:
            return 1
        return tile_count((height, width), self.tile, self.multiple // self.scale)

    def together(self, canvas: tuple[int, int]) -> int:
        """Return the number of images of an HQ canvas that run together: ``slots``, or 1 if it is cut into tiles."""
        return self.runtime.slots if self.tiles(canvas) == 1 else 1

    def prepare(self, device: torch.device) -> None:
        """Move the degradation's weights to ``device``; the command line does this before the Trainer starts.

        Args:
            device: The device of the run.

        Raises:
            UserError: If the result of an image depends on its neighbors in the batch, with this network on this
                machine.
        """
        if self._prepared != device:
            self.runtime.set_threads(device)
            prepare(self.degradation, device)
            self._prepared = device

    def on_predict_start(self) -> None:
        """Prepare the degradation, identically on all ranks."""
        self.check()
        self.prepare(self.device)
        if self.trainer.world_size > 1 and hasattr(self.degradation, "agree"):
            self.degradation.agree(self.trainer.strategy, self.device)

    def arrange(self, window: list[list[Picture]]) -> list[list[Work]]:
        """Draw the parameters of the images in a window of batches, and group walks of similar length.

        Args:
            window: Batches made by ``plan``; the ``size`` of each image is set.

        Returns:
            Batches by canvas, with the longest walks first.
        """
        by_canvas: dict[tuple[int, int], list[Work]] = {}
        for picture in (one for batch in window for one in batch):
            work = self.draw(Work(picture.key, picture.source, picture.path))
            by_canvas.setdefault(self.canvas(picture.size), []).append(work)
        batches = []
        for canvas, group in by_canvas.items():
            group.sort(key=lambda work: (-work.facts.get("evaluations", 0), work.key))
            batches += chunks(group, self.together(canvas))
        return batches or [[]]

    def draw(self, work: Work) -> Work:
        """Draw the parameters of one image, from (seed, key) alone."""
        work.hq_preparation = {"sharpened": False, "gray": False}
        if self.hq_preparation is not None:
            work.hq_preparation = self.hq_preparation.draw(generator_for(self.seed, work.key, "hq"))
        work.parameters = self.degradation.draw(generator_for(self.seed, work.key, "degradation"))
        work.facts = self._facts(work.parameters)
        return work

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> tuple[list[Work], list[Failure]]:
        """Make the pairs of one batch of ``HighQualityImages``; return them and the images that cannot be used."""
        failures: list[Failure] = list(batch["failures"])
        ready = []
        for work in batch["pictures"]:
            height, width = work.hq.shape[1:]
            if min(height, width) < MIN_LQ_SIDE * self.scale:
                failures.append(Failure(work.source, too_small(height, width, self.scale)))
            else:
                ready.append(self.prepared(work if work.parameters is not None else self.draw(work)))
        return list(self.make(ready)), failures

    def prepared(self, work: Work) -> Work:
        """Crop and prepare the HQ of one image.

        This comes before padding to the canvas, so that the canvas is padded from the HQ as written, also in a remake.
        """
        hq, changed = work.hq, any(work.hq_preparation.values())
        if any(side % self.scale for side in hq.shape[1:]):
            hq = crop_to_multiple(hq, self.scale)
        if changed:
            hq = eight_bit(self.hq_preparation.apply(hq[None].float() / 255, [work.hq_preparation])[0])
        if changed or hq.shape != work.hq.shape:
            work.png = None
        work.hq = hq.cpu()
        return work

    def make(self, ready: Iterable[Work]) -> Iterator[Work]:
        """Make pairs in groups of one canvas size, ``slots`` at a time; short groups are filled with repeats.

        Args:
            ready: Images with their parameters drawn and their HQ as it will be written.

        Yields:
            The same objects, with ``lq`` and ``record`` set.
        """
        by_canvas: dict[tuple[int, int], list[Work]] = {}
        for work in ready:
            by_canvas.setdefault(self.canvas(tuple(work.hq.shape[1:])), []).append(work)
        for canvas in sorted(by_canvas):
            for chunk in chunks(by_canvas[canvas], self.together(canvas)):
                yield from self._make_chunk(chunk, canvas)

    @torch.inference_mode()
    def initial_lqs(self, hqs: list[Tensor], records: list[dict[str, Any]]) -> list[Tensor | None]:
        """Recompute the initial LQ of pairs from their HQ and the parameters in the manifest.

        Args:
            hqs: N images, uint8 (3, H, W), as they were written.
            records: Their N manifest lines.

        Returns:
            N images, uint8 (3, H / scale, W / scale), on the CPU; ``None`` for a pair that was not made with
            ``start``, or whose parameters in the manifest cannot be applied and are not those that were drawn.
        """
        found: list[Tensor | None] = [None] * len(hqs)
        by_canvas: dict[tuple[int, int], list[int]] = {}
        entries = [_start_entry(record) for record in records]
        for n, (hq, entry, record) in enumerate(zip(hqs, entries, records, strict=True)):
            if (entry.get("name"), record.get("scale")) == (self.start.name, self.scale) and "parameters" in entry:
                by_canvas.setdefault(self.canvas(tuple(hq.shape[1:])), []).append(n)
        for canvas, numbers in by_canvas.items():
            for chunk in chunks(numbers, self.together(canvas)):
                filled = chunk + chunk[-1:] * (self.together(canvas) - len(chunk))  # as when the pairs were made
                drawn = [entries[n]["parameters"] for n in filled]
                padded = torch.stack([pad_to_canvas(hqs[n], canvas) for n in filled]).to(self.device)
                try:
                    initial = eight_bit(self.start.apply(padded.float().div_(255), drawn)).cpu()
                except Exception:
                    if all(self._drew(records[n], entries[n]) for n in chunk):
                        raise
                    continue
                for n, one in zip(chunk, initial, strict=False):
                    width, height = records[n]["lq_size"]
                    found[n] = one[:, :height, :width]
        return found

    def _drew(self, record: dict[str, Any], entry: dict[str, Any]) -> bool:
        """Check whether the parameters of a start in the manifest are those that its seed draws."""
        return (
            self.start.draw(generator_for(record.get("seed", 0), record["key"], "degradation")) == entry["parameters"]
        )

    @torch.inference_mode()
    def _make_chunk(self, chunk: list[Work], canvas: tuple[int, int]) -> list[Work]:
        tiles = self.tiles(canvas)
        filled = chunk + chunk[-1:] * (self.together(canvas) - len(chunk))
        padded = [work.hq if work.hq.shape[1:] == canvas else pad_to_canvas(work.hq, canvas) for work in filled]
        drawn, lengths = [work.parameters for work in filled], [work.facts.get("evaluations", 0) for work in chunk]
        self.rows_used += tiles * sum(lengths)
        self.rows_run += -(-tiles // self.runtime.slots) * self.runtime.slots * max(lengths)
        pixels = to_device(torch.stack(padded), self.device)
        initial, lq = apply_with_start(self.degradation, pixels.float().div_(255), drawn)
        if not (initial.amin().item() >= 0 and initial.amax().item() <= 1):  # NaN included
            raise ValueError(f"{type(self.start).__name__}.apply returned values outside [0, 1] or NaN")
        walked, initial, lq = initial is not lq, eight_bit(initial), eight_bit(lq)
        psnrs = []
        for n, work in enumerate(chunk):
            height, width = work.hq.shape[1:]
            sizes = slice(height // self.scale), slice(width // self.scale)
            hq, work.lq = pixels[n, :, :height, :width], lq[n, :, *sizes].cpu()
            psnr = psnr_against_hq(hq, lq[n, :, *sizes])
            psnrs.append((psnr, psnr_against_hq(hq, initial[n, :, *sizes]) if walked else psnr))
        for work, (psnr, psnr_initial) in zip(chunk, psnrs, strict=True):
            work.record = self._record(work, None if tiles == 1 else self.tile, psnr, psnr_initial)
        return chunk

    def _record(self, work: Work, tile: int | None, psnr: float | None, psnr_initial: float | None) -> dict[str, Any]:
        """Build the manifest line of a finished pair."""
        return {
            "key": work.key,
            "hq": f"hq/{work.key}.png",
            "lq": f"lq/{work.key}.png",
            "source": work.source,
            "source_sha256": work.sha256,
            "seed": self.seed,
            **self._no_walk,
            **work.facts,
            "degradation": {"name": self.degradation.name, "parameters": work.parameters},
            "hq_preparation": work.hq_preparation,
            "scale": self.scale,
            "tile": tile,
            "hq_size": [work.hq.shape[2], work.hq.shape[1]],
            "lq_size": [work.lq.shape[2], work.lq.shape[1]],
            "psnr": psnr,
            "psnr_initial": psnr_initial,
            "accepted": is_accepted(psnr, psnr_initial, self.psnr_drop),
        }


def _start_entry(record: dict[str, Any]) -> dict[str, Any]:
    """Return the ``degradation`` entry of a pair's start; empty for a line that another program wrote."""
    if not {"degradation", "lq_size", "scale", "source_sha256"} <= record.keys():
        return {}
    entry = (modern_record(record, False) if "preset" in record else record)["degradation"]
    if not isinstance(entry, dict) or not isinstance(entry.get("parameters"), dict):
        return {}
    start = entry["parameters"].get("start") if entry.get("name") == Walk.name else entry
    return start if isinstance(start, dict) and isinstance(start.get("parameters"), dict) else {}


def chunks(group: list[Any], size: int) -> list[list[Any]]:
    """Split a list into consecutive parts of ``size``; the last one may be shorter."""
    return [group[first : first + size] for first in range(0, len(group), size)]


def is_accepted(psnr: float | None, psnr_initial: float | None, psnr_drop: float | None) -> bool:
    """Check whether the walk preserved the content: PSNR fell by no more than ``psnr_drop`` dB.

    Yang et al. reject a t if its PSNR to HQ falls below a fixed threshold. A fixed threshold would also judge the
    handcrafted start; see ``psnr_floor`` of the t study.

    Args:
        psnr: PSNR of LQ to HQ, in dB; ``None`` is infinite.
        psnr_initial: PSNR of the initial LQ to HQ, in dB; ``None`` is infinite.
        psnr_drop: Largest decrease, in dB; ``None`` accepts everything.
    """
    if psnr_drop is None or psnr is None:
        return True
    return psnr_initial is not None and psnr_initial - psnr <= psnr_drop
