"""The predict loop that makes pairs: it batches and records; what makes LQ is a degradation."""

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
from ddpm_pairs.devices import to_device
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.images.pixels import crop_to_multiple, eight_bit, pad_to_canvas, psnr_against_hq
from ddpm_pairs.seeding import generator_for
from ddpm_pairs.synthesis.old_runs import modern_record

MIN_TILE = 64


class PairGenerator(L.LightningModule):
    """Makes HQ-LQ pairs: degrade, noise to step t, denoise (Yang et al. section 3.3).

    Call ``add_walk`` with the DDPM before predicting (the command line does with ``--ckpt_path``); without it, and with
    ``t_max`` 0, LQ is the degradation's own. A pair depends on seed, key, checkpoint and these arguments, and not on
    its batch: degradation and network always run on ``slots`` images of one canvas size, on a CPU with ``threads``
    threads. An image larger than ``tile`` runs alone: degraded as a whole, and sent through the network in ``slots``
    tiles at a time.

    Args:
        degradation: The start: ``bicubic``, ``classical``, ``classical_faces``, ``bsrgan``, ``real_esrgan``, a class
            path with its arguments, a YAML file with a chain or a config, the weights of a learned degradation, or any
            object with the methods of ``ddpm_pairs.degradations.Degradation``.
        scale: HQ sides over LQ sides: 1 (LQ on the HQ grid), 2 or 4. Null uses the degradation's own, and 4 for a name.
        sharpen_hq: Sharpen HQ first, as Real-ESRGAN's training does; the pair's HQ is the sharpened image.
        gray_hq: Share of HQ images that become gray first, 0..1; GPEN's is 0.2.
        t_min: Smallest t; ignored if ``t_max`` is 0.
        t_max: Largest t; t is uniform over t_min..t_max.
        t_weights: Weights of equally long bands from t_min to t_max, such as ``[3, 2, 1]`` for more small t; t is
            uniform within a band.
        mode: Sampler and network evaluations per pair at most: ``fast`` (8), ``default`` (12) and ``high`` (20) of
            ``sde-dpmsolver++``, or ``exact``, the paper's ``ancestral`` through every step.
        sampler: Instead of the mode's: one of these, or the ODE samplers ``dpmsolver++`` and ``ddim``, which at equal t
            come only about half as near to the real degradation.
        num_steps: Network evaluations per pair at most, instead of the mode's.
        eta: Noise of ``ddim``, 0..1.
        variants: Number of pairs per HQ image, each with its own random degradation; the further ones are ``<key>~1``,
            ``<key>~2``.
        psnr_drop: Pairs whose PSNR is more than so many dB below that of their initial LQ are marked
            ``accepted: false``, and restorers leave them out; null accepts all.
        tile: Longest LQ side that goes through the network in one piece, px; larger images are cut into overlapping
            tiles of about this side. Null never cuts.
        slots: Images that go through the network together, 4 or 8.
        threads: CPU threads per process, 1, 2 or 4.
        precision: ``fp32`` or ``bf16`` for the network; null uses bf16 where the device supports it natively (CUDA from
            compute capability 8.0 on, CPUs with AMX-bf16 or AVX512-bf16).
        compile: Compile the network, once for every canvas size (minutes, kept for later runs): for long runs over few
            sizes. Where it cannot be compiled, a warning says so and it runs as it is.
        seed: Seed of everything drawn; the command line sets it to ``seed_everything``.

    Attributes:
        start: The degradation without a walk.
        walk: The walk from ``start``, after ``add_walk`` or if the degradation is a walk.
        degradation: What makes LQ: the walk, or the start if there is no walk.

    Raises:
        UserError: For values outside their range.
    """

    verb_jobs: ClassVar = {"predict": "ddpm_pairs.cli.jobs.pairs"}

    def __init__(
        self,
        degradation: Degradation | str = "real_esrgan",  # in this order, a class path is taken for a class
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
            t_min = 0  # no walk, whatever smallest t a config has
        check_t(t_min, t_max, t_weights)
        if (self.start.name, self.scale, t_max) == ("bicubic", 1, 0):
            raise UserError(
                "bicubic at scale 1 leaves HQ as it is, and so does t_max 0: give a t_max above 0, or another "
                "degradation"
            )
        for name, value, least in (("variants", variants, 1), ("psnr_drop", psnr_drop, 0), ("tile", tile, MIN_TILE)):
            if value is not None and not value >= least:
                raise UserError(f"{name} is {value}: expected {least} or more")
        self.hq_preparation = HQPreparation(sharpen_hq, gray_hq)
        self.t, self.t_weights = (t_min, t_max), t_weights
        self.variants, self.psnr_drop, self.seed = variants, psnr_drop, seed
        self.tile, self.runtime = tile, Runtime(slots, threads, precision, compile)
        self.sampling = Sampling.of_mode(mode, sampler, num_steps, eta)
        self.walk: Walk | None = None
        self._added = False
        if isinstance(self.start, Walk):  # which brings its own start and settings
            self.walk, self.start = self.start, self.start.start
            self.tile, self.runtime, self.sampling = self.walk.tile, self.walk.runtime, self.walk.sampling
            self.runtime.threads = self.runtime.threads or threads
        self.degradation, self._no_walk = self.walk or self.start, self.sampling.facts(None, 0)
        self.multiple, self._facts = multiple_of(self.degradation), facts_of(self.degradation)
        self._prepared: torch.device | None = None
        self.rows_used = self.rows_run = 0

    def add_walk(self, denoiser: Denoiser) -> None:
        """Let LQ come from a walk of this DDPM from the start.

        Raises:
            UserError: For a t that the DDPM was not trained for.
        """
        if self.t[1] > denoiser.t_max:
            raise UserError(
                f"--model.t_max is {self.t[1]}, but the checkpoint was trained on t up to {denoiser.t_max}: "
                f"give --model.t_max {denoiser.t_max} or less"
            )
        self.start, self._added = self.degradation, True
        self.walk = Walk(self.start, denoiser, self.t, self.t_weights, self.sampling, self.tile, self.runtime)
        self.degradation, self._prepared = self.walk, None
        self.multiple, self._facts = self.walk.multiple, self.walk.facts

    def check(self) -> None:
        """See that there is a DDPM if one is needed.

        Raises:
            UserError: If not.
        """
        if self.t[1] > 0 and not self._added:
            raise UserError(
                "no checkpoint was given: expected --ckpt_path with a trained DDPM "
                "(or --model.t_max 0 for pairs of the degradation alone)"
            )

    @property
    def occupancy(self) -> float | None:
        """Share of the network's rows so far that images or tiles of theirs used, 0..1; None where no network ran.

        The rest are repeats that fill up short batches, and rows whose image has fewer steps than its batch.
        """
        return self.rows_used / self.rows_run if self.rows_run else None

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The HQ canvas (height, width) on which an HQ image of this (height, width) is degraded."""
        # of the sides, cropped to multiples of scale
        return tuple(-(-(side - side % self.scale) // self.multiple) * self.multiple for side in size)

    def tiles(self, canvas: tuple[int, int]) -> int:
        """Into how many tiles an HQ canvas is cut for the network; 1 where it goes through in one piece."""
        height, width = (side // self.scale for side in canvas)
        return tile_count((height, width), self.tile, self.multiple // self.scale)

    def together(self, canvas: tuple[int, int]) -> int:
        """How many images of an HQ canvas run together: ``slots``, or 1 where it is cut into tiles."""
        return self.runtime.slots if self.tiles(canvas) == 1 else 1

    def prepare(self, device: torch.device) -> None:
        """Bring the degradation's weights to ``device``; the command line does it before the Trainer begins.

        Raises:
            UserError: On a machine, or with a network, where an image's result depends on its neighbors.
        """
        if self._prepared != device:
            self.runtime.set_threads(device)
            prepare(self.degradation, device)
            self._prepared = device

    def on_predict_start(self) -> None:
        """Prepare the degradation, alike on all ranks."""
        self.check()
        self.prepare(self.device)
        if self.trainer.world_size > 1 and hasattr(self.degradation, "agree"):
            self.degradation.agree(self.trainer.strategy, self.device)

    def arrange(self, window: list[list[Picture]]) -> list[list[Work]]:
        """Draw everything for the images of a window of batches, and sort them so that a batch's walks are alike.

        Args:
            window: Batches as ``plan`` made them; pictures know their ``size``.

        Returns:
            As many batches: by canvas, the longest walks first.
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
        """Draw what happens to one image, from (seed, key) alone."""
        for_hq, for_lq = generator_for(self.seed, work.key, "hq"), generator_for(self.seed, work.key, "degradation")
        work.hq_preparation = self.hq_preparation.draw(for_hq)
        work.parameters = self.degradation.draw(for_lq)
        work.facts = self._facts(work.parameters)
        return work

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> tuple[list[Work], list[Failure]]:
        """Pairs of one batch of ``HighQualityImages``, and the images that gave none."""
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
        """Crop and prepare HQ: alone and before the canvas, which is padded from the HQ as written also in a remake."""
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
        """Make pairs in groups of one canvas size, ``slots`` at a time; short groups are filled up with repeats.

        Args:
            ready: Images with everything drawn and HQ as it will be written; they get their ``lq`` and ``record``.
        """
        by_canvas: dict[tuple[int, int], list[Work]] = {}
        for work in ready:
            by_canvas.setdefault(self.canvas(tuple(work.hq.shape[1:])), []).append(work)
        for canvas in sorted(by_canvas):
            for chunk in chunks(by_canvas[canvas], self.together(canvas)):
                yield from self._make_chunk(chunk, canvas)

    @torch.inference_mode()
    def initial_lqs(self, hqs: list[Tensor], records: list[dict[str, Any]]) -> list[Tensor | None]:
        """The initial LQ of pairs, degraded again from their HQ by the parameters in the manifest.

        Args:
            hqs: N images, uint8 (3, H, W), as they were written.
            records: Their N manifest lines.

        Returns:
            N images, uint8 (3, H / scale, W / scale), on the CPU; ``None`` for a pair of another degradation than
            ``start``.
        """
        found: list[Tensor | None] = [None] * len(hqs)
        by_canvas: dict[tuple[int, int], list[int]] = {}
        entries = [_start_entry(record) for record in records]
        for n, (hq, entry, record) in enumerate(zip(hqs, entries, records, strict=True)):
            if (entry["name"], record["scale"]) == (self.start.name, self.scale):
                by_canvas.setdefault(self.canvas(tuple(hq.shape[1:])), []).append(n)
        for canvas, numbers in by_canvas.items():
            for chunk in chunks(numbers, self.together(canvas)):
                filled = chunk + chunk[-1:] * (self.together(canvas) - len(chunk))  # as when the pairs were made
                drawn = [entries[n]["parameters"] for n in filled]
                padded = torch.stack([pad_to_canvas(hqs[n], canvas) for n in filled]).to(self.device)
                initial = eight_bit(self.start.apply(padded.float().div_(255), drawn)).cpu()
                for n, one in zip(chunk, initial, strict=False):
                    width, height = records[n]["lq_size"]
                    found[n] = one[:, :height, :width]
        return found

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
        """The manifest line of a pair that is made."""
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
    """The ``degradation`` entry of what a pair started from."""
    entry = (modern_record(record, False) if "preset" in record else record)["degradation"]
    return entry["parameters"]["start"] if entry["name"] == Walk.name else entry


def chunks(group: list[Any], size: int) -> list[list[Any]]:
    """Consecutive parts of ``size``, the last one maybe shorter."""
    return [group[first : first + size] for first in range(0, len(group), size)]


def is_accepted(psnr: float | None, psnr_initial: float | None, psnr_drop: float | None) -> bool:
    """Whether the walk kept the content: PSNR fell by no more than ``psnr_drop`` dB.

    Yang et al. give up a t where PSNR to HQ falls under a line; a fixed line would judge the handcrafted start as well,
    see ``psnr_floor`` of the t study.

    Args:
        psnr: Of LQ; ``None`` is infinite.
        psnr_initial: Of the initial LQ, likewise.
        psnr_drop: dB; ``None`` accepts everything.
    """
    if psnr_drop is None or psnr is None:
        return True
    return psnr_initial is not None and psnr_initial - psnr <= psnr_drop
