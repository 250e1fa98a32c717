"""Checkpoints are written next to their place, whole or not at all."""

import lightning as L
import pytest
import torch
from forked_child import in_child, no_room_beyond
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from ddpm_pairs.errors import OutputError
from ddpm_pairs.training.checkpoint_io import AtomicCheckpointIO, save_atomically

STATE = {"weights": torch.arange(100_000.0), "step": 7}


def read(path):
    return torch.load(path, weights_only=True)


def test_a_checkpoint_and_its_folder_are_written(tmp_path):
    AtomicCheckpointIO().save_checkpoint(STATE, tmp_path / "new" / "last.ckpt")
    found = AtomicCheckpointIO().load_checkpoint(tmp_path / "new" / "last.ckpt", weights_only=True)
    assert torch.equal(found["weights"], STATE["weights"]) and found["step"] == 7
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.ckpt"]


def test_nothing_is_written_in_the_folder_of_temporary_files(tmp_path, monkeypatch):
    """It may be another disk, and smaller."""
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    AtomicCheckpointIO().save_checkpoint(STATE, str(tmp_path / "run" / "last.ckpt"))
    assert read(tmp_path / "run" / "last.ckpt")["step"] == 7


@pytest.mark.parametrize("room", [0, 1000, 300_000])
def test_a_full_disk_is_one_sentence_and_the_earlier_file_stays(tmp_path, room):
    path = tmp_path / "last.ckpt"
    save_atomically({"step": 1}, path)
    before = path.read_bytes()

    def work():
        no_room_beyond(room)
        with pytest.raises(OutputError, match=r"last.ckpt cannot be written \(File too large\): ") as caught:
            save_atomically(STATE, path)
        assert "\n" not in str(caught.value)

    assert in_child(work) == 0
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path, monkeypatch):
    path, seen = tmp_path / "last.ckpt", []
    save_atomically({"step": 1}, path)

    def half(content, file):
        file.write(b"half")
        file.flush()
        seen.append(read(path)["step"])
        raise RuntimeError("a bug in a class that is saved")

    monkeypatch.setattr("ddpm_pairs.training.checkpoint_io.torch.save", half)
    with pytest.raises(RuntimeError, match="a bug in a class that is saved"):
        save_atomically(STATE, path)
    assert seen == [1] and read(path)["step"] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


class Own(TorchCheckpointIO):
    pass


@pytest.mark.parametrize("plugin", [None, Own(), AsyncCheckpointIO()])
def test_a_plugin_of_the_user_stays(plugin):
    trainer = L.Trainer(accelerator="cpu", logger=False, plugins=[] if plugin is None else [plugin])
    AtomicCheckpointIO.install(trainer.strategy)
    assert type(trainer.strategy.checkpoint_io) is (AtomicCheckpointIO if plugin is None else type(plugin))
