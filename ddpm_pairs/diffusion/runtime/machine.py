"""How a machine runs the network: what the last bits of a pair depend on, beside the settings of the run."""

from typing import Any

import torch
from lightning.pytorch.strategies import Strategy

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.diffusion.runtime.compiled import CompiledDenoiser, compiled
from ddpm_pairs.diffusion.runtime.precision import choose_precision, placed
from ddpm_pairs.diffusion.runtime.rows import check_rows, noise_batch, whole_multiple


class Machine:
    """Brings a denoiser to a device, decides what was left open, and keeps a record of it.

    Args:
        slots: Pictures that go through the network together.
        threads: CPU threads of this process.
        precision: ``fp32`` or ``bf16``; ``None`` is decided by ``choose_precision``.
        compile: Whether to compile the network.

    Attributes:
        precision_probe: What was measured to decide on the precision, if it was.
    """

    def __init__(self, slots: int, threads: int, precision: str | None, compile: bool) -> None:
        self.slots, self.threads, self.precision, self.compile = slots, threads, precision, compile
        self.precision_probe: dict[str, float | int] | None = None
        self._taken_over = False
        self._loaded: Denoiser | None = None  # in fp32, until all ranks agree on a precision

    def record(self) -> dict[str, Any]:
        """Plain values, from which ``take_over`` makes another machine work alike."""
        names = ("precision", "precision_probe", "compile", "slots", "threads")
        return {name: getattr(self, name) for name in names}

    def take_over(self, record: dict[str, Any]) -> None:
        """Work as earlier pairs were made, choosing nothing anew; before ``prepare``."""
        self.precision, self.precision_probe = record["precision"], record.get("precision_probe")
        self.slots, self.threads = record["slots"], record["threads"]
        self.compile, self._taken_over = record.get("compile", False), True

    def prepare(self, denoiser: Denoiser | None, device: torch.device) -> Denoiser | None:
        """Set the threads, bring a denoiser to a device, and try whether a batch's rows are independent.

        Args:
            denoiser: As it was loaded, in fp32; ``None`` where no network is used.
            device: Where to run it.

        Returns:
            What runs there in the precision that was given or chosen.

        Raises:
            UserError: on a machine, or with a network, where a picture's result depends on its neighbours, and where
                a compiled network was taken over that cannot be compiled here.
        """
        if device.type == "cpu":
            torch.set_num_threads(self.threads)
        if denoiser is None:
            return None
        self._loaded = denoiser
        if self.precision is None:
            self.precision, self.precision_probe = choose_precision(denoiser, self.slots, device)
        return self._ready(device)

    def agree(self, denoiser: Denoiser, strategy: Strategy, device: torch.device) -> Denoiser:
        """Take rank 0's precision, and compile on all ranks or on none.

        Args:
            denoiser: What ``prepare`` returned.
            strategy: The Trainer's, by which ranks hear of one another.
            device: This rank's.

        Returns:
            What runs alike on all ranks.
        """
        precision, self.precision_probe = strategy.broadcast((self.precision, self.precision_probe))
        if precision != self.precision:
            self.precision = precision
            denoiser = self._ready(device)
        if not strategy.reduce_boolean_decision(self.compile) and self.compile:
            self.compile = False
            denoiser = self._ready(device)
        self._loaded = None
        return denoiser

    def _ready(self, device: torch.device) -> Denoiser:
        denoiser = placed(self._loaded, device, self.precision)
        side = whole_multiple(64, denoiser.multiple)
        pictures = noise_batch((self.slots, 3, side, side), denoiser.t_max, device)
        check_rows(denoiser, *pictures, self.precision)
        if self.compile:
            denoiser = compiled(denoiser, *pictures, required=self._taken_over)
            self.compile = isinstance(denoiser, CompiledDenoiser)
        return denoiser
