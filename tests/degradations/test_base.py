import pytest
import torch

from ddpm_pairs.degradations.base import round_to_8_bit, to_device, working_lq_size


@pytest.mark.parametrize(
    ("size", "scale", "preset", "expected"),
    [
        ((64, 96), 4, "natural", (16, 24)),
        ((64, 96), 2, "natural", (32, 48)),
        ((17, 5), 1, "natural", (17, 5)),
        ((17, 5), 1, "faces", (5, 2)),
        ((512, 512), 1, "faces", (128, 128)),
    ],
)
def test_size_at_which_lq_is_made(size, scale, preset, expected):
    assert working_lq_size(*size, scale, preset) == expected


def test_tensors_that_are_in_their_place_stay_the_same():
    tensor = torch.arange(3.0)
    assert to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_moving_to_a_gpu_does_not_wait_for_it():
    device = torch.device("cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10**9)
        moved = to_device(torch.arange(3.0), device)
        assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert moved.tolist() == [0, 1, 2] and to_device(moved, device) is moved


def test_rounding_is_to_the_nearest_level():
    levels = torch.tensor([-0.3, 0.0, 0.49, 0.51, 254.6, 255.0, 300.0]) / 255
    assert torch.equal(round_to_8_bit(levels) * 255, torch.tensor([0.0, 0, 0, 1, 255, 255, 255]))
