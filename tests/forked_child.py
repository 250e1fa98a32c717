"""Work in a forked child of this process, which has everything imported: without root's rights, or with little room."""

import ctypes
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
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:  # even where there is no room for the traceback
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"the child did not end within {seconds} s")
    return None


def give_up_rights():
    """Root, as many containers run tests, may write everywhere; without its capabilities it is an ordinary user."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0


def no_room_beyond(size):
    """Files of this process can hold so many bytes; writing more fails in the middle, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
