"""The moving average, against a plain loop over the weights of every step."""

import lightning as L
import pytest
import torch

from ddpm_pairs.callbacks import EMA, LastCheckpoint
from ddpm_pairs.diffusion import load_denoiser

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def copied(module):
    return [weight.detach().clone() for weight in module.net.parameters()]


class Steps(L.Callback):
    """Weights after every step; weights in place and numbers logged at every validation."""

    def __init__(self):
        self.weights, self.validated, self.logged = [], {}, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.weights.append(copied(module))

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        self.validated[trainer.global_step] = copied(module)

    def on_validation_end(self, trainer, module):
        names = [name for name in trainer.callback_metrics if name.startswith("val")]
        self.logged[trainer.global_step] = {name: trainer.callback_metrics[name].item() for name in names}
        torch.testing.assert_close(copied(module), self.weights[trainer.global_step - 1], atol=0, rtol=0)


def average(initial, weights, decay, every):
    """The average after the given steps, one number at a time as the paper trail has it."""
    ema, updates = initial, 0
    for step, current in enumerate(weights, start=1):
        if step % every:
            continue
        if updates == 0:
            ema = current
        else:
            keep = min(decay, 1 - (1 + updates * every) ** (-2 / 3))
            ema = [keep * old + (1 - keep) * new for old, new in zip(ema, current, strict=True)]
        updates += 1
    return ema


def fit(trainer, module, pictures, steps, ema, **options):
    seen, model, data = Steps(), module(), pictures()
    initial = copied(model)
    runner = trainer(steps, [ema, seen], **options)
    runner.fit(model, data)
    return runner, model, data, seen, initial


@pytest.mark.parametrize(("decay", "every"), [(0.5, 1), (0.99, 1), (0.99, 3), (0.0, 2)])
def test_average_is_that_of_the_loop(trainer, module, pictures, decay, every):
    _, model, _, seen, initial = fit(trainer, module, pictures, 12, EMA(decay, every))
    expected = average(initial, seen.weights, decay, every)
    torch.testing.assert_close(copied(model), expected, atol=1e-6, rtol=1e-5)
    for step in (4, 8, 12):
        expected = average(initial, seen.weights[:step], decay, every)
        torch.testing.assert_close(seen.validated[step], expected, atol=1e-6, rtol=1e-5)


def test_warm_up_ends_at_decay(trainer, module, pictures):
    # With (1 + step)^(-2/3) the decay 0.5 is passed at step 2, 0.99 never within 12 steps.
    _, _, _, seen, initial = fit(trainer, module, pictures, 6, EMA(0.5, 1))
    slow, fast = average(initial, seen.weights, 0.99, 1), average(initial, seen.weights, 0.5, 1)
    assert not torch.allclose(slow[0], fast[0])


def test_before_the_first_update_the_average_is_the_beginning(trainer, module, pictures):
    _, model, _, seen, initial = fit(trainer, module, pictures, 4, EMA(0.9, 10))
    torch.testing.assert_close(seen.validated[4], initial, atol=0, rtol=0)
    torch.testing.assert_close(copied(model), initial, atol=0, rtol=0)


def test_average_lies_in_memory_as_the_weights_do(trainer, module, pictures):
    """Callbacks are set up before the module lays its weights out."""

    def setup(stage):
        model.net.to(memory_format=torch.channels_last)

    ema, model = EMA(0.9, 1), module()
    model.setup = setup
    trainer(2, [ema]).fit(model, pictures())
    weights = list(model.parameters())
    assert any(not weight.is_contiguous() for weight in weights)
    for average, weight in zip(ema._average_model.module.parameters(), weights, strict=True):
        assert average.stride() == weight.stride()


def losses_of(model, data, weights):
    """Mean loss and its bands by hand, in one batch."""
    loader = data.val_dataloader()
    batches = list(loader)
    lq = torch.cat([batch["lq"] for batch in batches]).float() / 255
    keys = [key for batch in batches for key in batch["key"]]
    index, noise = model.validation_draws({"lq": lq, "key": keys})
    with torch.no_grad():
        for weight, value in zip(model.net.parameters(), weights, strict=True):
            weight.copy_(value)
        losses = model.picture_losses(model.net.eval(), lq, index, noise)
    means = {"loss": losses.mean().item()}
    for low, high in ((0, 5), (5, 10), (10, 15), (15, 20)):
        inside = (index >= low) & (index < high)
        if inside.any():
            means[f"loss_t{low + 1}-{high}"] = losses[inside].mean().item()
    return means


def test_validation_logs_average_and_raw_weights(trainer, module, pictures):
    ema = EMA(0.9, 2)
    _, model, data, seen, _ = fit(trainer, module, pictures, 8, ema)
    for step in (4, 8):
        of_average = losses_of(model, data, seen.validated[step])
        of_raw = losses_of(model, data, seen.weights[step - 1])
        expected = {f"val/{name}": value for name, value in of_average.items()}
        expected |= {f"val_raw/{name}": value for name, value in of_raw.items()}
        assert seen.logged[step] == pytest.approx(expected, rel=1e-4)
        assert of_average["loss"] != pytest.approx(of_raw["loss"], rel=1e-3)


def test_raw_weights_are_judged_in_the_same_way(trainer, module, pictures):
    # Dropout off and bfloat16 on for both: with equal weights the two numbers are one.
    seen = Steps()
    trainer(4, [EMA(0.9, 4), seen], precision="bf16-mixed").fit(module(dropout=True), pictures())
    logged = seen.logged[4]
    assert logged["val_raw/loss"] == logged["val/loss"]


def test_checkpoint_holds_both(trainer, module, pictures, tmp_path):
    seen, model = Steps(), module()
    initial = copied(model)
    trainer(5, [EMA(0.9, 2), seen, LastCheckpoint(str(tmp_path), 100)]).fit(model, pictures())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    names = [f"net.{name}" for name, _ in model.net.named_parameters()]
    assert sorted(saved["state_dict"]) == sorted(saved["current_model_state"]) == sorted(names)
    expected = average(initial, seen.weights, 0.9, 2)
    torch.testing.assert_close([saved["state_dict"][name] for name in names], expected, atol=1e-6, rtol=1e-5)
    for name, weight in zip(names, seen.weights[-1], strict=True):
        assert torch.equal(saved["current_model_state"][name], weight)
    loaded = list(load_denoiser(tmp_path / "last.ckpt").net.parameters())
    torch.testing.assert_close(loaded, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decay": 1.0}, "EMA.decay: got 1.0"),
        ({"decay": -0.1}, "EMA.decay: got -0.1"),
        ({"every_n_steps": 0}, "EMA.every_n_steps: got 0"),
    ],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        EMA(**options)
