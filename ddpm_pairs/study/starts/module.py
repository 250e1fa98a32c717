"""The study of starts as a LightningModule: ``lightning test --config table3.yaml``."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from ddpm_pairs.degradations.walk import Walk
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import write_atomically
from ddpm_pairs.images.pixels import pad_to_canvas
from ddpm_pairs.plain_text import print_plain
from ddpm_pairs.study.module import Findings, TStudy
from ddpm_pairs.study.recommendation import Recommendation
from ddpm_pairs.study.starts.figures import save_start_grid, save_start_plot
from ddpm_pairs.study.starts.report import starts_report
from ddpm_pairs.study.starts.rows import rows_of, starts_table, write_starts_csv
from ddpm_pairs.study.wandb_log import log_study, starts_entries
from ddpm_pairs.tensors import generator_for

ROUNDS = 2
"""Timed rounds after one that warms up; the fastest counts."""


class StartsStudy(TStudy):
    """Compares degradations, each as it is and walked back at the t that suits it (Yang et al., Table 3).

    It is a t study of all degradations with one table more: two rows per degradation, t = 0 and the t that the t study
    would recommend for this degradation alone. Next to the scores of a t study, a row has the share of the way from the
    reference to the floor (0% is the reference as it is, 100% is real against real), and the time per pair. An
    interrupted study is resumed by the same command.

    Args:
        degradations: See ``TStudy``; the checkpoints or exports of learned degradations are compared with others here.
        reference: The degradation, as it is, that the shares start from, by its label; null takes the first.
        ts: See ``TStudy``.
        pictures: See ``TStudy``.
        options: The other options of ``TStudy``.

    Raises:
        UserError: If a value is out of range, or ``reference`` is not one of the labels.
    """

    def __init__(
        self,
        degradations: list[Any] = ["real_esrgan", "bicubic"],  # noqa: B006 - never changed
        reference: str | None = None,
        ts: list[int] = [0, 50, 100, 150],  # noqa: B006
        pictures: int = 300,
        **options: Any,  # noqa: ANN401 - passed on
    ) -> None:
        super().__init__(degradations, ts, pictures, **options)
        if reference is not None and reference not in self.degradations:
            raise UserError(f"--model.reference: got {reference!r}; expected one of {', '.join(self.degradations)}")
        self.reference = reference or self.degradations[0]

    def write(self, found: Findings) -> None:
        """Write the files of the t study, and ``starts.csv``, ``starts.png``, ``starts_grid.png``, ``starts.html``."""
        super().write(found)
        root, limits = self.folder.root, (self.psnr_drop, self.psnr_floor)
        rows = rows_of(found.cells, found.real.floor, self.reference, limits, self._milliseconds(found.together.hq))
        write_starts_csv(root / "starts.csv", rows, found.real)
        save_start_plot(root / "starts.png", rows, found.real)
        save_start_grid(root / "starts_grid.png", rows, self.degradations, self.ts, found)
        page = starts_report(rows, self.reference, found, self.settings, self._notes())
        write_atomically(root / "starts.html", page.encode())
        print_plain(starts_table(rows, found.real))

    def log(self, loggers: Iterable[Logger], chosen: Recommendation) -> None:
        """Log the t study and the table of starts to W&B."""
        log_study(loggers, self.folder.root, chosen, starts_entries)

    @torch.inference_mode()
    def _milliseconds(self, hq: Tensor) -> dict[tuple[str, int], float]:
        """Measure the time per pair of every degradation at every t, for full batches of patches.

        Args:
            hq: HQ patches of the study, uint8 (N, 3, S, S).

        Returns:
            Milliseconds by (label, t). The walk takes the same time after every start, so each t is measured once.
        """
        canvas = self._canvas(tuple(hq.shape[-2:]))
        rows = [n % len(hq) for n in range(self.runtime.slots)]
        batch = pad_to_canvas(hq[rows], canvas).to(self.device).float().div_(255)
        found, walking = {}, {0: 0.0}
        for label, walk in zip(self.degradations, self.walks, strict=True):
            drawn = [walk.draw(generator_for(self.seed, str(n), "milliseconds")) for n in range(len(batch))]
            start = self._fastest(lambda walk=walk, drawn=drawn: walk.start_lq(batch, drawn))
            for t in self.ts:
                if t not in walking:
                    walking[t] = self._fastest(lambda walk=walk, drawn=drawn, t=t: _walked(walk, batch, drawn, t))
                found[label, t] = (start + walking[t]) / len(batch)
        return found

    def _fastest(self, work: Callable[[], Tensor]) -> float:
        """Return the milliseconds of the fastest of ``ROUNDS`` calls."""
        least = math.inf
        for number in range(ROUNDS + 1):
            begin = time.perf_counter()
            work().sum().item()  # which waits for the device
            if number > 0:
                least = min(least, 1000 * (time.perf_counter() - begin))
        return least


def _walked(walk: Walk, batch: Tensor, drawn: Sequence[dict[str, Any]], t: int) -> Tensor:
    height, width = (side // walk.scale for side in batch.shape[-2:])
    initial = torch.nn.functional.interpolate(batch, (height, width), mode="area")
    return walk.denoise(initial, [one | {"t": t} for one in drawn])
