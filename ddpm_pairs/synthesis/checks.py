"""What is checked before pairs are made: the degradation and the checkpoint."""

from torch import nn

from ddpm_pairs.degradations import Bicubic, build_degradation
from ddpm_pairs.diffusion.denoiser import Denoiser, network_spec
from ddpm_pairs.diffusion.loading import first_difference
from ddpm_pairs.errors import UserError
from ddpm_pairs.protocols import OwnDegradation

SLOTS = (4, 8)
THREADS = (1, 2, 4)
MIN_TILE = 64


def check_options(slots: int, threads: int, variants: int, psnr_drop: float | None, tile: int | None) -> None:
    """Check numbers of the ``PairGenerator``; ``None`` always passes.

    Raises:
        UserError: for values outside their range.
    """
    for name, value, allowed in (("slots", slots, SLOTS), ("threads", threads, THREADS)):
        if value not in allowed:
            raise UserError(
                f"{name} is {value}: expected {' or '.join(map(str, allowed))}, which keep pictures independent"
            )
    for name, value, least in (("variants", variants, 1), ("psnr_drop", psnr_drop, 0), ("tile", tile, MIN_TILE)):
        if value is not None and not value >= least:
            raise UserError(f"{name} is {value}: expected {least} or more")


def degradation_of(asked: OwnDegradation | str, scale: int, preset: str) -> OwnDegradation:
    """The degradation that was asked for by name, or as an object with the same scale and preset.

    Raises:
        UserError: for an unknown name, an object that is no degradation, or a contradiction.
    """
    if isinstance(asked, str):
        if "." in asked:  # the parser builds what it can import and what has the methods
            raise UserError(f"--model.degradation: {asked} cannot be imported, or has not the methods of a Degradation")
        asked = build_degradation(asked, scale, preset)
    for name in ("name", "scale"):
        if not hasattr(asked, name):
            raise UserError(f"degradation {type(asked).__name__} has no `{name}`: expected that of a Degradation")
    for name, wanted in (("scale", scale), ("preset", preset)):
        has = getattr(asked, name, wanted)  # one's own degradation need not know presets
        if has != wanted:
            raise UserError(f"degradation has {name} {has}, --model.{name} is {wanted}: give both the same")
    return asked


def check_start(degradation: OwnDegradation, scale: int, preset: str, t_max: int) -> None:
    """Check that a pair's LQ can be another picture than its HQ.

    Raises:
        UserError: where neither the start nor a walk changes HQ.
    """
    if (degradation.name, scale, preset, t_max) == (Bicubic.name, 1, "natural", 0):
        raise UserError(
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
        UserError: see ``PairGenerator.check``.
    """
    if denoiser is None:
        if t_max > 0:
            raise UserError(
                "no checkpoint was given: expected --ckpt_path with a trained DDPM "
                "(or --model.t_max 0 for handcrafted pairs)"
            )
        return
    if t_max > denoiser.t_max:
        raise UserError(
            f"--model.t_max is {t_max}, but the checkpoint was trained on t up to {denoiser.t_max}: "
            f"give --model.t_max {denoiser.t_max} or less"
        )
    asked = {} if schedule is None else {"schedule": schedule}
    if net is not None:
        asked["net"] = network_spec(net)
    if different := first_difference(asked, denoiser.spec()):
        name, wanted, held = different
        option = "--model.schedule is" if name == "schedule" else f"--model.net has {name.removeprefix('net.')}"
        raise UserError(f"{option} {wanted}, but the checkpoint has {held}: leave the option out")
