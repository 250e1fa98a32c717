"""The DDPM walk as a degradation: degrade, noise to step t, and denoise (Yang et al. section 3.3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, Degradation, check_batch, check_lq, multiple_of, prepare, spec_of
from ddpm_pairs.degradations.by_name import by_name
from ddpm_pairs.degradations.walk_tiles import MIN_TILE, TiledDenoiser, lay_out
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.loading import load_denoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.diffusion.samplers import Sampling, walk_back
from ddpm_pairs.diffusion.schedule import add_noise
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import round_to_8_bit
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.tensors import to_device

SEED_LIMIT = 2**53
"""Seeds are below this limit, so that every JSON reader preserves them exactly."""


class Walk(BuiltIn):
    """Noise the LQ of a start to step t, and denoise it with a DDPM that was trained on real LQ images.

    The parameters of an image are ``t``, ``noise_seed`` (of the initial noise), ``steps_seed`` (of the noise that the
    sampler adds) and ``start``, the entry of the start. Images run in groups of ``runtime.slots``, so image i depends
    only on ``hq[i]`` and its parameters, whatever the number of images. An image whose LQ is larger than ``tile`` runs
    alone: it is degraded and noised as a whole, and passes through the network in overlapping tiles.

    Args:
        start: The degradation that makes the initial LQ, by name or as an object.
        denoiser: The trained DDPM, or the path or shipped name of its weights.
        t: Smallest and largest t, both included; 0 leaves the initial LQ unchanged.
        t_weights: Weights of equally long bands of t, such as ``(3, 2, 1)`` for more small t; t is uniform within a
            band. ``None`` is uniform over all t.
        sampling: Sampler and maximum number of network evaluations, or one of the modes ``fast``, ``default``,
            ``high`` and ``exact``.
        tile: Longest LQ side, in pixels, that the network processes in one piece; ``None`` never tiles.
        runtime: Precision, batch slots, threads and compilation; ``None`` uses the defaults of ``Runtime``.

    Raises:
        UserError: If a value is out of range, or t exceeds the ``t_max`` of the DDPM.
    """

    name = "walk"

    def __init__(
        self,
        start: Degradation | str,
        denoiser: Denoiser | str,
        t: tuple[int, int] = (0, 250),
        t_weights: Sequence[float] | None = None,
        sampling: "Sampling | dict[str, Any] | str" = "default",
        tile: int | None = 256,
        runtime: Runtime | None = None,
    ) -> None:
        if not isinstance(t, Sequence) or len(t) != 2 or not all(isinstance(one, int) for one in t):
            raise UserError(f"Walk.t: got {t!r}; expected the smallest and the largest t, such as (0, 250)")
        if tile is not None and (not isinstance(tile, int) or tile < MIN_TILE):
            raise UserError(f"Walk.tile: got {tile!r}; expected {MIN_TILE} or more, or None")
        self.t, self.t_weights = (t[0], t[1]), None if t_weights is None else list(t_weights)
        check_t(*self.t, self.t_weights)
        self.start = by_name(start)
        self.denoiser = denoiser if isinstance(denoiser, Denoiser) else load_denoiser(weights_file(str(denoiser)))
        if self.t[1] > self.denoiser.t_max:
            raise UserError(
                f"Walk.t: got t up to {self.t[1]}; expected {self.denoiser.t_max} or less, the t_max of the DDPM"
            )
        self.sampling = Sampling.of(sampling)
        self.tile, self.runtime = tile, runtime or Runtime()
        self.scale = self.start.scale
        self.multiple = math.lcm(multiple_of(self.start), self.scale * self.denoiser.multiple)
        self._running: dict[torch.device, Denoiser] = {}

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of the start first, so that they equal those without a walk; then t and the seeds."""
        start = {"name": self.start.name, "parameters": self.start.draw(generator)}
        t = draw_t(generator, *self.t, self.t_weights)
        seeds = torch.randint(SEED_LIMIT, (2,), generator=generator).tolist()
        return {"t": t, "noise_seed": seeds[0], "steps_seed": seeds[1], "start": start}

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch of any size; see ``Degradation.apply``.

        Raises:
            ValueError: If shapes, type or number of parameters do not fit.
        """
        check_batch(self.name, hq, parameters, self.multiple)
        return self.apply_with_start(hq, parameters)[1]

    @torch.no_grad()
    def apply_with_start(self, hq: Tensor, parameters: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Return the initial LQ and the LQ of a batch that ``apply`` takes; nothing is checked."""
        initial = self.start_lq(hq, parameters)
        return initial, self.denoise(initial, parameters)

    @torch.no_grad()
    def start_lq(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Return only the initial LQ; for arguments, see ``apply``."""
        drawn = [one["start"]["parameters"] for one in parameters]
        together = self._together(hq.shape[-2] // self.scale, hq.shape[-1] // self.scale)
        return in_groups(
            lambda rows, some: check_lq(self.start, self.start.apply(rows, some), rows), hq, drawn, together
        )

    @torch.no_grad()
    def denoise(self, initial: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Noise initial LQ and denoise it.

        Args:
            initial: (N, 3, h, w), float32 in [0, 1], sides multiples of ``denoiser.multiple``.
            parameters: N sets of parameters, of which ``t`` and the seeds are used.

        Returns:
            (N, 3, h, w) in [0, 1], rounded to multiples of 1/255.
        """
        size, device = tuple(initial.shape[-2:]), initial.device
        network, together = self.running(device), self._together(*size)
        if together == 1:
            network = TiledDenoiser(network, size, self.tile, self.runtime.slots, device)

        def run(rows: Tensor, drawn: list[dict[str, Any]]) -> Tensor:
            return round_to_8_bit(synthesize(network, rows, drawn, self.sampling))

        with torch.autocast(device.type, enabled=False):
            return in_groups(run, initial, parameters, together)

    def facts(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the top-level values of a manifest line: t, log-SNR, sampler, and number of network evaluations."""
        return self.sampling.facts(self.denoiser.schedule, parameters["t"])

    def prepare(self, device: torch.device) -> None:
        """Place the network and the start on a device; raises the errors of ``Runtime.place``."""
        self.running(device)
        prepare(self.start, device)

    def agree(self, strategy: Strategy, device: torch.device) -> None:
        """Make all ranks of a Trainer run the network identically; call ``prepare`` on each rank first."""
        self.use(self.runtime.agree(self.denoiser, self.running(device), strategy, _indexed(device)), device)

    def running(self, device: torch.device) -> Denoiser:
        """Return the network on a device; the first call places it there, see ``Runtime.place``."""
        device = _indexed(device)
        if device not in self._running:
            self._running[device] = self.runtime.place(self.denoiser, device)
        return self._running[device]

    def use(self, running: Denoiser, device: torch.device) -> None:
        """Use a network that another walk of the same DDPM has placed on a device."""
        self._running[_indexed(device)] = running

    def spec(self) -> dict[str, Any]:
        """Describe the walk for ``run.yaml``: its arguments, the source of the DDPM, and the hash of its weights."""
        arguments = {
            "start": spec_of(self.start),
            "denoiser": self.denoiser.source,
            "t": list(self.t),
            "t_weights": self.t_weights,
            "sampling": asdict(self.sampling),
            "tile": self.tile,
        }
        path = "ddpm_pairs.degradations.Walk"
        return {
            "name": self.name,
            "class_path": path,
            "init_args": arguments,
            "weights_sha256": self.denoiser.sha256(),
        }

    def _together(self, height: int, width: int) -> int:
        """Return the number of images of this LQ size that run together: ``slots``, or 1 if they are cut into tiles."""
        return self.runtime.slots if tile_count((height, width), self.tile, self.denoiser.multiple) == 1 else 1


@lru_cache(maxsize=256)
def tile_count(size: tuple[int, int], tile: int | None, multiple: int) -> int:
    """Return the number of tiles into which an image of (height, width) LQ px is cut; 1 if it is not cut."""
    if tile is None or max(size) <= tile:
        return 1
    rows, columns = (len(lay_out(length, tile, multiple).starts) for length in size)
    return rows * columns


def in_groups(run: Callable[[Tensor, list[Any]], Tensor], images: Tensor, parameters: list[Any], size: int) -> Tensor:
    """Run a function on groups of exactly ``size`` images, so that no row depends on the number of images.

    Args:
        run: Maps images (size, ...) and the same number of parameters to (size, ...).
        images: (N, ...), N at least 1; a short group is filled with repeats of its last image.
        parameters: N sets of parameters.
        size: Number of images in a group.

    Returns:
        The N results, (N, ...).
    """
    results = []
    for first in range(0, len(images), size):
        rows, drawn = images[first : first + size], parameters[first : first + size]
        count = len(rows)
        if count < size:
            rows = torch.cat([rows, rows[-1:].expand(size - count, *rows.shape[1:])])
            drawn = [*drawn, *drawn[-1:] * (size - count)]
        results.append(run(rows, drawn)[:count])
    return results[0] if len(results) == 1 else torch.cat(results)


def _indexed(device: torch.device) -> torch.device:
    """Add the number of the current device to a plain ``cuda``."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def draw_t(generator: torch.Generator, t_min: int, t_max: int, weights: Sequence[float] | None = None) -> int:
    """Draw t over t_min..t_max, both included.

    Args:
        generator: A generator on the CPU.
        t_min: Smallest t.
        t_max: Largest t.
        weights: Weights of equally long bands from t_min to t_max; t is uniform within a band. ``None`` is one band.
    """
    first, end = t_min, t_max + 1
    if weights is not None:
        shares = torch.tensor(weights, dtype=torch.float64).cumsum(0)
        drawn = torch.rand((), generator=generator, dtype=torch.float64) * shares[-1]
        band = int(torch.searchsorted(shares, drawn, right=True))
        first, end = (t_min + (t_max + 1 - t_min) * edge // len(weights) for edge in (band, band + 1))
    return int(torch.randint(first, end, (), generator=generator))


def check_t(t_min: int, t_max: int, weights: Sequence[float] | None = None) -> None:
    """Check the arguments of ``draw_t``.

    Raises:
        UserError: If the range is invalid, or the weights do not fit it.
    """
    if None in (t_min, t_max) or not 0 <= t_min <= t_max:
        raise UserError(f"t_min and t_max: got {t_min} and {t_max}; expected 0 <= t_min <= t_max")
    if weights is None:
        return
    if not 1 <= len(weights) <= t_max + 1 - t_min:
        raise UserError(
            f"t_weights: got {len(weights)} weights; expected 1 to {t_max + 1 - t_min}, the number of t in "
            f"{t_min}..{t_max}"
        )
    if not all(0 <= weight < math.inf for weight in weights) or not 0 < sum(weights) < math.inf:
        raise UserError(f"t_weights: got {list(weights)}; expected numbers of 0 or more, not all of them 0")


def synthesize(
    denoiser: Denoiser | TiledDenoiser, initial_lq: Tensor, parameters: list[dict[str, Any]], sampling: Sampling
) -> Tensor:
    """Noise initial LQ images to their steps and denoise them (Yang et al. section 3.3).

    On CUDA, everything is queued, and the host never waits.

    Args:
        denoiser: The trained DDPM, on the device of the images.
        initial_lq: (N, 3, h, w), float32 in [0, 1], sides multiples of ``denoiser.multiple``.
        parameters: N sets of ``t`` (0 leaves the image unchanged), ``noise_seed`` and ``steps_seed``.
        sampling: Sampler and maximum number of evaluations.

    Returns:
        (N, 3, h, w), float32 in [0, 1]. Row n depends only on image n and its parameters.
    """
    device = initial_lq.device
    x_0 = initial_lq * 2 - 1
    ts = [one["t"] for one in parameters]
    noise = x_0.new_empty(x_0.shape)
    for image, one in zip(noise, parameters, strict=True):
        image.normal_(generator=torch.Generator(device).manual_seed(one["noise_seed"]))
    steps = [torch.Generator(device).manual_seed(one["steps_seed"]) for one in parameters]
    plans = [sampling.plan(denoiser.schedule, t) for t in ts]
    t = to_device(torch.tensor(ts), device)
    x_t = add_noise(x_0, noise, (t - 1).clamp(min=0), denoiser.schedule.alpha_bars_on(device))
    lq = (walk_back(denoiser, x_t, plans, steps) + 1) / 2
    return torch.where((t == 0).view(-1, 1, 1, 1), initial_lq, lq.clamp(0, 1))
