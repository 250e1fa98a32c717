from collections.abc import Iterator

import pytest
import torch
from degradation_records import MODELS, crops, drawn, label

from ddpm_pairs.degradations.ops.side_by_side import degrade_one_by_one


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("model", [model for model in MODELS if model.name != "bicubic"], ids=label)
def test_bits_depend_neither_on_threads_nor_on_the_batch(model, threads):
    hq, parameters = crops(3, 64, 96), drawn(model, 3)
    torch.set_num_threads(1)
    alone = torch.cat([model.apply(hq[i : i + 1], parameters[i : i + 1]) for i in range(3)])
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        assert torch.equal(model.apply(hq, parameters), alone)
        assert torch.get_num_threads() == count


def test_every_picture_has_its_own_arguments_and_threads_come_back_after_an_error(threads):
    torch.set_num_threads(2)
    hq = torch.zeros(5, 3, 4, 4, requires_grad=True)

    def chain(image: torch.Tensor, number: int, names: str) -> torch.Tensor:
        assert torch.get_num_threads() == 1 and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        if names == "bad":
            raise ValueError("no such name")
        return image[..., :2, :2] + number / 255

    with torch.autocast("cpu", dtype=torch.bfloat16):
        lq = degrade_one_by_one(chain, hq, range(5), "abcde")
    assert lq.shape == (5, 3, 2, 2) and not lq.requires_grad
    assert torch.equal(lq[:, 0, 0, 0], torch.arange(5) / 255)
    with pytest.raises(ValueError, match="no such name"):
        degrade_one_by_one(chain, hq, range(5), ["a", "b", "bad", "d", "e"])
    assert torch.get_num_threads() == 2
