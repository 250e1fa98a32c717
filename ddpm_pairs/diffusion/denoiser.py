"""The U-Net, and the denoiser that computes the clean image from the output of any network."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from ddpm_pairs.diffusion.schedule import Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import sha256_of

KIND = "ddpm"
UNET_CLASS = "diffusers.UNet2DModel"
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class UNet(UNet2DModel):
    """Noise-prediction U-Net for RGB images whose sides are multiples of ``multiple``.

    Any ``nn.Module`` with ``forward(x_t, timestep) -> (N, 3, H, W)`` can replace it. If the module requires sides that
    are multiples of a number, it declares the number as an attribute ``multiple``.

    Args:
        channels: Width of each level, starting at full resolution; each level halves the resolution.
        layers_per_block: Residual blocks per level (one more in the decoder).
        attention_levels: Levels, counted from 0, that attend over all positions. Use only levels at 1/16 of the
            resolution or less. An empty list also removes attention from the middle block, so that the network behaves
            identically on canvases of any size.
        head_dim: Channels per attention head; 32 to 64 suits tensor cores.
        norm_groups: Groups of each GroupNorm; must divide every width.

    Raises:
        UserError: If a width is not divisible by ``norm_groups``, or an attention level does not exist.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 64, 128, 256, 512),
        layers_per_block: int = 2,
        attention_levels: Sequence[int] = (4,),
        head_dim: int = 64,
        norm_groups: int = 32,
    ) -> None:
        channels, attention_levels = tuple(channels), tuple(attention_levels)
        check_widths(channels, norm_groups)
        if any(not 0 <= level < len(channels) for level in attention_levels):
            raise UserError(
                f"attention_levels: got {list(attention_levels)}; expected levels from 0 to {len(channels) - 1}"
            )
        down = ["AttnDownBlock2D" if i in attention_levels else "DownBlock2D" for i in range(len(channels))]
        super().__init__(
            in_channels=3,
            out_channels=3,
            layers_per_block=layers_per_block,
            block_out_channels=channels,
            down_block_types=tuple(down),
            up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(down)),
            attention_head_dim=head_dim,
            norm_num_groups=norm_groups,
            add_attention=bool(attention_levels),
        )

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> "UNet":
        """Build a network from the full arguments of ``diffusers.UNet2DModel``.

        Args:
            config: The content of a ``unet/config.json``.

        Raises:
            UserError: If the number of input or output channels is not 3, or the network expects a class besides the
                image.
        """
        arguments = {name: value for name, value in config.items() if not name.startswith("_")}
        if (arguments.get("in_channels", 3), arguments.get("out_channels", 3)) != (3, 3):
            raise UserError(
                f"the U-Net has {arguments.get('in_channels')} input and {arguments.get('out_channels')} output "
                "channels; expected 3 and 3 (RGB in pixel space)"
            )
        conditional = [name for name in ("num_class_embeds", "class_embed_type") if arguments.get(name) is not None]
        if conditional:
            raise UserError(
                f"the U-Net is conditional on a class ({conditional[0]} {arguments[conditional[0]]}); expected one "
                "without classes"
            )
        network = cls.__new__(cls)
        UNet2DModel.__init__(network, **arguments)
        return network

    @property
    def diffusers_config(self) -> dict[str, Any]:
        """The arguments of ``diffusers.UNet2DModel`` as plain values; without ``sample_size``, which has no effect."""
        plain = {name: value for name, value in self.config.items() if not name.startswith("_")}
        plain.pop("sample_size")
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @property
    def multiple(self) -> int:
        """Sides of the input must be multiples of this."""
        return 2 ** (len(self.config["block_out_channels"]) - 1)

    def forward(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """Predict the noise (or v).

        Args:
            x_t: Noised images (N, 3, H, W) in the network's dtype.
            timestep: Table indices (N,), int64.

        Returns:
            (N, 3, H, W) in the network's dtype.
        """
        return super().forward(x_t, timestep).sample


class Denoiser(nn.Module):
    """Predict the clean image from a noised one; samplers call it.

    Args:
        net: A network with ``forward(x_t, timestep) -> (N, 3, H, W)``.
        schedule: The noise schedule that the network was trained with.
        prediction_type: ``epsilon`` (the noise), ``v_prediction`` or ``sample`` (the clean image).
        t_max: The network was trained on t in 1..t_max; ``None`` means the whole schedule.

    Attributes:
        multiple: Sides of the input must be multiples of this (the network's ``multiple``, or 1).
        source: The file or folder from which the weights were loaded; ``None`` if there is none.

    Raises:
        UserError: If the prediction type is unknown, or ``t_max`` is outside the schedule.
    """

    def __init__(
        self, net: nn.Module, schedule: Schedule, prediction_type: str = "epsilon", t_max: int | None = None
    ) -> None:
        super().__init__()
        check_prediction_type(prediction_type)
        steps = schedule.num_train_timesteps
        if t_max is not None and not 1 <= t_max <= steps:
            raise UserError(f"t_max: got {t_max}; expected 1 to {steps}, the length of the schedule")
        self.net = net
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.t_max = steps if t_max is None else t_max
        self.source: str | None = None
        self.multiple = int(getattr(net, "multiple", 1))
        self._alpha_bars: dict[torch.device, Tensor] = {}

    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Predict the clean image.

        Args:
            x_t: Noised images (N, 3, H, W), float32, about [-1, 1] plus noise.
            index: Table indices (N,), int64; t = index + 1.

        Returns:
            (N, 3, H, W), float32 in [-1, 1]. The network itself runs in the dtype of its weights.
        """
        if x_t.device not in self._alpha_bars:
            self._alpha_bars[x_t.device] = self.schedule.alpha_bars_on(x_t.device)
        return clean_prediction(self.net, x_t, index, self._alpha_bars[x_t.device], self.prediction_type)

    def sha256(self) -> str:
        """Compute the SHA-256 of the file or folder of the weights, or of the weights if there is none."""
        if self.source is not None:
            return sha256_of(self.source)
        digest = sha256()
        for name, weights in sorted(self.net.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def spec(self) -> dict[str, Any]:
        """Describe everything but the weights as plain values, for checkpoints and exports."""
        return {
            "kind": KIND,
            "net": network_spec(self.net),
            **self.schedule.spec(),
            "prediction_type": self.prediction_type,
            "t_max": self.t_max,
        }


def clean_prediction(net: nn.Module, x_t: Tensor, index: Tensor, alpha_bars: Tensor, prediction_type: str) -> Tensor:
    """Compute ``Denoiser.forward`` as a function of everything that it depends on, all on one device."""
    dtype = next(net.parameters()).dtype
    output = net(x_t.to(dtype).contiguous(memory_format=torch.channels_last), index)
    return predict_clean(x_t, output, index, alpha_bars, prediction_type)


def predict_clean(x_t: Tensor, output: Tensor, index: Tensor, alpha_bars: Tensor, prediction_type: str) -> Tensor:
    """Compute the clean image implied by a network output: float32 in the shape of ``x_t``, clamped to [-1, 1]."""
    x_t, output = x_t.float(), output.float()
    alpha_bar = alpha_bars[index].view(-1, 1, 1, 1)
    signal, sigma = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
    if prediction_type == "epsilon":
        return ((x_t - sigma * output) / signal).clamp(-1, 1)
    return (signal * x_t - sigma * output if prediction_type == "v_prediction" else output).clamp(-1, 1)


def check_widths(channels: Sequence[int], norm_groups: int) -> None:
    """Raise ``UserError`` unless all widths of a U-Net are multiples of ``norm_groups``."""
    if any(width % norm_groups for width in channels):
        raise UserError(f"channels: got {list(channels)}; expected multiples of norm_groups, which is {norm_groups}")


def check_prediction_type(prediction_type: str) -> None:
    """Raise ``UserError`` unless ``prediction_type`` is one of ``PREDICTION_TYPES``."""
    if prediction_type not in PREDICTION_TYPES:
        raise UserError(f"prediction_type: got {prediction_type!r}; expected {' or '.join(PREDICTION_TYPES)}")


def network_spec(net: nn.Module) -> dict[str, Any]:
    """Return ``class_path`` and ``init_args``, from which ``build_network`` rebuilds a network.

    A ``UNet`` stores its arguments. Any other network is described by its attribute ``init_args``, which the command
    line sets from the config; without it, the network is rebuilt without arguments.
    """
    if isinstance(net, UNet):
        return {"class_path": UNET_CLASS, "init_args": net.diffusers_config}
    path = f"{type(net).__module__}.{type(net).__qualname__}"
    return {"class_path": path, "init_args": dict(getattr(net, "init_args", {}))}
