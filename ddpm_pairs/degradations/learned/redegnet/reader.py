"""Load ReDegNet, which reads the codes of degradations."""

from pathlib import Path
from typing import Any

from ddpm_pairs.degradations.learned.files import described_weights, filled
from ddpm_pairs.degradations.learned.redegnet.networks import ReDegNet
from ddpm_pairs.errors import UserError

KIND = "redegnet"
"""The kind of a checkpoint of ReDegNet. Only a bank, which adds codes, is a degradation."""

EXPECTED = "expected a checkpoint of `lightning fit --config redegnet.yaml`"


def load_reader(path: str | Path) -> tuple[ReDegNet, dict[str, Any]]:
    """Load ReDegNet from a checkpoint of its fit.

    Args:
        path: A Lightning ``.ckpt``.

    Returns:
        The networks in eval mode, float32, on the CPU, and ``training`` of the description.

    Raises:
        UserError: If the file is missing or unreadable, contains something else, or does not fit its own description.
    """
    path = Path(path)
    spec, weights = described_weights(path, KIND, EXPECTED)
    own = f"{ReDegNet.__module__}.{ReDegNet.__qualname__}"
    if spec["net"]["class_path"] != own:
        raise UserError(f"degradation {path} names {spec['net']['class_path']}, which is not {own}; {EXPECTED}")
    return filled(ReDegNet, spec["net"], path, weights), spec.get("training", {})
