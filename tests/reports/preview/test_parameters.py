import pytest
import torch
from degradation_records import MODELS, inner_name, label

from ddpm_pairs.reports.preview.parameters import columns, phrases

ROUND = {"kind": "iso", "side": 7, "sigma_x": 1.23, "sigma_y": 1.23, "angle": 0.0}


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"blur": ROUND}, ["iso blur σ 1.2"]),
        (
            {"blur": ROUND | {"kind": "generalized_aniso", "sigma_y": 0.5, "angle": -1.5707963, "beta": 2.0}},
            ["gen. aniso σ 1.2/0.5 90° β 2.0"],
        ),
        ({"sinc": {"kind": "sinc", "side": 7, "cutoff": 2.0}}, ["sinc 2.00 rad/px"]),
        ({"resize": {"factor": 0.5, "mode": "area"}}, ["×0.50 area"]),
        ({"resize": {"factor": 1.0, "mode": "area"}}, ["not resized"]),
        ({"resize": {"factor": 4.0}}, ["÷4.00"]),
        ({"resize": {"mode": "bicubic"}}, ["→ LQ size bicubic"]),
        ({"noise": {"kind": "gaussian", "level": 12.34, "gray": True, "noise_seed": 9}}, ["gaussian noise 12.3 gray"]),
        ({"noise": {"kind": "correlated", "covariance": [[1.0]], "noise_seed": 9}}, ["correlated noise"]),
        ({"halve": {"mode": "matlab"}, "quality": 61.7}, ["halved matlab", "JPEG 62"]),
        ({"operation": "down", "kernel": {"sigma": 1.0, "shift": 1.5}, "step": 4}, ["σ 1.0, every 4. px"]),
        ({"blur": None, "gray": False, "jpeg_last": True, "noise_seed": 4}, ["jpeg last"]),
        ({"shift": [1.0, -2.5, 3.0], "order": ["a", "b"], "haze": 0.25}, ["shift 1/-2.5/3", "order a/b", "haze 0.25"]),
        ({"stages": [{"a": 1, "b": 2}, {"a": 3}]}, ["1. a 1", "b 2", "2. a 3"]),
        ({"operations": [{"quality": 40.0}, {"blur": None}, {"quality": 50.0}]}, ["JPEG 40", "JPEG 50"]),
        ({}, []),
    ],
)
def test_phrases(part, told):
    assert phrases(part) == told


@pytest.mark.parametrize("model", [one for one in MODELS if inner_name(one) != "bicubic"], ids=label)
def test_every_model_is_told_in_short_phrases(model):
    for seed in range(50):
        told = phrases(model.draw(torch.Generator().manual_seed(seed)))
        assert told and all(len(one) <= 40 and "{" not in one and "seed" not in one for one in told), told


def test_columns_gather_what_varies():
    draws = [
        {"blur": ROUND | {"sigma_x": n + 1.0, "sigma_y": n + 1.0}, "noise": None, "same": 3, "noise_seed": n}
        for n in range(3)
    ]
    draws.append({"blur": ROUND | {"sigma_y": 9.0}, "noise": {"kind": "poisson", "level": 0.5}, "same": 3, "on": True})
    assert columns(draws) == {
        "blur angle": ([0.0], 0.25),
        "blur sigma_x": ([1.0, 2.0, 3.0, 1.23], 1.0),
        "blur sigma_y": ([9.0], 0.25),
        "noise kind": (["poisson"], 0.25),
        "noise level (poisson)": ([0.5], 0.25),
        "on": (["yes"], 0.25),
    }


def test_columns_of_lists():
    draws = [
        {"operations": [{"operation": "jpeg", "quality": 4}, {"operation": "blur", "blur": {"side": 3}}]},
        {"operations": [{"operation": "blur", "blur": {"side": 5}}, {"operation": "jpeg", "quality": 6}]},
        {"stages": [{"f": 1.0}, {"f": 2.0}], "shift": [1.0, 2.0], "order": ["b", "a"]},
    ]
    found = columns(draws)
    assert found["operations first"] == (["jpeg", "blur"], pytest.approx(2 / 3))
    assert found["operations jpeg quality"][0] == [4, 6] and found["operations blur side"][0] == [3, 5]
    assert found["stages 1 f"][0] == [1.0] and found["stages 2 f"][0] == [2.0]
    assert found["shift"][0] == [1.0, 2.0] and found["order first"][0] == ["b"]
    assert columns([{}, {}]) == {}
