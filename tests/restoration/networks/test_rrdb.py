"""RRDBNet against the published sizes and against spandrel's independent ESRGAN."""

import pytest
import torch
from spandrel import ModelLoader

from ddpm_pairs.restoration.networks.rrdb import RRDBNet


def entries(net):
    return len(net.state_dict()), sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("options", "tensors", "millions"),
    [({}, 702, 16.698), ({"scale": 2}, 702, 16.703), ({"nb": 6}, 192, 4.468)],
)
def test_official_sizes(options, tensors, millions):
    with torch.device("meta"):
        net = RRDBNet(**options)
    assert entries(net)[0] == tensors
    assert round(entries(net)[1] / 1e6, 3) == millions


@pytest.mark.parametrize(("scale", "multiple"), [(1, 4), (2, 2), (4, 1)])
def test_equals_spandrels_esrgan(scale, multiple):
    torch.manual_seed(scale)
    net = RRDBNet(scale, nf=16, nb=2).eval()
    other = ModelLoader().load_from_state_dict(dict(net.state_dict()))
    assert (other.architecture.id, other.scale) == ("ESRGAN", scale)
    lq = torch.rand(2, 3, 3 * multiple, 5 * multiple)
    with torch.no_grad():
        restored = net(lq)
        assert restored.shape == (2, 3, lq.shape[2] * scale, lq.shape[3] * scale)
        assert torch.equal(restored, other.model.eval()(lq))
        torch.testing.assert_close(net(lq.to(memory_format=torch.channels_last)), restored, atol=1e-5, rtol=1e-5)
    assert (net.scale, net.multiple, net.side) == (scale, multiple, None)


def test_blocks_begin_small():
    # Kaiming's standard deviation for leaky_relu's slope 0 is sqrt(2 / fan_in), here times 0.1.
    torch.manual_seed(0)
    net = RRDBNet(nb=1)
    conv = net.body[0].rdb2.conv3
    assert conv.weight.std().item() == pytest.approx(0.1 * (2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not conv.bias.any()
    assert net.conv_hr.weight.std().item() == pytest.approx((1 / (3 * 64 * 9)) ** 0.5, rel=0.02)  # torch's default


def test_bfloat16_stays_near():
    torch.manual_seed(0)
    net = RRDBNet(nf=16, nb=2, gc=8)
    lq = torch.rand(1, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        restored = net(lq)
    torch.testing.assert_close(restored.float(), net(lq).detach(), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": 3}, "RRDBNet scale: got 3; expected 1, 2, or 4"),
        ({"nb": 0}, "RRDBNet nb: got 0"),
        ({"gc": 0}, "RRDBNet gc: got 0"),
    ],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        RRDBNet(**options)
