import os
import signal
import socket
import sys
import time
from multiprocessing import resource_sharer
from pathlib import Path

import pytest
import torch
from forked_child import in_child
from PIL import Image
from torch.utils.data import Dataset

from ddpm_pairs.data import HighQualityImages, workers
from ddpm_pairs.data.workers import RESERVE, begin_worker
from ddpm_pairs.stopping import held_back


class Much(Dataset):
    """Items that no pipe holds at once."""

    def __len__(self):
        return 100

    def __getitem__(self, i):
        return bytes(10**6)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_workers_end_when_their_process_is_killed(tmp_path):
    """While they send what nobody receives any more."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    data = HighQualityImages(str(tmp_path), num_workers=2)

    def work():
        torch.set_num_threads(1)
        batches = iter(data._loader(Much(), range(100), batch_size=None))
        (tmp_path / "workers").write_text(" ".join(str(worker.pid) for worker in batches._workers))
        next(batches)
        time.sleep(0.5)  # what was asked for ahead is being sent
        os._exit(9)

    assert in_child(work) == 9
    workers = [int(number) for number in (tmp_path / "workers").read_text().split()]
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    left = [worker for worker in workers if alive(worker)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert len(workers) == 2 and not left


class Tensors(Dataset):
    """Tensors of several types, one of them not contiguous."""

    ITEMS = (
        torch.arange(24, dtype=torch.uint8).view(2, 3, 4),
        torch.linspace(0, 1, 7),
        torch.linspace(-1, 1, 6, dtype=torch.bfloat16).view(2, 3).T,
        torch.tensor(2.5),
        torch.empty(0, 3),
    )

    def __len__(self):
        return len(self.ITEMS)

    def __getitem__(self, i):
        return {"one": self.ITEMS[i], "others": [self.ITEMS[0]]}


@pytest.mark.parametrize("free", [0, RESERVE + 1000, 10**12])
def test_batches_arrive_with_little_shared_memory_too(tmp_path, monkeypatch, free, capfd):
    monkeypatch.setattr(workers, "_free", lambda: free)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    data = HighQualityImages(str(tmp_path), num_workers=1)
    for _ in range(2):
        batches = list(data._loader(Tensors(), range(5), batch_size=None))
        for found, expected in zip(batches, Tensors.ITEMS, strict=True):
            assert torch.equal(found["one"], expected) and found["one"].dtype == expected.dtype
            assert torch.equal(found["others"][0], Tensors.ITEMS[0])
            assert found["others"][0].is_shared() == (free >= RESERVE + 24)
    said = capfd.readouterr().err
    assert said.count("/dev/shm has 0 MB free") == (free == 0), said


class Unsendable(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, i):
        return lambda: None


def test_a_batch_that_cannot_be_sent_is_an_error_and_no_endless_wait(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    data = HighQualityImages(str(tmp_path), num_workers=1)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(data._loader(Unsendable(), range(1), batch_size=None))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_worker_leaves_signals_of_others_to_its_parent(tmp_path, number):
    """As those to a process group, by a terminal or ``timeout``: the parent still gets the batches it needs to stop."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    data = HighQualityImages(str(tmp_path), num_workers=1)
    batches = iter(data._loader(Tensors(), range(5), batch_size=None))
    next(batches)
    (worker,) = batches._workers

    def other_process():
        os.kill(worker.pid, number)
        return 0

    assert in_child(other_process) == 0
    assert len(list(batches)) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_not_end_a_worker_that_has_just_been_started(tmp_path, monkeypatch, number):
    """Before it has its own handlers, it has those of its parent, which raise an exception."""

    def late(worker):
        os.kill(os.getpid(), number)
        begin_worker(worker)

    def stop(number, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr("ddpm_pairs.data.base.begin_worker", late)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    data = HighQualityImages(str(tmp_path), num_workers=1)
    before = signal.signal(number, stop)
    try:
        assert len(list(data._loader(Tensors(), range(5), batch_size=None))) == 5
    finally:
        signal.signal(number, before)


def test_signals_to_the_parent_are_held_back_only_while_workers_start():
    """In a child, which has one thread; the mask of one thread does not count for the others."""

    def work():
        seen = []
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(seen) == 2

    assert in_child(work) == 0


def test_a_worker_says_nothing_if_its_parent_leaves_in_the_middle_of_receiving(tmp_path):
    """One that shares a batch by its file descriptor; other errors of such threads are still printed."""
    ours, its = torch.multiprocessing.get_context("fork").Pipe()

    def share():
        with (tmp_path / "said").open("w") as said:
            os.dup2(said.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        begin_worker(0)
        shared = resource_sharer.DupFd(its.fileno())
        its.send(shared)
        its.recv()
        sys.excepthook(*[ValueError, ValueError("another error"), None])

    worker = torch.multiprocessing.get_context("fork").Process(target=share)
    worker.start()
    shared = ours.recv()
    with socket.socket(socket.AF_UNIX) as leaving:
        leaving.connect(shared._id[0])
        leaving.recv(1)  # and no more of the challenge
    os.close(shared.detach())  # the thread is ready for others
    ours.send("end")
    worker.join(60)
    assert worker.exitcode == 0 and (tmp_path / "said").read_text() == "ValueError: another error\n"


def test_a_worker_that_is_stuck_ends_some_time_after_it_was_asked_to(monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.1)
    begun = torch.multiprocessing.get_context("fork").Event()

    def stuck():
        begin_worker(0)
        begun.set()
        time.sleep(60)

    worker = torch.multiprocessing.get_context("fork").Process(target=stuck)
    worker.start()
    assert begun.wait(20)
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 1
