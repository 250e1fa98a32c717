"""The predict loop that makes pairs."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from ddpm_pairs.data.high_quality import HighQualityPicture
from ddpm_pairs.data.pictures import Failure
from ddpm_pairs.degradations import HQPreparation, build_degradation
from ddpm_pairs.diffusion.denoiser import Denoiser, network_spec
from ddpm_pairs.diffusion.loading import first_difference
from ddpm_pairs.pairs.geometry import canvas_size, crop_to_multiple, pad_to_canvas
from ddpm_pairs.pairs.synthesis import Sampling, draw_t, generator_for, psnr_against_hq, quantize, synthesize
from ddpm_pairs.protocols import OwnDegradation

MIN_LQ_SIDE = 16
SLOTS = (4, 8)
THREADS = (1, 2, 4)


@dataclass(frozen=True)
class Work:
    """One picture and everything that was drawn for it."""

    key: str
    source: str
    source_sha256: str
    hq: Tensor  # (3, H, W), uint8, prepared
    t: int
    degradation: dict[str, Any]
    hq_preparation: dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A finished pair: HQ and LQ, uint8 (3, H, W) and (3, H / scale, W / scale) on the CPU, and its manifest record."""

    hq: Tensor
    lq: Tensor
    record: dict[str, Any]


class PairGenerator(L.LightningModule):
    """Makes HQ-LQ pairs: degrade, noise to step t, walk back (Yang et al. section 3.3).

    Set ``denoiser`` before predicting (the command line does from ``--ckpt_path``); it is not needed with ``t_max`` 0,
    which gives the handcrafted pairs. A pair depends on seed, key, checkpoint and these arguments, and on no batch:
    degradation and network always run on ``slots`` pictures of one canvas size, on a CPU with ``threads`` threads.

    Args:
        degradation: The handcrafted start: ``bicubic``, ``classical``, ``bsrgan``, ``real_esrgan``, or any object with
            the methods of ``ddpm_pairs.degradations.Degradation`` (by ``class_path`` in a config).
        scale: HQ sides over LQ sides: 1 (LQ on the HQ grid), 2 or 4.
        preset: Of a degradation given by name: ``natural`` makes LQ at HQ / scale; ``faces``, for scale 1, makes it
            smaller and brings it back to the HQ grid.
        sharpen_hq: Sharpen HQ first, as Real-ESRGAN's training does; the pair's HQ is the sharpened picture.
        gray_hq: Share of HQ pictures that become gray first, 0..1; GPEN's is 0.2.
        t_min: Smallest t.
        t_max: Largest t; t is uniform over t_min..t_max.
        sampler: ``sde-dpmsolver++`` (default), ``ancestral`` (the paper's; give ``num_steps: null``), or the ODE
            samplers
            ``dpmsolver++`` and ``ddim``, which at equal t come only about half as near to the real degradation.
        num_steps: Network evaluations a pair at most; null visits every step.
        eta: Noise of ``ddim``, 0..1.
        slots: Pictures that go through the network together, 4 or 8.
        threads: CPU threads a process, 1, 2 or 4.
        precision: ``fp32`` or ``bf16`` for the network; null takes bf16 on CUDA and fp32 on a CPU.
        net: Only to insist on a network: an error if the checkpoint holds another.
        schedule: Only to insist on a schedule: an error if the checkpoint holds another.
        seed: Seed of everything drawn; the command line sets it to ``seed_everything``.

    Raises:
        ValueError: for values outside their range.
    """

    def __init__(
        self,
        degradation: OwnDegradation | str = "real_esrgan",  # in this order, a class path is taken for a class
        scale: int = 4,
        preset: Literal["natural", "faces"] = "natural",
        sharpen_hq: bool = False,
        gray_hq: float = 0.0,
        t_min: int = 0,
        t_max: int = 250,
        sampler: Literal["sde-dpmsolver++", "dpmsolver++", "ddim", "ancestral"] = "sde-dpmsolver++",
        num_steps: int | None = 12,
        eta: float = 0.0,
        slots: int = 8,
        threads: int = 2,
        precision: Literal["fp32", "bf16"] | None = None,
        net: nn.Module | None = None,
        schedule: Literal["linear", "cosine", "sigmoid"] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(degradation, str):
            if "." in degradation:  # the parser builds what it can import and what has the methods
                raise ValueError(
                    f"--model.degradation: {degradation} cannot be imported, or has not the methods of a Degradation"
                )
            degradation = build_degradation(degradation, scale, preset)
        for name in ("name", "scale"):
            if not hasattr(degradation, name):
                raise ValueError(
                    f"degradation {type(degradation).__name__} has no `{name}`: expected that of a Degradation"
                )
        for name, asked in (("scale", scale), ("preset", preset)):
            has = getattr(degradation, name, asked)  # one's own degradation need not know presets
            if has != asked:
                raise ValueError(f"degradation has {name} {has}, --model.{name} is {asked}: give both the same")
        if None in (t_min, t_max) or not 0 <= t_min <= t_max:
            raise ValueError(f"t_min is {t_min} and t_max {t_max}: expected 0 <= t_min <= t_max")
        for name, value, allowed in (("slots", slots, SLOTS), ("threads", threads, THREADS)):
            if value not in allowed:
                raise ValueError(
                    f"{name} is {value}: expected {' or '.join(map(str, allowed))}, which keep pictures independent"
                )
        self.degradation, self.scale, self.preset = degradation, scale, preset
        self.hq_preparation = HQPreparation(sharpen_hq, gray_hq)
        self.t_min, self.t_max = t_min, t_max
        self.sampling = Sampling(sampler, num_steps, eta)
        self.slots, self.threads, self.precision = slots, threads, precision
        self.required_net, self.required_schedule = [net], schedule  # in a list, so as not to become a submodule
        self.seed = seed
        self.denoiser: Denoiser | None = None
        self.default_multiple = 1
        self._prepared_for: torch.device | None = None

    def check(self) -> None:
        """Compare the checkpoint with what was asked for.

        Raises:
            ValueError: without a checkpoint where one is needed, for a t the DDPM was not trained for, or where the
                checkpoint's network or schedule contradicts the arguments.
        """
        if self.denoiser is None:
            if self.t_max > 0:
                raise ValueError(
                    "no checkpoint was given: expected --ckpt_path with a trained DDPM "
                    "(or --model.t_max 0 for handcrafted pairs)"
                )
            return
        if self.t_max > self.denoiser.t_max:
            raise ValueError(
                f"--model.t_max is {self.t_max}, but the checkpoint was trained on t up to {self.denoiser.t_max}: "
                f"give --model.t_max {self.denoiser.t_max} or less"
            )
        _check_network(self.required_net[0], self.required_schedule, self.denoiser)

    @property
    def multiple(self) -> int:
        """LQ sides are worked at multiples of this: the denoiser's, or ``default_multiple`` while there is none."""
        return self.default_multiple if self.denoiser is None else self.denoiser.multiple

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The HQ canvas (height, width) on which an HQ picture of this (height, width) is worked."""
        cropped = (size[0] - size[0] % self.scale, size[1] - size[1] % self.scale)
        return canvas_size(cropped, self.scale, self.multiple)

    def prepare(self, device: torch.device) -> None:
        """Move the network to ``device`` in its precision, set the threads, and try whether rows are independent.

        Done once a device; the command line does it before the Trainer begins.

        Raises:
            ValueError: on a machine, or with a network, where a picture's result depends on its neighbours.
        """
        if self._prepared_for == device:
            return
        self._prepared_for = device
        if device.type == "cpu":
            torch.set_num_threads(self.threads)
        if self.denoiser is None:
            return
        self.precision = self.precision or ("bf16" if device.type == "cuda" else "fp32")
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.denoiser.to(device=device, dtype=dtype, memory_format=torch.channels_last)
        self._probe(device)

    @torch.inference_mode()
    def _probe(self, device: torch.device) -> None:
        """One random batch and the same batch reversed must give the same pictures."""
        side = max(64 // self.multiple, 1) * self.multiple
        x_t = torch.randn(self.slots, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
        index = torch.arange(self.slots, device=device) % self.denoiser.t_max
        straight = self.denoiser(x_t, index)
        if not torch.equal(straight, self.denoiser(x_t.flip(0), index.flip(0)).flip(0)):
            raise ValueError(
                f"on this machine a picture's result depends on its neighbours in a batch of {self.slots} "
                f"({device.type}, {self.precision}, {torch.get_num_threads()} threads), so pairs could not be made "
                "again: try other --model.slots, --model.threads 1 or another --model.precision"
            )

    def on_predict_start(self) -> None:
        """Check the arguments against the checkpoint and prepare the network."""
        self.check()
        self.prepare(self.device)

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
            hq=quantize(hq).cpu(),
            t=draw_t(self.seed, picture.key, self.t_min, self.t_max),
            degradation=self.degradation.draw(generator_for(self.seed, picture.key, "degradation")),
            hq_preparation=prepared,
        )

    def make(self, work: Iterable[Work]) -> Iterator[Pair]:
        """Make pairs in groups of one canvas size, ``slots`` at a time; short groups are filled up with repeats."""
        by_canvas = sorted(work, key=lambda one: self.canvas(tuple(one.hq.shape[1:])))
        for canvas, group in itertools.groupby(by_canvas, key=lambda one: self.canvas(tuple(one.hq.shape[1:]))):
            rest = list(group)
            for first in range(0, len(rest), self.slots):
                yield from self._make_chunk(rest[first : first + self.slots], canvas)

    @torch.inference_mode()
    def _make_chunk(self, chunk: list[Work], canvas: tuple[int, int]) -> list[Pair]:
        filled = chunk + [chunk[-1]] * (self.slots - len(chunk))
        hq = torch.stack([pad_to_canvas(one.hq, canvas) for one in filled]).to(self.device).float() / 255
        initial = self.degradation.apply(hq, [one.degradation for one in filled])
        if self.denoiser is None:
            lq = initial
        else:
            ts, keys = [one.t for one in filled], [one.key for one in filled]
            lq = synthesize(self.denoiser, initial, ts, keys, self.seed, self.sampling)
        initial, lq = quantize(initial).cpu(), quantize(lq).cpu()
        return [self._pair(one, initial[n], lq[n]) for n, one in enumerate(chunk)]

    def _pair(self, one: Work, initial: Tensor, lq: Tensor) -> Pair:
        height, width = one.hq.shape[1] // self.scale, one.hq.shape[2] // self.scale
        initial, lq = initial[:, :height, :width], lq[:, :height, :width]
        schedule = None if self.denoiser is None else self.denoiser.schedule
        record = {
            "key": one.key,
            "hq": f"hq/{one.key}.png",
            "lq": f"lq/{one.key}.png",
            "source": one.source,
            "source_sha256": one.source_sha256,
            "seed": self.seed,
            "t": one.t,
            "logsnr": round(schedule.log_snr_at(one.t), 6) if one.t > 0 else None,
            "sampler": self.sampling.sampler,
            "num_steps": self.sampling.num_steps,
            "evaluations": len(self.sampling.plan(schedule, one.t)) if one.t > 0 else 0,
            "degradation": {"name": self.degradation.name, "parameters": one.degradation},
            "hq_preparation": one.hq_preparation,
            "scale": self.scale,
            "preset": self.preset,
            "hq_size": [one.hq.shape[2], one.hq.shape[1]],
            "lq_size": [width, height],
            "psnr": psnr_against_hq(one.hq, lq),
            "psnr_initial": psnr_against_hq(one.hq, initial),
            "accepted": True,
        }
        return Pair(one.hq, lq, record)


def _check_network(net: nn.Module | None, schedule: str | None, denoiser: Denoiser) -> None:
    found = denoiser.spec()
    asked = {} if schedule is None else {"schedule": schedule}
    if net is not None:
        asked["net"] = network_spec(net)
    if different := first_difference(asked, found):
        name, wanted, held = different
        option = "--model.schedule is" if name == "schedule" else f"--model.net has {name.removeprefix('net.')}"
        raise ValueError(f"{option} {wanted}, but the checkpoint has {held}: leave the option out")


def too_small(height: int, width: int, scale: int) -> str:
    """The reason for leaving out a picture whose LQ side would fall under 16 px."""
    return f"too small: {width}x{height}, expected {MIN_LQ_SIDE * scale} px or more a side at scale {scale}"
