"""The lock on a pairs folder, seen by other processes."""

import errno
import fcntl
import os
import shutil
import signal

import pytest
from forked_child import give_up_rights, in_child, linux_only

from ddpm_pairs import run_folder as lock_module
from ddpm_pairs.errors import OutputError
from ddpm_pairs.run_folder import FolderLock


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(lock_module, "PATIENCE", 0.1)


def is_locked(root):
    """Whether another process finds the folder locked."""

    def work():
        with pytest.raises(OutputError, match="another process is writing to"):
            FolderLock(root).acquire()

    return in_child(work) == 0


def test_one_process_at_a_time_and_nothing_remains(tmp_path):
    with FolderLock(tmp_path):
        assert is_locked(tmp_path)
        assert is_locked(tmp_path)  # who is refused takes nothing away
    assert list(tmp_path.iterdir()) == [] and not is_locked(tmp_path)
    lock = FolderLock(tmp_path)
    for _ in range(2):
        lock.acquire()
    for _ in range(2):
        lock.release()
    assert list(tmp_path.iterdir()) == [] and not is_locked(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_without_a_folder_there_is_nothing_to_lock(tmp_path, name):
    (tmp_path / "file").touch()
    with FolderLock(tmp_path / name):
        assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_lock_ends_with_its_process_and_not_with_its_workers(tmp_path):
    held, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        lock = FolderLock(tmp_path)
        lock.acquire()
        if os.fork() == 0:  # a loader worker that outlives its parent for a while
            os.write(held[1], b".")
            os.read(done[0], 1)
            os._exit(0)
        os.read(done[0], 1)
        os._exit(1)
    try:
        os.read(held[0], 1)
        assert is_locked(tmp_path)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert (tmp_path / ".lock").exists()
        with FolderLock(tmp_path):
            assert is_locked(tmp_path)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.write(done[1], b".")


def test_a_folder_that_is_moved_stays_locked(tmp_path):
    (tmp_path / "pairs").mkdir()
    with FolderLock(tmp_path / "pairs"):
        (tmp_path / "pairs").rename(tmp_path / "moved")
        assert is_locked(tmp_path / "moved")
        (tmp_path / "link").symlink_to(tmp_path / "moved")
        assert is_locked(tmp_path / "link")
        shutil.rmtree(tmp_path / "moved")  # unlocking does not stumble over it


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, answer):
    def refuse(descriptor, operation):
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=f"cannot be locked .{os.strerror(answer)}.: make sure that no other"):
        FolderLock(tmp_path).acquire()
    assert list(tmp_path.iterdir()) == []


@linux_only
def test_a_folder_without_the_right_to_write_is_refused(tmp_path):
    tmp_path.chmod(0o555)

    def work():
        give_up_rights()
        with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
            FolderLock(tmp_path).acquire()

    assert in_child(work) == 0


def test_the_lock_file_of_somebody_else_is_not_followed(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / ".lock").symlink_to(mine)
    with pytest.raises(OutputError, match="cannot be written"):
        FolderLock(tmp_path / "pairs").acquire()
    assert mine.read_text() == "mine"
