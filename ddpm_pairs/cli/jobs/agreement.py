"""Whether a checkpoint is the one that a config describes."""

from typing import Any

from ddpm_pairs.diffusion.loading import first_difference
from ddpm_pairs.errors import UserError


def check_agreement(asked: dict[str, Any], path: str, found: dict[str, Any]) -> None:
    """Refuse a checkpoint whose network, schedule or objective is not the config's.

    Raises:
        UserError: naming the first difference.
    """
    if different := first_difference(asked, found):
        name, wanted, held = different
        raise UserError(f"checkpoint {path} has {name} {held}, the config {wanted}: give the same config")
