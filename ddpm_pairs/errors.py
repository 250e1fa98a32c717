"""Errors that a user can fix."""

import errno


class UserError(ValueError):
    """An error that a user can fix; the command line prints it as one line and exits with status 2.

    The message states what was given, what was expected, and what to do. Bugs in this package and errors in a user's
    own class have other types and keep their traceback.
    """


class OutputError(UserError):
    """A folder cannot be written, or another process is using it; the message says why."""


_NO_ROOM = "free some space, then rerun"
_NO_MEMORY = "use a smaller batch size, smaller images, or fewer --data.num_workers"
_ADVICE = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EROFS: "choose another folder",
    errno.EACCES: "check its permissions, or choose another folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOMEM: _NO_MEMORY,
    errno.EMFILE: "raise the limit of open files (`ulimit -n`), or use fewer --data.num_workers",
}


def limit_of_machine(error: BaseException) -> str | None:
    """Describe an error in one line if a limit of the machine caused it, whoever raised it; else return ``None``.

    Args:
        error: An error of the system (full disk, no permission, name too long, too many open files), or of memory.
    """
    if isinstance(error, OSError) and error.errno in _ADVICE:
        name = "" if error.filename is None else f"{_short(str(error.filename))}: "
        return f"{name}{error.strerror}; {_ADVICE[error.errno]}"
    # torch raises its own errors, of which only the text or the name tell what they are.
    text = str(error).split("\n")[0]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return f"out of memory{f' ({_short(text)})' if text else ''}; {_NO_MEMORY}"
    return None


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:80]}…{text[-40:]}"
