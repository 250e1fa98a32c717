import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ddpm_pairs.training.optimizer import Adam


def steps_of(optimizer_class, states_in=None, **options):
    """A convolution's weights after a step, a loaded state and a second step."""
    generator = torch.Generator().manual_seed(0)
    weights = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
    optimizer = optimizer_class([weights], lr=0.1, **options)
    weights.grad = torch.randn(weights.shape, generator=generator)
    optimizer.step()
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].contiguous(memory_format=states_in or torch.contiguous_format)
    optimizer.load_state_dict(saved)
    weights.grad = torch.randn(weights.shape, generator=generator)
    optimizer.step()
    return weights.detach()


def test_a_state_of_another_layout_goes_on_alike():
    expected = steps_of(torch.optim.Adam)
    found = steps_of(Adam, torch.channels_last, fused=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_gradients_are_clipped_in_mixed_precision(precision, tmp_path):
    class Steep(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.zeros(2))

        def training_step(self, batch, batch_idx):
            return (self.weights * torch.tensor([30.0, 40.0])).sum()

        def configure_optimizers(self):
            return Adam(self.parameters(), lr=1.0, fused=True)

        def configure_gradient_clipping(self, optimizer, **options):
            super().configure_gradient_clipping(optimizer, **options)
            self.clipped = self.weights.grad.clone()

    module = Steep()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        precision=precision,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader([0.0]))
    torch.testing.assert_close(module.clipped, torch.tensor([0.6, 0.8]))
