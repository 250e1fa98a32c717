import pytest
import torch

from ddpm_pairs.devices import to_device


def test_tensors_that_are_in_their_place_stay_the_same():
    tensor = torch.arange(3.0)
    assert to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_moving_to_a_gpu_does_not_wait_for_it():
    device = torch.device("cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10**9)
        moved = to_device(torch.arange(3.0), device)
        assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert moved.tolist() == [0, 1, 2] and to_device(moved, device) is moved
