"""The U-Net's arguments, and that it is diffusers' own."""

import pytest
import torch
from diffusers import UNet2DModel

from ddpm_pairs.diffusion.denoiser import UNet

# As in the config.json of early public DDPMs: no key that came later, attention of one head of 8 channels and more.
PUBLIC = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": 4,
    "block_out_channels": [8, 16, 16],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}


def tiny(**options):
    torch.manual_seed(0)
    return UNet(**{"channels": [8, 16], "layers_per_block": 1, "attention_levels": [], "norm_groups": 4, **options})


def heads(net):
    """Number of heads of each attention, by name."""
    return {name: module.heads for name, module in net.named_modules() if hasattr(module, "heads")}


def test_arguments_make_the_layers_they_name():
    net = tiny(channels=[8, 16, 16], attention_levels=[2], head_dim=4, layers_per_block=2)
    assert [len(block.resnets) for block in net.down_blocks] == [2, 2, 2]
    assert [len(block.resnets) for block in net.up_blocks] == [3, 3, 3]
    assert [hasattr(block, "attentions") for block in net.down_blocks] == [False, False, True]
    assert [hasattr(block, "attentions") for block in net.up_blocks] == [True, False, False]
    assert set(heads(net).values()) == {4}
    assert net.multiple == 4


def test_without_attention_levels_nothing_attends():
    assert heads(tiny()) == {}
    assert heads(tiny(attention_levels=[1], head_dim=8)) != {}


@pytest.mark.parametrize("size", [(16, 24), (2, 2), (10, 6)])
def test_output_has_the_size_of_the_input(size):
    net = tiny()
    assert net(torch.rand(2, 3, *size), torch.tensor([0, 9])).shape == (2, 3, *size)


@pytest.mark.parametrize(
    "net",
    [tiny(), tiny(channels=[8, 8, 16], attention_levels=[0, 2], head_dim=4), UNet.from_diffusers(PUBLIC)],
    ids=["plain", "attention", "public"],
)
def test_rebuilt_from_its_config_it_is_the_same(net):
    again = UNet.from_diffusers(net.diffusers_config)
    assert type(again) is UNet
    assert again.diffusers_config == net.diffusers_config
    again.load_state_dict(net.state_dict())
    x, index = torch.rand(2, 3, 16, 16), torch.tensor([3, 900])
    assert torch.equal(again(x, index), net(x, index))


def test_public_config_gives_the_network_of_diffusers():
    torch.manual_seed(0)
    reference = UNet2DModel.from_config(PUBLIC)
    net = UNet.from_diffusers(PUBLIC)
    net.load_state_dict(reference.state_dict())
    x, index = torch.rand(2, 3, 16, 16), torch.tensor([3, 900])
    assert torch.equal(net(x, index), reference(x, index).sample)
    assert heads(net) == heads(reference)
    assert net.config["norm_eps"] == 1e-6
    assert net.multiple == 4


def test_config_is_plain_and_without_the_note_of_a_size():
    config = UNet.from_diffusers(PUBLIC).diffusers_config
    assert config["block_out_channels"] == [8, 16, 16]
    assert not any(isinstance(value, tuple) for value in config.values())
    assert "sample_size" not in config
    assert not any(name.startswith("_") for name in config)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": [8, 18]}, r"channels: got \[8, 18\]; expected multiples of norm_groups, which is 4"),
        ({"attention_levels": [2]}, r"attention_levels: got \[2\]; expected levels from 0 to 1"),
    ],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        tiny(**options)


def test_latent_networks_are_refused():
    with pytest.raises(ValueError, match="has 4 input and 4 output channels; expected 3 and 3"):
        UNet.from_diffusers({**PUBLIC, "in_channels": 4, "out_channels": 4})
