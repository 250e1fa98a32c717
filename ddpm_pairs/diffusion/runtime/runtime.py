"""Execution settings that affect the last bits of LQ: precision, batch slots, threads and compilation."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SLOTS = (4, 8)
THREADS = (1, 2, 4)


@dataclass
class Runtime:
    """Place a denoiser on a device, choose unset values, and record them.

    Args:
        slots: Number of images that the network processes together, 4 or 8; short batches are filled with repeats.
        threads: CPU threads of the process, 1, 2 or 4; ``None`` does not change them.
        precision: ``fp32`` or ``bf16`` for the network; ``None`` uses bf16 if the device supports it natively. The
            first call of ``place`` sets it to the precision used.
        compile: Whether to compile the network, once per canvas size. Set to ``False`` if compilation fails.

    Raises:
        UserError: If a value is out of range.
    """

    slots: int = 8
    threads: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    compile: bool = False
    _adopted: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, allowed in (("slots", self.slots, SLOTS), ("threads", self.threads, (None, *THREADS))):
            if value not in allowed:
                choices = " or ".join(str(one) for one in allowed if one is not None)
                raise UserError(f"{name}: got {value}; expected {choices}, which keep images independent")
        if self.precision not in (None, *DTYPES):
            raise UserError(f"precision: got {self.precision}; expected {' or '.join(DTYPES)}")

    def record(self) -> dict[str, Any]:
        """Return the settings as plain values, for ``adopt`` of another runtime."""
        return {name: getattr(self, name) for name in ("precision", "compile", "slots", "threads")}

    def adopt(self, record: dict[str, Any]) -> None:
        """Use the recorded settings of earlier pairs instead of choosing; call it before ``place``.

        Raises:
            UserError: If a recorded value is out of range.
        """
        Runtime(record["slots"], record["threads"], record["precision"])
        self.precision, self.slots, self.threads = record["precision"], record["slots"], record["threads"]
        self.compile, self._adopted = record.get("compile", False), True

    def set_threads(self, device: torch.device) -> None:
        """Set the number of torch threads, if the device is a CPU."""
        if device.type == "cpu" and self.threads is not None:
            torch.set_num_threads(self.threads)

    def place(self, denoiser: Denoiser, device: torch.device) -> Denoiser:
        """Move a denoiser to a device, and check that the rows of a batch are independent there.

        Args:
            denoiser: The denoiser as loaded, in fp32; it is not modified.
            device: The device to run it on.

        Returns:
            The denoiser on the device, in the given or chosen precision.

        Raises:
            UserError: If the result of an image depends on its neighbors in the batch, with this network on this
                machine, or if earlier pairs were made by a compiled network that cannot be compiled here.
        """
        self.set_threads(device)
        if self.precision is None:
            self.precision = native_precision(device)
        running = placed(denoiser, device, self.precision)
        side = whole_multiple(64, running.multiple)
        images = noise_batch((self.slots, 3, side, side), running.t_max, device)
        check_rows(running, *images, self.precision)
        if self.compile:
            from ddpm_pairs.diffusion.runtime.compiled import compiled  # which imports this module

            placed_only, running = running, compiled(running, *images, required=self._adopted)
            self.compile = running is not placed_only
        return running

    def agree(self, denoiser: Denoiser, running: Denoiser, strategy: Strategy, device: torch.device) -> Denoiser:
        """Use rank 0's precision, and compile on all ranks or on none.

        Args:
            denoiser: The denoiser as loaded.
            running: The result of ``place``.
            strategy: The strategy of the Trainer, which connects the ranks.
            device: The device of this rank.

        Returns:
            The denoiser that all ranks run identically.
        """
        precision = strategy.broadcast(self.precision)
        if precision != self.precision:
            self.precision = precision
            running = self.place(denoiser, device)
        if not strategy.reduce_boolean_decision(self.compile) and self.compile:
            self.compile = False
            running = self.place(denoiser, device)
        return running


def native_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """Return ``bf16`` if the device supports it natively, otherwise ``fp32``; nothing is measured.

    Native support means CUDA with compute capability 8.0 (Ampere) or newer, or a CPU with AMX-bf16 or AVX512-bf16.
    """
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16" if native else "fp32"


def placed(denoiser: Denoiser, device: torch.device, precision: str) -> Denoiser:
    """Return the denoiser on a device in ``fp32`` or ``bf16``, channels last; a copy unless both already match."""
    weights, dtype = next(denoiser.parameters()), DTYPES[precision]
    if (weights.device, weights.dtype) != (device, dtype):
        denoiser = copy.deepcopy(denoiser).to(device=device, dtype=dtype)
    return denoiser.to(memory_format=torch.channels_last)


def whole_multiple(side: int, multiple: int) -> int:
    """Round ``side`` down to a multiple of ``multiple``, which the network requires; at least one multiple."""
    return max(side // multiple, 1) * multiple


def noise_batch(shape: Sequence[int], t_max: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return test input that is the same on every machine: noise of ``shape``, and table indices below ``t_max``."""
    x_t = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x_t.to(device), (torch.arange(shape[0]) % t_max).to(device)


@torch.inference_mode()
def check_rows(predict: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, index: Tensor, how: str) -> None:
    """Check that the result of an image does not depend on its neighbors, by running a batch in both orders.

    Args:
        predict: The denoiser.
        x_t: The batch, (N, 3, H, W), all images different.
        index: Its table indices, (N,), all different.
        how: How the network runs, for the message: its precision, or ``compiled``.

    Raises:
        UserError: If it does.
    """
    if not torch.equal(predict(x_t, index), predict(x_t.flip(0), index.flip(0)).flip(0)):
        raise UserError(
            f"on this machine, the result of an image depends on its neighbors in a batch of {len(x_t)} "
            f"({x_t.device.type}, {how}, {torch.get_num_threads()} threads), so pairs could not be reproduced; try "
            "other --model.slots, --model.threads 1, another --model.precision, or --model.compile false"
        )
