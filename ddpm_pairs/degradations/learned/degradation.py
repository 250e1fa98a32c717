"""A learned network or pool as a degradation."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_pairs.degradations.base import BuiltIn, check_batch
from ddpm_pairs.degradations.learned.files import content_sha256, load_synthesizer
from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one
from ddpm_pairs.shipped import weights_file

LEARNED_PATH = "ddpm_pairs.degradations.Learned"
"""Class path of every learned degradation in ``run.yaml``."""


class Learned(BuiltIn):
    """A degradation that was learned from images; images are processed one by one, so no image depends on others.

    Args:
        weights: A ``.ckpt`` of its fit, a ``.safetensors`` file, the name of shipped weights, or a network.

    Attributes:
        name: Name of the method, such as ``dsgan``.
        scale: HQ sides over LQ sides, as in training.
        net: The network or pool, in eval mode.
        training: What it was learned from, as its file says.

    Raises:
        UserError: If the weights cannot be used, see ``load_synthesizer``.
    """

    def __init__(self, weights: str | Synthesizer) -> None:
        if isinstance(weights, Synthesizer):
            self.net, self.training, self.weights = weights.eval(), {}, None
        else:
            path = weights_file(weights)
            self.net, self.training = load_synthesizer(path)
            self.weights = str(Path(path).resolve())
        self.name, self.scale, self.multiple = self.net.name, self.net.scale, self.net.multiple

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw what is random in the method; most draw nothing."""
        return self.net.draw(generator)

    def apply(self, hq: Tensor, parameters: list[dict[str, Any]]) -> Tensor:
        """Degrade a batch; see ``Degradation.apply``.

        Raises:
            ValueError: If the shape, the type or the number of parameters does not match.
        """
        check_batch(self.name, hq, parameters, self.multiple)
        return degrade_one_by_one(self.net.synthesize, hq, parameters)

    def prepare(self, device: torch.device) -> None:
        """Move the weights to a device."""
        self.net.to(device)

    def spec(self) -> dict[str, Any]:
        """Describe the degradation for ``run.yaml``: the file of its weights, and a hash of its content."""
        return {
            "name": self.name,
            "class_path": LEARNED_PATH,
            "init_args": {"weights": self.weights},
            "weights_sha256": content_sha256(self.net),
        }
