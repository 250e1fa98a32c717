"""A bank of codes on the GPU: what the CPU gives, for each row alone."""

import pytest
import torch
from degradation_records import crops
from tiny_bank import tiny_bank

from ddpm_pairs.degradations import Learned

pytestmark = pytest.mark.gpu


def test_rows_are_those_of_the_cpu_and_the_same_beside_others(device):
    hq = crops(4, 160, 96)
    parameters = [{"code": n % 3, "resampling": ("bilinear", "bicubic")[n % 2]} for n in range(4)]
    on_cpu = Learned(tiny_bank(levels=4)).apply(hq, parameters)
    bank = Learned(tiny_bank(levels=4))
    bank.prepare(device)
    found = bank.apply(hq.to(device), parameters)
    assert found.device.type == device.type and (found.cpu() - on_cpu).abs().max() < 1.5 / 255
    assert torch.equal(bank.apply(hq.to(device).flip(0), parameters[::-1]).flip(0), found)
    noisy = [one | {"noise": 20.0, "noise_seed": 5} for one in parameters]
    again = bank.apply(hq.to(device), noisy)
    assert torch.equal(bank.apply(hq.to(device), noisy), again) and not torch.equal(again, found)
