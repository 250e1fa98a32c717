"""Publishing in the background."""

import json
import multiprocessing
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor

import pytest
from killed_publisher import kill_at_every_step, pair_of

from ddpm_pairs.errors import OutputError
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.verify import verify
from ddpm_pairs.synthesis.writer import Publisher


def keys_of(root, name="manifest.rank0.jsonl"):
    return [json.loads(line)["key"] for line in (root / name).read_text().splitlines()]


class Gate(PairsFolder):
    """Writes the files of a pair only after it is released."""

    def __init__(self, root):
        super().__init__(root)
        self.open = threading.Event()
        self.at_gate = threading.Semaphore(0)

    def store(self, hq, lq, record):
        self.at_gate.release()
        assert self.open.wait(30)
        return super().store(hq, lq, record)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("publisher")]


def test_lines_stand_in_the_order_of_submission(tmp_path):
    publisher, keys = Publisher(PairsFolder(tmp_path), 4, 8), [f"{n:02}" for n in range(20)]
    for number, key in enumerate(keys):
        publisher.submit(
            pair_of(key, 8 if number % 4 else 600)
        )  # every fourth pair takes much longer than the following ones
    publisher.close()
    assert keys_of(tmp_path) == keys and publisher.waiting == 0 and threads() == []
    PairsFolder(tmp_path).join([])
    assert [damage.kind for damage in verify(tmp_path).damages] == ["run.yaml"]  # the files of all 20 pairs are intact


def test_a_line_is_there_as_soon_as_its_files_are(tmp_path):
    publisher = Publisher(PairsFolder(tmp_path), 1, 8)
    publisher.submit(pair_of("a"))
    publisher.drain()
    assert keys_of(tmp_path) == ["a"]
    publisher.submit(pair_of("b"))
    publisher.close()
    assert keys_of(tmp_path) == ["a", "b"]


def test_who_submits_too_much_waits(tmp_path):
    folder = Gate(tmp_path)
    publisher = Publisher(folder, 2, 3)
    for key in "abc":
        publisher.submit(pair_of(key))
    for _ in range(2):  # one per thread
        assert folder.at_gate.acquire(timeout=30)
    assert publisher.waiting == 3
    fourth = threading.Thread(target=lambda: publisher.submit(pair_of("d")))
    fourth.start()
    fourth.join(0.2)
    assert fourth.is_alive() and publisher.waiting == 3
    folder.open.set()
    fourth.join(30)
    assert not fourth.is_alive()
    publisher.close()
    assert keys_of(tmp_path) == list("abcd")


def test_published_pairs_do_not_stay_in_memory(tmp_path):
    publisher, alive = Publisher(PairsFolder(tmp_path), 2, 2), []
    for number in range(12):
        pair = pair_of(str(number))
        alive.append(weakref.ref(pair))
        publisher.submit(pair)
        del pair
        # the pairs in progress, and those that the two threads may be about to release
        assert sum(one() is not None for one in alive) <= 4
    publisher.close()
    assert not any(one() for one in alive)


def test_an_error_comes_to_the_caller_and_no_line_follows(tmp_path):
    (tmp_path / "lq" / "c.png").mkdir(parents=True)
    publisher = Publisher(PairsFolder(tmp_path), 2, 4)
    with pytest.raises(OutputError, match=r"lq/c.png cannot be written \(Is a directory\)"):
        for key in "abcdefghijkl":
            publisher.submit(pair_of(key))
        publisher.drain()
    with pytest.raises(OutputError, match="lq/c.png"):
        publisher.close()
    assert keys_of(tmp_path) == ["a", "b"] and threads() == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_after_a_line_that_could_not_be_written_none_follows(tmp_path):
    """The last line may be truncated, as on a full disk, so a line appended to it would be lost, too."""
    blocked = tmp_path / "manifest.rank0.jsonl"
    blocked.mkdir()
    publisher = Publisher(PairsFolder(tmp_path), 1, 9)
    publisher.submit(pair_of("a"))
    with pytest.raises(OutputError, match="manifest.rank0.jsonl cannot be written"):
        publisher.drain()
    blocked.rmdir()
    for wait in (lambda: publisher.submit(pair_of("b")), publisher.close):
        with pytest.raises(OutputError, match="manifest.rank0.jsonl cannot be written"):
            wait()
    assert not blocked.exists() and threads() == []


def apart(function, *arguments):
    """Call a function in a new process, which has no threads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


# For each pair: two files are opened, half written, and moved; a line is begun and half written.
STEPS_OF_A_PAIR = 2 * 3 + 2


@pytest.mark.slow
def test_killed_at_every_step(tmp_path):
    killed, there = apart(kill_at_every_step, ["a", "b", "sub/c"], 1, tmp_path)
    assert killed >= 3 * STEPS_OF_A_PAIR and there >= {"a", "b"}


@pytest.mark.slow
def test_one_of_two_ranks_killed_at_every_step(tmp_path):
    killed, there = apart(kill_at_every_step, ["a", "b", "sub/c", "d"], 2, tmp_path)
    assert killed >= 2 * STEPS_OF_A_PAIR and there >= {"a", "b", "d"}
