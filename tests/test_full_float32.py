from collections.abc import Iterator

import pytest
import torch

from ddpm_pairs.devices import full_float32


@pytest.fixture
def fast_training() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def flags() -> tuple[str, str, str]:
    cuda, convolutions = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    return torch.get_float32_matmul_precision(), cuda, convolutions


# PyTorch keeps its settings for CUDA where there is none, too
@pytest.mark.filterwarnings("ignore:.*CUDA is not available.*:UserWarning")
def test_tensor_float_32_is_off_within_and_as_before_afterwards(fast_training):
    before = flags()
    assert before[1] == "tf32"
    with pytest.raises(KeyError), full_float32(torch.device("cuda")):
        assert flags()[1:] == ("ieee", "ieee")
        raise KeyError
    assert flags() == before


def test_autocast_is_off_within():
    with torch.autocast("cpu", dtype=torch.bfloat16), full_float32(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
