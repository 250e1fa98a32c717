"""Errors that a user can fix."""


class UserError(ValueError):
    """An error that a user can fix; the command line prints it as one line and exits with status 2.

    The message states what was given, what was expected, and what to do. Bugs in this package and errors in a user's
    own class have other types and keep their traceback.
    """


class OutputError(UserError):
    """A folder cannot be written, or another process is using it; the message says why."""
