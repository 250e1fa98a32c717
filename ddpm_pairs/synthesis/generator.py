"""The predict loop that makes pairs."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor, nn

from ddpm_pairs.data.high_quality import HighQualityPicture
from ddpm_pairs.degradations import HQPreparation
from ddpm_pairs.degradations.walk import Sampling, check_t, draw_t, generator_for, synthesize
from ddpm_pairs.degradations.walk_tiles import TiledDenoiser, tile_count
from ddpm_pairs.devices import to_device
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.machine import Machine
from ddpm_pairs.images.canvas import canvas_size, crop_to_multiple, pad_to_canvas
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.protocols import OwnDegradation
from ddpm_pairs.synthesis.checks import check_checkpoint, check_options, check_start, degradation_of
from ddpm_pairs.synthesis.pair import MIN_LQ_SIDE, Pair, Work, quality, too_small


class PairGenerator(L.LightningModule):
    """Makes HQ-LQ pairs: degrade, noise to step t, walk back (Yang et al. section 3.3).

    Set ``denoiser`` before predicting (the command line does from ``--ckpt_path``); it is not needed with ``t_max`` 0,
    which gives the handcrafted pairs. A pair depends on seed, key, checkpoint and these arguments, and on no batch:
    degradation and network always run on ``slots`` pictures of one canvas size, on a CPU with ``threads`` threads. A
    picture larger than ``tile`` is worked alone: degraded as a whole, and sent through the network in ``slots`` tiles
    at a time.

    Args:
        degradation: The handcrafted start: ``bicubic``, ``classical``, ``bsrgan``, ``real_esrgan``, or any object with
            the methods of ``ddpm_pairs.degradations.Degradation`` (by ``class_path`` in a config).
        scale: HQ sides over LQ sides: 1 (LQ on the HQ grid), 2 or 4.
        preset: Of a degradation given by name: ``natural`` makes LQ at HQ / scale; ``faces``, for scale 1, makes it
            smaller and brings it back to the HQ grid.
        sharpen_hq: Sharpen HQ first, as Real-ESRGAN's training does; the pair's HQ is the sharpened picture.
        gray_hq: Share of HQ pictures that become gray first, 0..1; GPEN's is 0.2.
        t_min: Smallest t; without meaning where ``t_max`` is 0.
        t_max: Largest t; t is uniform over t_min..t_max.
        t_weights: Weights of equally long bands from t_min to t_max, such as ``[3, 2, 1]`` for more small t; t is
            uniform within a band.
        mode: Sampler and network evaluations a pair at most: ``fast`` (8), ``default`` (12) and ``high`` (20) of
            ``sde-dpmsolver++``, or ``exact``, the paper's ``ancestral`` through every step.
        sampler: Instead of the mode's: one of these, or the ODE samplers ``dpmsolver++`` and ``ddim``, which at equal t
            come only about half as near to the real degradation.
        num_steps: Network evaluations a pair at most, instead of the mode's.
        eta: Noise of ``ddim``, 0..1.
        variants: Pairs of each HQ picture, each with draws of its own; the further ones are ``<key>~1``, ``<key>~2``.
        psnr_drop: Pairs whose PSNR lies more than so many dB below that of their initial LQ are marked
            ``accepted: false``, and restorers leave them out; null accepts all.
        tile: Longest LQ side that goes through the network in one piece, px; larger pictures are cut into overlapping
            tiles of about this side. Null never cuts.
        slots: Pictures that go through the network together, 4 or 8.
        threads: CPU threads a process, 1, 2 or 4.
        precision: ``fp32`` or ``bf16`` for the network; null takes bf16 where it is measured to be at least 1.3 times
            as fast as fp32.
        compile: Compile the network, once for every canvas size (minutes, kept for later runs): for long runs over few
            sizes. Where it cannot be compiled, a warning says so and it runs as it is.
        net: Only to insist on a network: an error if the checkpoint holds another.
        schedule: Only to insist on a schedule: an error if the checkpoint holds another.
        seed: Seed of everything drawn; the command line sets it to ``seed_everything``.

    Raises:
        UserError: for values outside their range.
    """

    verb_jobs: ClassVar = {"predict": "ddpm_pairs.cli.jobs.pairs"}

    def __init__(
        self,
        degradation: OwnDegradation | str = "real_esrgan",  # in this order, a class path is taken for a class
        scale: int = 4,
        preset: Literal["natural", "faces"] = "natural",
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
        net: nn.Module | None = None,
        schedule: Literal["linear", "cosine", "sigmoid"] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.degradation, self.scale, self.preset = degradation_of(degradation, scale, preset), scale, preset
        if t_max == 0:
            t_min = 0  # no walk, whatever smallest t a config has
        check_t(t_min, t_max, t_weights)
        check_start(self.degradation, scale, preset, t_max)
        check_options(slots, threads, variants, psnr_drop, tile)
        self.hq_preparation = HQPreparation(sharpen_hq, gray_hq)
        self.t_min, self.t_max, self.t_weights = t_min, t_max, t_weights
        self.sampling = Sampling.of_mode(mode, sampler, num_steps, eta)
        self.variants, self.psnr_drop, self.tile = variants, psnr_drop, tile
        self.machine = Machine(slots, threads, precision, compile)
        self.required_net, self.required_schedule = [net], schedule  # in a list, so as not to become a submodule
        self.seed = seed
        self.denoiser: Denoiser | None = None
        self.default_multiple = 1
        self._prepared_for: torch.device | None = None

    def check(self) -> None:
        """Compare the checkpoint with what was asked for.

        Raises:
            UserError: without a checkpoint where one is needed, for a t the DDPM was not trained for, or where the
                checkpoint's network or schedule contradicts the arguments.
        """
        check_checkpoint(self.denoiser, self.t_max, self.required_net[0], self.required_schedule)

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What DDP shall not copy from rank 0: all ranks loaded one file, and may not yet agree on a precision."""
        return [name for name, _ in (*self.named_parameters(), *self.named_buffers())]

    @property
    def multiple(self) -> int:
        """LQ sides are worked at multiples of this: the denoiser's, or ``default_multiple`` while there is none."""
        return self.default_multiple if self.denoiser is None else self.denoiser.multiple

    @property
    def slots(self) -> int:
        """Pictures that go through the network together."""
        return self.machine.slots

    @property
    def threads(self) -> int:
        """CPU threads a process."""
        return self.machine.threads

    @property
    def precision(self) -> str | None:
        """The network's; ``None`` before it is chosen, and where no network is used."""
        return self.machine.precision

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The HQ canvas (height, width) on which an HQ picture of this (height, width) is worked."""
        cropped = (size[0] - size[0] % self.scale, size[1] - size[1] % self.scale)
        return canvas_size(cropped, self.scale, self.multiple)

    def tiles(self, canvas: tuple[int, int]) -> int:
        """Into how many tiles an HQ canvas is cut for the network; 1 where it goes through in one piece."""
        return tile_count(tuple(side // self.scale for side in canvas), self.tile, self.multiple)

    def together(self, canvas: tuple[int, int]) -> int:
        """How many pictures of an HQ canvas are worked together: ``slots``, or 1 where it is cut into tiles."""
        return self.slots if self.tiles(canvas) == 1 else 1

    def evaluations(self, key: str) -> int:
        """Network evaluations that the picture of this key takes, on all of its canvas."""
        if self.denoiser is None:
            return 0
        t = draw_t(self.seed, key, self.t_min, self.t_max, self.t_weights)
        return self.sampling.evaluations(self.denoiser.schedule, t)

    def prepare(self, device: torch.device) -> None:
        """Bring the network to ``device``; see ``Machine.prepare``, whose errors it raises.

        Done once a device; the command line does it before the Trainer begins.
        """
        if self._prepared_for == device:
            return
        self._prepared_for = device
        self.denoiser = self.machine.prepare(self.denoiser, device)

    def on_predict_start(self) -> None:
        """Check the arguments against the checkpoint and prepare the network, alike on all ranks."""
        self.check()
        self.prepare(self.device)
        if self.denoiser is not None:
            self.denoiser = self.machine.agree(self.denoiser, self.trainer.strategy, self.device)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> tuple[list[Pair], list[Failure]]:
        """Pairs of one batch of ``HighQualityImages``, and the pictures that gave none."""
        failures: list[Failure] = list(batch["failures"])
        work = []
        for picture in batch["pictures"]:
            drawn = self.draw(picture)
            if min(drawn.hq.shape[1:]) < MIN_LQ_SIDE * self.scale:
                height, width = picture.hq.shape[1:]
                failures.append(Failure(picture.source, too_small(height, width, self.scale)))
            else:
                work.append(drawn)
        return list(self.make(work)), failures

    def draw(self, picture: HighQualityPicture) -> Work:
        """Draw t and the degradation of one picture from (seed, key) alone, and prepare its HQ."""
        prepared = self.hq_preparation.draw(generator_for(self.seed, picture.key, "hq"))
        # alone and before the canvas, which is padded from the HQ as written also when the pair is remade
        hq = self.hq_preparation.apply(crop_to_multiple(picture.hq, self.scale)[None].float() / 255, [prepared])[0]
        return Work(
            key=picture.key,
            source=picture.source,
            source_sha256=picture.sha256,
            hq=eight_bit(hq).cpu(),
            t=draw_t(self.seed, picture.key, self.t_min, self.t_max, self.t_weights),
            degradation=self.degradation.draw(generator_for(self.seed, picture.key, "degradation")),
            hq_preparation=prepared,
            hq_png=None if any(prepared.values()) or hq.shape != picture.hq.shape else picture.png,
        )

    def make(self, work: Iterable[Work]) -> Iterator[Pair]:
        """Make pairs in groups of one canvas size, ``slots`` at a time; short groups are filled up with repeats."""
        by_canvas = sorted(work, key=lambda one: self.canvas(tuple(one.hq.shape[1:])))
        for canvas, group in itertools.groupby(by_canvas, key=lambda one: self.canvas(tuple(one.hq.shape[1:]))):
            rest, together = list(group), self.together(canvas)
            for first in range(0, len(rest), together):
                yield from self._make_chunk(rest[first : first + together], canvas)

    @torch.inference_mode()
    def _make_chunk(self, chunk: list[Work], canvas: tuple[int, int]) -> list[Pair]:
        together = self.together(canvas)
        filled = chunk + [chunk[-1]] * (together - len(chunk))
        initial = lq = self._degrade(filled, canvas)
        if self.denoiser is not None:
            denoiser = self.denoiser
            if together == 1:
                denoiser = TiledDenoiser(denoiser, tuple(initial.shape[2:]), self.tile, self.slots, self.device)
            ts, keys = [one.t for one in filled], [one.key for one in filled]
            lq = synthesize(denoiser, initial, ts, keys, self.seed, self.sampling)
        initial, lq = eight_bit(initial), eight_bit(lq)
        return [self._pair(one, initial[n], lq[n], self.tile if together == 1 else None) for n, one in enumerate(chunk)]

    def _degrade(self, work: list[Work], canvas: tuple[int, int]) -> Tensor:
        hq = to_device(torch.stack([pad_to_canvas(one.hq, canvas) for one in work]), self.device).float().div_(255)
        return self.degradation.apply(hq, [one.degradation for one in work])

    def _pair(self, one: Work, initial: Tensor, lq: Tensor, tile: int | None) -> Pair:
        height, width = one.hq.shape[1] // self.scale, one.hq.shape[2] // self.scale
        initial, lq = initial[:, :height, :width], lq[:, :height, :width]
        record = {
            "key": one.key,
            "hq": f"hq/{one.key}.png",
            "lq": f"lq/{one.key}.png",
            "source": one.source,
            "source_sha256": one.source_sha256,
            "seed": self.seed,
            **self.sampling.told(None if self.denoiser is None else self.denoiser.schedule, one.t),
            "degradation": {"name": self.degradation.name, "parameters": one.degradation},
            "hq_preparation": one.hq_preparation,
            "scale": self.scale,
            "preset": self.preset,
            "tile": tile,
            "hq_size": [one.hq.shape[2], one.hq.shape[1]],
            "lq_size": [width, height],
            **quality(to_device(one.hq, self.device), initial, lq, self.psnr_drop),
        }
        return Pair(one.hq, lq.cpu(), record, one.hq_png)
