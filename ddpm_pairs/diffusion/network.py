"""The U-Net: diffusers' ``UNet2DModel`` with a plain signature and few arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import UNet2DModel
from torch import Tensor

from ddpm_pairs.errors import UserError


class UNet(UNet2DModel):
    """Noise-prediction U-Net on RGB pictures whose sides are multiples of ``multiple``.

    Any ``nn.Module`` with ``forward(x_t, timestep) -> (N, 3, H, W)`` can stand in its place; if it needs padding it
    says so by an attribute ``multiple``.

    Args:
        channels: Width of each level, from full resolution down; each further level halves the resolution.
        layers_per_block: Residual blocks a level (one more on the way up).
        attention_levels: Levels, counted from 0, that attend over all positions. Keep them at 1/16 or deeper. An empty
            list
            also leaves attention out of the middle, so that the network behaves alike on canvases of any size.
        head_dim: Channels an attention head; 32 to 64 suits tensor cores.
        norm_groups: Groups of each GroupNorm; divides every width.

    Raises:
        UserError: if a width cannot be divided by ``norm_groups``, or an attention level does not exist.
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
        if any(width % norm_groups for width in channels):
            raise UserError(f"channels {list(channels)} cannot all be divided by norm_groups {norm_groups}")
        if any(not 0 <= level < len(channels) for level in attention_levels):
            raise UserError(f"attention_levels {list(attention_levels)}: expected levels 0 to {len(channels) - 1}")
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
        """Build from the full arguments of ``diffusers.UNet2DModel``, the content of a ``unet/config.json``.

        Raises:
            UserError: unless it takes and gives three channels.
        """
        arguments = {name: value for name, value in config.items() if not name.startswith("_")}
        if (arguments.get("in_channels", 3), arguments.get("out_channels", 3)) != (3, 3):
            raise UserError(
                f"the U-Net takes {arguments.get('in_channels')} channels and gives {arguments.get('out_channels')}: "
                "expected 3 and 3 (RGB in pixel space)"
            )
        network = cls.__new__(cls)
        UNet2DModel.__init__(network, **arguments)
        return network

    @property
    def diffusers_config(self) -> dict[str, Any]:
        """The arguments of ``diffusers.UNet2DModel``, plain values only; without ``sample_size``, a mere note there."""
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
            x_t: Noised pictures (N, 3, H, W) in the network's dtype.
            timestep: Table indices (N,), int64.

        Returns:
            (N, 3, H, W) in the network's dtype.
        """
        return super().forward(x_t, timestep).sample
