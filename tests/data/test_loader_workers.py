import os
import signal
import time
from pathlib import Path

import pytest
import torch
from forked_child import in_child
from PIL import Image
from torch.utils.data import Dataset

from ddpm_pairs.data import HighQualityImages


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
