"""What is checked before pairs are made: the degradation, the checkpoint, and the machine."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ddpm_pairs.degradations import Bicubic, build_degradation
from ddpm_pairs.diffusion.denoiser import Denoiser, network_spec
from ddpm_pairs.diffusion.loading import first_difference
from ddpm_pairs.protocols import OwnDegradation

SLOTS = (4, 8)
THREADS = (1, 2, 4)
MIN_TILE = 64


def check_options(slots: int, threads: int, variants: int, psnr_drop: float | None, tile: int | None) -> None:
    """Check numbers of the ``PairGenerator``; ``None`` always passes.

    Raises:
        ValueError: for values outside their range.
    """
    for name, value, allowed in (("slots", slots, SLOTS), ("threads", threads, THREADS)):
        if value not in allowed:
            raise ValueError(
                f"{name} is {value}: expected {' or '.join(map(str, allowed))}, which keep pictures independent"
            )
    for name, value, least in (("variants", variants, 1), ("psnr_drop", psnr_drop, 0), ("tile", tile, MIN_TILE)):
        if value is not None and not value >= least:
            raise ValueError(f"{name} is {value}: expected {least} or more")


def degradation_of(asked: OwnDegradation | str, scale: int, preset: str) -> OwnDegradation:
    """The degradation that was asked for by name, or as an object with the same scale and preset.

    Raises:
        ValueError: for an unknown name, an object that is no degradation, or a contradiction.
    """
    if isinstance(asked, str):
        if "." in asked:  # the parser builds what it can import and what has the methods
            raise ValueError(
                f"--model.degradation: {asked} cannot be imported, or has not the methods of a Degradation"
            )
        asked = build_degradation(asked, scale, preset)
    for name in ("name", "scale"):
        if not hasattr(asked, name):
            raise ValueError(f"degradation {type(asked).__name__} has no `{name}`: expected that of a Degradation")
    for name, wanted in (("scale", scale), ("preset", preset)):
        has = getattr(asked, name, wanted)  # one's own degradation need not know presets
        if has != wanted:
            raise ValueError(f"degradation has {name} {has}, --model.{name} is {wanted}: give both the same")
    return asked


def check_start(degradation: OwnDegradation, scale: int, preset: str, t_max: int) -> None:
    """Check that a pair's LQ can be another picture than its HQ.

    Raises:
        ValueError: where neither the start nor a walk changes HQ.
    """
    if (degradation.name, scale, preset, t_max) == (Bicubic.name, 1, "natural", 0):
        raise ValueError(
            "bicubic at scale 1 with preset natural leaves HQ as it is, and so does t_max 0: give a t_max above 0, "
            "another degradation, or preset faces"
        )


def check_checkpoint(denoiser: Denoiser | None, t_max: int, net: nn.Module | None, schedule: str | None) -> None:
    """Compare a checkpoint with what was asked for.

    Args:
        denoiser: What was loaded, if anything was.
        t_max: Largest t; 0 needs no checkpoint.
        net: The network that the user insists on, or ``None``.
        schedule: The schedule that the user insists on, or ``None``.

    Raises:
        ValueError: see ``PairGenerator.check``.
    """
    if denoiser is None:
        if t_max > 0:
            raise ValueError(
                "no checkpoint was given: expected --ckpt_path with a trained DDPM "
                "(or --model.t_max 0 for handcrafted pairs)"
            )
        return
    if t_max > denoiser.t_max:
        raise ValueError(
            f"--model.t_max is {t_max}, but the checkpoint was trained on t up to {denoiser.t_max}: "
            f"give --model.t_max {denoiser.t_max} or less"
        )
    asked = {} if schedule is None else {"schedule": schedule}
    if net is not None:
        asked["net"] = network_spec(net)
    if different := first_difference(asked, denoiser.spec()):
        name, wanted, held = different
        option = "--model.schedule is" if name == "schedule" else f"--model.net has {name.removeprefix('net.')}"
        raise ValueError(f"{option} {wanted}, but the checkpoint has {held}: leave the option out")


def whole_multiple(side: int, multiple: int) -> int:
    """A side that the network takes: ``side`` rounded down to a multiple, one at least."""
    return max(side // multiple, 1) * multiple


def noise_batch(shape: Sequence[int], t_max: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise to try a denoiser with, the same on every machine: x_t of ``shape``, and table indices below ``t_max``."""
    x_t = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x_t.to(device), (torch.arange(shape[0]) % t_max).to(device)


@torch.inference_mode()
def check_rows(predict: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, index: Tensor, how: str) -> None:
    """Try whether a picture's result depends on its neighbours: a batch, and the same batch reversed.

    Args:
        predict: The denoiser.
        x_t: The batch, (N, 3, H, W), all pictures different.
        index: Its table indices, (N,), all different.
        how: How the network runs, for the error: its precision, or that it is compiled.

    Raises:
        ValueError: if it does.
    """
    if not torch.equal(predict(x_t, index), predict(x_t.flip(0), index.flip(0)).flip(0)):
        raise ValueError(
            f"on this machine a picture's result depends on its neighbours in a batch of {len(x_t)} "
            f"({x_t.device.type}, {how}, {torch.get_num_threads()} threads), so pairs could not be made again: try "
            "other --model.slots, --model.threads 1, another --model.precision, or --model.compile false"
        )
