"""The capacity table of docs/scaling.md follows from the network's arithmetic."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from ddpm_pairs.diffusion import UNet

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text("utf-8")
FLOPS_PER_SECOND = 790e12
EVALUATIONS = {"fast": 8, "default": 12, "high": 20}

ROWS = re.findall(
    r"^\| (\d+) px, t up to (\d+) \| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE
)


def flops(config, side):
    """Of one evaluation of a config's network on one picture."""
    spec = yaml.safe_load((ROOT / "configs" / config).read_text())["model"]["init_args"]["net"]["init_args"]
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        UNet(**spec)(torch.empty(1, 3, side, side), torch.empty(1, dtype=torch.long))
    return counter.get_total_flops()


def to_digits(value, text):
    """As it is rounded in a text."""
    return f"{value:.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize(("side", "t_max", "config"), [(256, 250, "ddpm_natural.yaml"), (512, 500, "ddpm.yaml")])
def test_rows(side, t_max, config):
    needed = flops(config, side)
    assert re.search(rf"\b{round(needed / 1e9)}( GFLOP per evaluation)? at {side} px", PAGE.replace("\n", " "))
    rows = {mode: rest for one, t, mode, *rest in ROWS if (one, t) == (str(side), str(t_max))}
    assert list(rows) == ["fast", "default", "high", "exact"]
    for mode, (evaluations, per_second, bound, estimate) in rows.items():
        mean = EVALUATIONS.get(mode, t_max / 2)  # an ancestral walk from t takes t, which is uniform over 0..t_max
        assert float(evaluations) == mean
        pairs = FLOPS_PER_SECOND / needed / mean
        hours = 1e6 / pairs / 3600
        assert (per_second, bound, estimate) == (
            to_digits(pairs, per_second),
            to_digits(hours, bound),
            to_digits(hours / 0.4, estimate),
        )
