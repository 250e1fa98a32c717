"""How a machine runs the network: precision, batch slots, threads and compilation decide the last bits of LQ."""

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
    """Places a denoiser on a device, decides what was left open, and keeps a record of it.

    Args:
        slots: Images that go through the network together, 4 or 8; short batches are filled up with repeats.
        threads: CPU threads of the process, 1, 2 or 4; ``None`` leaves them as they are.
        precision: ``fp32`` or ``bf16`` for the network; ``None`` uses bf16 where the device supports it natively. From
            the first ``place`` on it says which.
        compile: Whether to compile the network, once for every canvas size. ``False`` after it failed.

    Raises:
        UserError: For values outside their range.
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
                raise UserError(f"{name} is {value}: expected {choices}, which keep images independent")
        if self.precision not in (None, *DTYPES):
            raise UserError(f"precision is {self.precision}: expected {' or '.join(DTYPES)}")

    def record(self) -> dict[str, Any]:
        """Plain values, from which ``adopt`` makes another runtime work alike."""
        return {name: getattr(self, name) for name in ("precision", "compile", "slots", "threads")}

    def adopt(self, record: dict[str, Any]) -> None:
        """Work as earlier pairs were made, choosing nothing anew; call it before ``place``."""
        self.precision, self.slots, self.threads = record["precision"], record["slots"], record["threads"]
        self.compile, self._adopted = record.get("compile", False), True

    def set_threads(self, device: torch.device) -> None:
        """Give torch the threads, where the CPU computes."""
        if device.type == "cpu" and self.threads is not None:
            torch.set_num_threads(self.threads)

    def place(self, denoiser: Denoiser, device: torch.device) -> Denoiser:
        """Bring a denoiser to a device, and check that a batch's rows are independent there.

        Args:
            denoiser: As it was loaded, in fp32; it stays as it is.
            device: Where to run it.

        Returns:
            What runs there in the precision that was given or chosen.

        Raises:
            UserError: On a machine, or with a network, where an image's result depends on its neighbors, and where
                earlier pairs were made by a compiled network that cannot be compiled here.
        """
        self.set_threads(device)
        if self.precision is None:
            self.precision = native_precision(device)
        running = placed(denoiser, device, self.precision)
        side = whole_multiple(64, running.multiple)
        images = noise_batch((self.slots, 3, side, side), running.t_max, device)
        check_rows(running, *images, self.precision)
        if self.compile:
            from ddpm_pairs.diffusion.runtime.compiled import compiled  # which needs `check_rows` of this module

            placed_only, running = running, compiled(running, *images, required=self._adopted)
            self.compile = running is not placed_only
        return running

    def agree(self, denoiser: Denoiser, running: Denoiser, strategy: Strategy, device: torch.device) -> Denoiser:
        """Use rank 0's precision, and compile on all ranks or on none.

        Args:
            denoiser: As it was loaded.
            running: What ``place`` returned.
            strategy: The Trainer's, which connects the ranks.
            device: This rank's.

        Returns:
            What runs alike on all ranks.
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
    """``bf16`` where the device computes in it natively, else ``fp32``; nothing is measured.

    That is CUDA from compute capability 8.0 on (Ampere), and CPUs with AMX-bf16 or AVX512-bf16.
    """
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16" if native else "fp32"


def placed(denoiser: Denoiser, device: torch.device, precision: str) -> Denoiser:
    """The denoiser on a device in ``fp32`` or ``bf16``, channels last: a copy, unless it is there and in it already."""
    weights, dtype = next(denoiser.parameters()), DTYPES[precision]
    if (weights.device, weights.dtype) != (device, dtype):
        denoiser = copy.deepcopy(denoiser).to(device=device, dtype=dtype)
    return denoiser.to(memory_format=torch.channels_last)


def whole_multiple(side: int, multiple: int) -> int:
    """A side that the network takes: ``side`` rounded down to a multiple, one at least."""
    return max(side // multiple, 1) * multiple


def noise_batch(shape: Sequence[int], t_max: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise to try a denoiser with, the same on every machine: x_t of ``shape``, and table indices below ``t_max``."""
    x_t = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x_t.to(device), (torch.arange(shape[0]) % t_max).to(device)


@torch.inference_mode()
def check_rows(predict: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, index: Tensor, how: str) -> None:
    """Try whether a picture's result depends on its neighbours: a batch, and the same batch reversed.

    Args:
        predict: The denoiser.
        x_t: The batch, (N, 3, H, W), all pictures different.
        index: Its table indices, (N,), all different.
        how: How the network runs, for the error: its precision, or that it is compiled.

    Raises:
        UserError: if it does.
    """
    if not torch.equal(predict(x_t, index), predict(x_t.flip(0), index.flip(0)).flip(0)):
        raise UserError(
            f"on this machine a picture's result depends on its neighbours in a batch of {len(x_t)} "
            f"({x_t.device.type}, {how}, {torch.get_num_threads()} threads), so pairs could not be made again: try "
            "other --model.slots, --model.threads 1, another --model.precision, or --model.compile false"
        )
