"""Whether a checkpoint is the one that a config describes."""

from typing import Any

from ddpm_pairs.diffusion.loading import first_difference


def check_agreement(asked: dict[str, Any], path: str, found: dict[str, Any]) -> None:
    """Refuse a checkpoint whose network, schedule or objective is not the config's.

    Raises:
        ValueError: naming the first difference.
    """
    if different := first_difference(asked, found):
        name, wanted, held = different
        raise ValueError(f"checkpoint {path} has {name} {held}, the config {wanted}: give the same config")
