"""What the monitor logs, when, and that it is right."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from ddpm_pairs.callbacks import TrainingMonitor, training_monitor

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Notes(DummyLogger):
    """A logger that keeps the numbers it is given."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.seen.setdefault(name, {})[step] = value


class Gradients(L.Callback):
    """The norm of the gradients of each batch, from their definition."""

    def __init__(self):
        self.norms = []

    def on_after_backward(self, trainer, pl_module):
        squares = [one.grad.double().square().sum() for one in pl_module.parameters()]
        self.norms.append(torch.stack(squares).sum().sqrt().item())


class Clock(L.Callback):
    """A clock by which a training batch takes 0.05 s, and a validation batch 1 s."""

    now = 0.0

    def monotonic(self):
        return self.now

    def on_train_batch_start(self, *args):
        self.now += 0.05

    def on_validation_batch_start(self, *args):
        self.now += 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradient_norm_is_that_before_clipping_and_at_log_steps_only(trainer, module, pictures, accumulate):
    notes, gradients = Notes(), Gradients()
    options = {"log_every_n_steps": 3, "gradient_clip_val": 1e-3, "accumulate_grad_batches": accumulate}
    trainer(7, [gradients, TrainingMonitor()], logger=notes, limit_val_batches=0, **options).fit(module(), pictures())
    steps = gradients.norms[accumulate - 1 :: accumulate]  # the gradients of a step are whole after its last batch
    assert len(steps) == 7
    assert notes.seen["train/gradient_norm"] == pytest.approx({2: steps[2], 5: steps[5]}, rel=1e-5)
    assert min(steps) > 0.01
    assert list(notes.seen["train/pictures_per_second"]) == [2, 5]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_speed_counts_all_batches_and_leaves_validation_out(trainer, module, pictures, accumulate, monkeypatch):
    notes, steps, clock = Notes(), 8 // accumulate, Clock()
    monkeypatch.setattr(training_monitor, "time", clock)
    options = {"log_every_n_steps": steps // 2, "accumulate_grad_batches": accumulate, "limit_val_batches": 1}
    trainer(steps, [clock, TrainingMonitor()], logger=notes, **options).fit(module(), pictures())
    speeds = list(notes.seen["train/pictures_per_second"].values())
    assert clock.now > 1  # there was a validation
    assert speeds == pytest.approx([2 / 0.05, 2 / 0.05])  # batches of 2 pictures


def test_nothing_is_logged_between_log_steps(trainer, module, pictures):
    notes = Notes()
    runner = trainer(4, [TrainingMonitor()], logger=notes, log_every_n_steps=50, limit_val_batches=0)
    runner.fit(module(), pictures())
    assert notes.seen == {}


def test_it_does_without_a_logger(trainer, module, pictures):
    runner = trainer(4, [TrainingMonitor()], log_every_n_steps=2)
    runner.fit(module(), pictures())
    assert runner.callback_metrics["train/gradient_norm"] > 0
