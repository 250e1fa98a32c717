"""``last.ckpt``: when it is written, and that an interrupted fit goes on as if nothing had happened."""

import os
import signal

import lightning as L
import pytest
import torch

from ddpm_pairs.callbacks import EMA, LastCheckpoint
from ddpm_pairs.stopping import exit_status
from ddpm_pairs.training.checkpoint_io import AtomicCheckpointIO

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Press(L.Callback):
    """Ctrl-C, or another signal, at a hook, the n-th time that it is called."""

    def __init__(self, hook, times, keys=1, number=signal.SIGINT):
        self.left, self.keys, self.number = times, keys, number
        setattr(self, hook, self.press)

    def press(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            for _ in range(self.keys):
                os.kill(os.getpid(), self.number)


class Log(L.Callback):
    """Steps and losses of training and validation."""

    def __init__(self):
        self.train, self.validation = {}, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.train[batch_idx] = outputs["loss"].item()

    def on_validation_end(self, trainer, module):
        names = [name for name in trainer.callback_metrics if name.startswith("val")]
        self.validation[trainer.global_step] = {name: trainer.callback_metrics[name].item() for name in names}


def equal(one, two):
    """Equal to the last bit, all the way down."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[name], two[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    return one == two


def read(path):
    return torch.load(path, weights_only=True)


def callbacks(folder, every, *others):
    return [EMA(0.9, 3), *others, LastCheckpoint(str(folder), every)]


STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")


@pytest.fixture
def unbroken(trainer, module, pictures, tmp_path):
    """Last checkpoint and log of a fit of ten steps, made once for each number of batches in a step."""

    def make(accumulate):
        if accumulate not in _UNBROKEN:
            log, folder = Log(), tmp_path / "unbroken"
            runner = trainer(10, callbacks(folder, 100, log), accumulate_grad_batches=accumulate)
            runner.fit(module(), pictures())
            _UNBROKEN[accumulate] = read(folder / "last.ckpt"), log
        return _UNBROKEN[accumulate]

    return make


_UNBROKEN = {}


class TestInterruption:
    @pytest.mark.parametrize(
        ("hook", "times", "accumulate", "step"),
        [
            ("on_train_batch_start", 6, 1, 6),  # in training
            pytest.param("on_before_optimizer_step", 3, 1, 3, marks=pytest.mark.slow),
            ("on_validation_batch_start", 2, 1, 4),  # while the average is in the raw weights' place
            pytest.param("on_validation_epoch_end", 1, 1, 5, marks=pytest.mark.slow),
            ("on_save_checkpoint", 1, 1, 2),  # at a regular save
            ("on_train_batch_start", 5, 2, 3),  # between two batches of one step
            pytest.param("on_train_batch_start", 6, 2, 3, marks=pytest.mark.slow),
            pytest.param("on_validation_batch_start", 1, 2, 2, marks=pytest.mark.slow),
            ("on_validation_batch_start", 1, 3, 2),  # validation between two batches of one step
        ],
    )
    def test_resumed_equals_unbroken(
        self, trainer, module, pictures, tmp_path, unbroken, hook, times, accumulate, step
    ):
        options = {"accumulate_grad_batches": accumulate}
        expected, whole = unbroken(accumulate)
        before = signal.getsignal(signal.SIGINT)
        first, second, folder = Log(), Log(), tmp_path / "broken"
        with pytest.raises(SystemExit):
            runner = trainer(10, callbacks(folder, 2, Press(hook, times), first), **options)
            runner.fit(module(), pictures())
        assert signal.getsignal(signal.SIGINT) is before
        assert read(folder / "last.ckpt")["global_step"] == step

        runner = trainer(10, callbacks(folder, 2, second), **options)
        runner.fit(module(seed=1), pictures(), ckpt_path=str(folder / "last.ckpt"), weights_only=True)
        found = read(folder / "last.ckpt")
        for name in STATE:
            assert equal(found[name], expected[name]), name
        assert first.train | second.train == whole.train
        for done, numbers in (first.validation | second.validation).items():
            assert numbers == whole.validation[done]
        after = {done for done in whole.validation if done > step}
        assert after <= set(second.validation)

    def test_a_second_press_stops_at_once_and_saves_nothing(self, trainer, module, pictures, tmp_path):
        log = Log()
        with pytest.raises(SystemExit):
            press = Press("on_train_batch_start", 3, keys=2)
            trainer(10, callbacks(tmp_path, 100, press, log)).fit(module(), pictures())
        assert list(log.train) == [0, 1]
        assert not (tmp_path / "last.ckpt").exists()

    def test_presses_while_it_saves_wait(self, trainer, module, pictures, tmp_path):
        press = [Press("on_train_batch_start", 3), Press("on_save_checkpoint", 1, keys=2)]
        with pytest.raises(SystemExit):
            trainer(10, callbacks(tmp_path, 100, *press)).fit(module(), pictures())
        assert read(tmp_path / "last.ckpt")["global_step"] == 3

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_other_signals_stop_like_a_press_and_may_come_twice(self, trainer, module, pictures, tmp_path, number):
        """Launchers signal a process and its group; only a human's second Ctrl-C means 'at once'."""
        before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        presses = [Press("on_train_batch_start", 3, 2, number), Press("on_save_checkpoint", 1, 2, number)]
        with pytest.raises(SystemExit) as caught:
            trainer(10, callbacks(tmp_path, 100, *presses)).fit(module(), pictures())
        assert exit_status(caught.value.__context__) == 128 + number
        assert read(tmp_path / "last.ckpt")["global_step"] == 3
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before

    def test_an_ignored_signal_stays_ignored(self, trainer, module, pictures, tmp_path):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            press = Press("on_train_batch_start", 2, number=signal.SIGHUP)
            trainer(3, callbacks(tmp_path, 100, press)).fit(module(), pictures())
        finally:
            signal.signal(signal.SIGHUP, before)
        assert read(tmp_path / "last.ckpt")["global_step"] == 3

    def test_leaves_what_was_saved_alone_after_an_error(self, trainer, module, pictures, tmp_path):
        class Fail(L.Callback):
            def on_train_batch_start(self, trainer, module, batch, batch_idx):
                if batch_idx == 5:
                    raise RuntimeError("out of memory")

        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer(10, callbacks(tmp_path, 2, Fail())).fit(module(), pictures())
        assert read(tmp_path / "last.ckpt")["global_step"] == 4
        assert signal.getsignal(signal.SIGINT) is before


class TestSaving:
    @pytest.mark.parametrize(("steps", "every"), [(7, 5), (4, 2), (3, 100)])
    def test_the_last_state_is_saved_whatever_its_number(self, trainer, module, pictures, tmp_path, steps, every):
        before = signal.getsignal(signal.SIGINT)
        trainer(steps, callbacks(tmp_path, every)).fit(module(), pictures())
        assert read(tmp_path / "last.ckpt")["global_step"] == steps
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
        assert signal.getsignal(signal.SIGINT) is before

    def test_all_checkpoints_are_written_atomically(self, trainer, module, pictures, tmp_path):
        runner = trainer(1, callbacks(tmp_path, 5))
        runner.fit(module(), pictures())
        assert type(runner.strategy.checkpoint_io) is AtomicCheckpointIO

    def test_leftovers_of_a_killed_fit_and_older_checkpoints_of_slurm_are_removed(
        self, trainer, module, pictures, tmp_path
    ):
        for name in (".0123456789abcdef.0.tmp", "hpc_ckpt_1.ckpt", "own.tmp"):
            (tmp_path / name).write_bytes(b"half")
        LastCheckpoint(str(tmp_path)).setup(trainer(1, []), module(), "fit")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["hpc_ckpt_1.ckpt", "own.tmp"]
        trainer(2, callbacks(tmp_path, 1)).fit(module(), pictures())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "own.tmp"]

    def test_regular_saves_and_kept_copies(self, trainer, module, pictures, tmp_path):
        saved = []

        class Saves(L.Callback):
            def on_save_checkpoint(self, trainer, module, checkpoint):
                saved.append(trainer.global_step)

        keep = LastCheckpoint(str(tmp_path), 2, keep_every_n_steps=3)
        trainer(7, [Saves(), keep], accumulate_grad_batches=2).fit(module(), pictures())
        assert saved == [2, 3, 4, 6, 6, 7]
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "last.ckpt",
            "step_0000003.ckpt",
            "step_0000006.ckpt",
        ]
        assert read(tmp_path / "step_0000003.ckpt")["global_step"] == 3

    def test_a_kept_copy_does_not_stand_for_the_last_state(self, trainer, module, pictures, tmp_path):
        trainer(6, [LastCheckpoint(str(tmp_path), 4, keep_every_n_steps=3)]).fit(module(), pictures())
        assert read(tmp_path / "last.ckpt")["global_step"] == 6

    def test_a_finished_fit_goes_on_with_more_steps(self, trainer, module, pictures, tmp_path):
        constant = {"cosine_decay": False}
        trainer(5, callbacks(tmp_path / "a", 100)).fit(module(**constant), pictures())
        path = str(tmp_path / "a" / "last.ckpt")
        trainer(9, callbacks(tmp_path / "a", 100)).fit(
            module(1, **constant), pictures(), ckpt_path=path, weights_only=True
        )
        trainer(9, callbacks(tmp_path / "b", 100)).fit(module(**constant), pictures())
        found, expected = read(path), read(tmp_path / "b" / "last.ckpt")
        for name in STATE:
            assert equal(found[name], expected[name]), name

    def test_holds_no_metrics(self, trainer, module, pictures, tmp_path):
        trainer(4, callbacks(tmp_path, 100)).fit(module(), pictures())
        saved = read(tmp_path / "last.ckpt")
        assert all(name.startswith("net.") for name in saved["state_dict"])


@pytest.mark.parametrize("option", ["every_n_steps", "keep_every_n_steps"])
def test_wrong_arguments(option):
    with pytest.raises(ValueError, match=f"^LastCheckpoint.{option}: got 0; expected 1 or more"):
        LastCheckpoint("x", **{option: 0})
