"""Tiny banks of codes, and checkpoints of a tiny ReDegNet."""

import torch

from ddpm_pairs.degradations.learned.files import describe
from ddpm_pairs.degradations.learned.redegnet.bank import CodeBank
from ddpm_pairs.degradations.learned.redegnet.networks import ReDegNet
from ddpm_pairs.degradations.learned.redegnet.reader import KIND

REDEGNET = {"width": 4, "levels": 2, "code": 8}
"""Sizes of a ReDegNet for crops of 16 px."""


def tiny_redegnet(seed=0, **options):
    """An untrained ReDegNet whose images depend on content at all sizes."""
    torch.manual_seed(seed)
    net = ReDegNet(**REDEGNET | options)
    with torch.no_grad():
        for name, value in net.syn.named_parameters():
            if name.endswith("strength"):
                value.fill_(1.0)
    return net.eval()


def save_reader(path, net=None, training=None):
    """Write the checkpoint of a fit of ReDegNet."""
    net = tiny_redegnet() if net is None else net
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "ddpm_pairs": describe(net, training, KIND)}, path)
    return net


def tiny_bank(sources=("a.png", "b.png", "album/c.jpg#2"), scale=4, seed=0, residual=False, levels=2, **options):
    """A bank of random codes."""
    net = tiny_redegnet(seed, residual=residual, levels=levels)
    bank = CodeBank(scale, list(sources), **net.syn.init_args, **options)
    bank.syn.load_state_dict(net.syn.state_dict())
    bank.codes.normal_(generator=torch.Generator().manual_seed(seed))
    return bank.eval()


def identity_bank(**options):
    """A bank that renders every image as itself."""
    bank = tiny_bank(residual=True, **options)
    with torch.no_grad():
        for value in bank.syn.generator.to_rgb.parameters():
            value.zero_()
    return bank
