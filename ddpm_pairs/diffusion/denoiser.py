"""A trained network together with what its output means, and what it is built from."""

import importlib
import inspect
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_pairs.diffusion.network import UNet
from ddpm_pairs.diffusion.process import check_prediction_type, predict_clean
from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of

KIND = "ddpm"
UNET_CLASS = "diffusers.UNet2DModel"


class Denoiser(nn.Module):
    """Predicts the clean picture from a noised one; what samplers call.

    Args:
        net: ``forward(x_t, timestep) -> (N, 3, H, W)``.
        schedule: The noise schedule the network was trained with.
        prediction_type: ``epsilon`` or ``v_prediction``.
        t_max: The network was trained on t in 1..t_max; ``None`` means the whole schedule.

    Attributes:
        multiple: Sides of the input must be multiples of this (the network's attribute of that name, else 1).
        source: The file or folder that the weights were loaded from; ``None`` where they come from no file.

    Raises:
        UserError: for an unknown prediction type, or a t_max outside the schedule.
    """

    def __init__(
        self, net: nn.Module, schedule: Schedule, prediction_type: str = "epsilon", t_max: int | None = None
    ) -> None:
        super().__init__()
        check_prediction_type(prediction_type)
        steps = schedule.num_train_timesteps
        if t_max is not None and not 1 <= t_max <= steps:
            raise UserError(f"t_max is {t_max}: expected 1 to {steps}, the length of the schedule")
        self.net = net
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.t_max = steps if t_max is None else t_max
        self.source: str | None = None
        self.multiple = int(getattr(net, "multiple", 1))
        self._alpha_bars: dict[torch.device, Tensor] = {}

    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Clean prediction.

        Args:
            x_t: Noised pictures (N, 3, H, W), float32, about [-1, 1] plus noise.
            index: Table indices (N,), int64; t = index + 1.

        Returns:
            (N, 3, H, W), float32 in [-1, 1]. The network itself runs in the dtype of its weights.
        """
        if x_t.device not in self._alpha_bars:
            self._alpha_bars[x_t.device] = self.schedule.alpha_bars_on(x_t.device)
        return clean_prediction(self.net, x_t, index, self._alpha_bars[x_t.device], self.prediction_type)

    def sha256(self) -> str:
        """SHA-256 of the file or folder that the weights came from, or of the weights themselves."""
        if self.source is not None:
            return sha256_of(self.source)
        digest = sha256()
        for name, weights in sorted(self.net.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def spec(self) -> dict[str, Any]:
        """Everything but the weights, as plain values: goes into checkpoints and exports."""
        return {
            "kind": KIND,
            "net": network_spec(self.net),
            "schedule": self.schedule.name,
            "num_train_timesteps": self.schedule.num_train_timesteps,
            "prediction_type": self.prediction_type,
            "t_max": self.t_max,
        }


def clean_prediction(net: nn.Module, x_t: Tensor, index: Tensor, alpha_bars: Tensor, prediction_type: str) -> Tensor:
    """What ``Denoiser.forward`` does, as a function of everything that it depends on, all on one device."""
    dtype = next(net.parameters()).dtype
    output = net(x_t.to(dtype).contiguous(memory_format=torch.channels_last), index)
    return predict_clean(x_t, output, index, alpha_bars, prediction_type)


def network_spec(net: nn.Module) -> dict[str, Any]:
    """``class_path`` and ``init_args`` from which a network is built again.

    A ``UNet`` knows its own arguments; any other network is described by an attribute ``init_args`` (the command line
    sets it from the config), without which it is built from its class alone.
    """
    if isinstance(net, UNet):
        return {"class_path": UNET_CLASS, "init_args": net.diffusers_config}
    path = f"{type(net).__module__}.{type(net).__qualname__}"
    return {"class_path": path, "init_args": dict(getattr(net, "init_args", {}))}


def build_network(spec: dict[str, Any]) -> nn.Module:
    """Build a network from its ``network_spec``.

    Raises:
        UserError: if the class cannot be imported, is no ``nn.Module`` or does not take these arguments.
    """
    path, arguments = spec["class_path"], dict(spec.get("init_args") or {})
    if path == UNET_CLASS:
        try:
            return UNet.from_diffusers(arguments)
        except TypeError as error:
            raise UserError(f"the checkpoint's U-Net cannot be built ({error}): install a newer diffusers") from None
    module, _, name = path.rpartition(".")
    try:
        network_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"the checkpoint's network {path} cannot be imported ({error}): install its package") from None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise UserError(f"the checkpoint's network {path} is no torch.nn.Module")
    try:
        inspect.signature(network_class).bind(**arguments)
    except TypeError as error:
        raise UserError(f"the checkpoint's network {path} cannot be built ({error}): was its class changed?") from None
    net = network_class(**arguments)
    net.init_args = arguments
    return net
