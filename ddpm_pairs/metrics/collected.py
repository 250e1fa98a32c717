"""Metrics that collect numbers per image on every rank and compute once over the images of all ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from ddpm_pairs.metrics.features import LAYERS, FeatureNetwork
from ddpm_pairs.metrics.paired_scores import paired_scores


class PictureRows(Metric):
    """Rows of numbers, one per image and name.

    The rows of all ranks are gathered, sorted by key, and used once even if a padding sampler repeated an image, so
    the result does not depend on how images were distributed. No state goes into a checkpoint.

    Args:
        names: Names of the rows of an image.
    """

    full_state_update = False

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for state in self._states():
            self.add_state(state, [], dist_reduce_fx=_joined)

    def _states(self) -> list[str]:
        return ["keys", *(f"rows_{name}" for name in self.names)]

    def add(self, keys: Sequence[str], rows: dict[str, Tensor]) -> None:
        """Keep the rows (N, d) or (N,) of N images under each name."""
        text = "".join(f"{key}\n" for key in keys).encode()
        self.keys.append(torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.device))
        for name in self.names:
            getattr(self, f"rows_{name}").append(rows[name].detach().float().reshape(len(keys), -1))

    def sync(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' signature
        """Gather the states; ranks without images contribute empty ones, since the gathering would hang without them.

        Args:
            *args: Passed to ``Metric.sync``.
            **kwargs: Passed to ``Metric.sync``.
        """
        for state in self._states():
            empty = torch.zeros(0, dtype=torch.uint8) if state == "keys" else torch.zeros(0, 0)
            setattr(self, state, [_joined([*getattr(self, state), empty.to(self.device)])])
        super().sync(*args, **kwargs)

    def collected(self) -> tuple[list[str], dict[str, Tensor]]:
        """Return the sorted keys and, under each name, the rows (n, d) on the CPU."""
        states = {state: getattr(self, state) for state in self._states()}
        joined = {state: _joined(one if isinstance(one, list) else [one]) for state, one in states.items()}
        keys = bytes(joined["keys"].cpu().tolist()).decode().split("\n")[:-1]
        place = {key: row for row, key in enumerate(keys)}
        order = torch.tensor([place[key] for key in sorted(place)], dtype=torch.long)
        return sorted(place), {name: joined[f"rows_{name}"].cpu()[order] for name in self.names}


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first dimension; empty parts may have any second one."""
    filled = [part for part in parts if len(part)]
    if filled:
        return torch.cat(filled)
    return parts[-1] if parts else torch.zeros(0)


class PairedScores(PictureRows):
    """PSNR, SSIM and LPIPS of every image, see ``ddpm_pairs.metrics.paired_scores``.

    Args:
        names: Some of ``PAIRED``.
        distance: ``LPIPS`` or a module with the same interface; required for ``lpips``.
    """

    def __init__(self, names: Sequence[str], distance: nn.Module | None = None) -> None:
        super().__init__(names)
        self.distance = distance

    def update(self, result: Tensor, reference: Tensor, keys: Sequence[str]) -> None:
        """Score a batch.

        Args:
            result: uint8 (N, 3, H, W).
            reference: uint8 (N, 3, H, W).
            keys: Keys of the N images.

        Raises:
            UserError: See ``paired_scores``.
        """
        self.add(keys, paired_scores(result, reference, self.distance))

    def compute(self) -> dict[str, dict[str, float]]:
        """Return the scores by key, then by name."""
        keys, rows = self.collected()
        return {key: {name: rows[name][place].item() for name in self.names} for place, key in enumerate(keys)}


class SetFeatures(PictureRows):
    """Features of every image and of its reference, for FID and KID.

    Args:
        network: Computes the features.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__([f"{side}_{layer}" for side in ("result", "reference") for layer in LAYERS])
        self.network = network

    def update(self, result: Tensor, reference: Tensor, keys: Sequence[str]) -> None:
        """Keep the features of a batch.

        Args:
            result: uint8 (N, 3, H, W).
            reference: uint8 (N, 3, H, W).
            keys: Keys of the N images.
        """
        sides = (("result", result), ("reference", reference))
        found = {f"{side}_{layer}": one for side, part in sides for layer, one in self.network(part).items()}
        self.add(keys, found)

    def compute(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return features (n, d) of the results and of the references, under the names of ``LAYERS``."""
        _, rows = self.collected()
        return tuple({layer: rows[f"{side}_{layer}"] for layer in LAYERS} for side in ("result", "reference"))
