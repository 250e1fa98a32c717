"""Work in a forked child of this process, which has everything imported: without root's rights, or with little room."""

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import time
import traceback

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="gives up rights as Linux has them")


def in_child(work, seconds=60):
    """The exit status of a child that does the work: 0, or 1 after an error, whose traceback is printed."""
    return in_children([work], seconds)[0]


def in_children(works, seconds=60):
    """Exit statuses of children that do the works at the same time.

    When one has failed, the others are given a fifth of a second and then killed, as by a launcher of ranks. One that
    does not end prints where its threads are.
    """
    running, ended = {_fork(work, seconds): number for number, work in enumerate(works)}, {}
    end = time.monotonic() + seconds
    while running and time.monotonic() < end:
        for child in list(running):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                ended[running.pop(child)] = os.waitstatus_to_exitcode(status)
                if status:
                    end = min(end, time.monotonic() + 0.2)
        time.sleep(0.002)
    for child, number in running.items():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ended[number] = -signal.SIGKILL
    if running and not any(status > 0 for status in ended.values()):
        pytest.fail(f"the children did not end within {seconds} s")
    return [ended[number] for number in range(len(works))]


def _fork(work, seconds):
    child = os.fork()
    if child == 0:
        try:
            faulthandler.dump_traceback_later(0.9 * seconds, file=sys.__stderr__)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:  # even where there is no room for the traceback
            os._exit(1)
    return child


def give_up_rights():
    """Root, as many containers run tests, may write everywhere; without its capabilities it is an ordinary user."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0


def no_room_beyond(size):
    """Files of this process can hold so many bytes; writing more fails in the middle, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
