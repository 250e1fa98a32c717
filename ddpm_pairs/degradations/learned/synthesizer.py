"""The base of everything learned that turns HQ into LQ."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Synthesizer(nn.Module, ABC):
    """A network, or a pool of samples, that turns HQ into LQ. ``Learned`` makes a degradation of it.

    Its weights and ``init_args`` are all that a file stores, so the constructor must build it from ``init_args`` alone.
    All arguments are plain values (numbers, text, lists), and sizes must follow from them.

    Attributes:
        name: Name of the method, recorded in the manifest: ``dsgan``, ``dasr``, ``pdm``, ``realsr``.
        scale: HQ sides over LQ sides.
        multiple: HQ sides must be multiples of this.
        init_args: The constructor's arguments as plain values.
    """

    name: ClassVar[str]

    def __init__(self, scale: int, init_args: dict[str, Any]) -> None:
        super().__init__()
        self.scale = self.multiple = scale
        self.init_args = init_args

    def draw(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw the parameters of one image, see ``Degradation.draw``; none by default."""
        return {}

    @abstractmethod
    def synthesize(self, hq: Tensor, parameters: dict[str, Any]) -> Tensor:
        """Turn one image into LQ.

        Args:
            hq: (1, 3, H, W), float32 in [0, 1]; sides are multiples of ``multiple``.
            parameters: A result of ``draw``.

        Returns:
            (1, 3, H / scale, W / scale), float32, neither clamped nor rounded.
        """
