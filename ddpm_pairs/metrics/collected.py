"""Numbers that every rank collects picture by picture, to be computed with once, over the pictures of all ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from ddpm_pairs.metrics.features import LAYERS, FeatureNetwork
from ddpm_pairs.metrics.paired_scores import paired_scores


class PictureRows(Metric):
    """Rows of numbers, one a picture under its key.

    Over ranks the rows of all are gathered, however many each has, put in the order of their keys, and those of a key
    met more than once (a sampler that fills up) are taken once: what is computed does not depend on who had what. No
    state goes into a checkpoint.

    Args:
        names: What a picture has rows of.
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
        """Keep rows (N, d) or (N,) under each name, of N pictures."""
        text = "".join(f"{key}\n" for key in keys).encode()
        self.keys.append(torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.device))
        for name in self.names:
            getattr(self, f"rows_{name}").append(rows[name].detach().float().reshape(len(keys), -1))

    def sync(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' signature
        """Gather the states; ranks without pictures take part with empty ones, as a gathering without them would hang.

        Args:
            args: As those of ``Metric.sync``.
            kwargs: Likewise.
        """
        for state in self._states():
            empty = torch.zeros(0, dtype=torch.uint8) if state == "keys" else torch.zeros(0, 0)
            setattr(self, state, [_joined([*getattr(self, state), empty.to(self.device)])])
        super().sync(*args, **kwargs)

    def collected(self) -> tuple[list[str], dict[str, Tensor]]:
        """The keys in order, and the rows (n, d) under each name, on the CPU."""
        states = {state: getattr(self, state) for state in self._states()}
        joined = {state: _joined(one if isinstance(one, list) else [one]) for state, one in states.items()}
        keys = bytes(joined["keys"].cpu().tolist()).decode().split("\n")[:-1]
        place = {key: row for row, key in enumerate(keys)}
        order = torch.tensor([place[key] for key in sorted(place)], dtype=torch.long)
        return sorted(place), {name: joined[f"rows_{name}"].cpu()[order] for name in self.names}


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """All parts along their first dimension; empty ones do not know their second."""
    filled = [part for part in parts if len(part)]
    if filled:
        return torch.cat(filled)
    return parts[-1] if parts else torch.zeros(0)


class PairedScores(PictureRows):
    """PSNR, SSIM and LPIPS of every picture, see ``ddpm_pairs.metrics.paired_scores``.

    Args:
        names: Some of ``PAIRED``.
        distance: ``LPIPS`` or another module of its form, where ``lpips`` is among the names.
    """

    def __init__(self, names: Sequence[str], distance: nn.Module | None = None) -> None:
        super().__init__(names)
        self.distance = distance

    def update(self, result: Tensor, reference: Tensor, keys: Sequence[str]) -> None:
        """Score a batch.

        Args:
            result: (N, 3, H, W), uint8.
            reference: (N, 3, H, W), uint8.
            keys: Of the N pictures.

        Raises:
            UserError: see ``paired_scores``.
        """
        self.add(keys, paired_scores(result, reference, self.distance))

    def compute(self) -> dict[str, dict[str, float]]:
        """The scores by key, then by name."""
        keys, rows = self.collected()
        return {key: {name: rows[name][place].item() for name in self.names} for place, key in enumerate(keys)}


class SetFeatures(PictureRows):
    """Features of every picture and of its reference, for FID and KID.

    Args:
        network: What gives the features.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__([f"{side}_{layer}" for side in ("result", "reference") for layer in LAYERS])
        self.network = network

    def update(self, result: Tensor, reference: Tensor, keys: Sequence[str]) -> None:
        """Keep the features of a batch.

        Args:
            result: (N, 3, H, W), uint8.
            reference: (N, 3, H, W), uint8.
            keys: Of the N pictures.
        """
        sides = (("result", result), ("reference", reference))
        found = {f"{side}_{layer}": one for side, part in sides for layer, one in self.network(part).items()}
        self.add(keys, found)

    def compute(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features (n, d) of the results and of the references, each by the names of ``LAYERS``."""
        _, rows = self.collected()
        return tuple({layer: rows[f"{side}_{layer}"] for layer in LAYERS} for side in ("result", "reference"))
