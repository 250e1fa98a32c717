from collections.abc import Iterator

import pytest
import torch

from ddpm_pairs.tensors import full_float32, seed_of, to_device


def test_seeds_are_pinned():
    # int(hashlib.blake2b(b"0\x1fa/b\x1fnoise", digest_size=8).hexdigest(), 16) % 2**63
    assert seed_of(0, "a/b", "noise") == 1092930012942391418
    assert seed_of("0", "a/b", "noise") == 1092930012942391418


def test_parts_do_not_run_together():
    seeds = {seed_of("a", "b"), seed_of("ab"), seed_of("b", "a"), seed_of("a", "b", ""), seed_of(1, 11), seed_of(11, 1)}
    assert len(seeds) == 6


def test_seeds_fit_torch_and_numpy():
    assert all(0 <= seed_of(i) < 2**63 for i in range(1000))
    assert max(seed_of(i) for i in range(1000)) > 2**62


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
