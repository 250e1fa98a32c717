"""Errors that a user can mend."""


class UserError(ValueError):
    """What a user can mend; the command line prints it as one line and exits with status 2.

    The message says what came, what was expected, and what to do. Errors in code, whether in this package or in a
    user's own class, have other types, and keep their traceback.
    """


class OutputError(UserError):
    """A folder cannot be written, or another process is using it; the message says why."""
