"""Errors that a user can mend."""


class UserError(ValueError):
    """What a user can mend: the command line prints it as one line and exits with status 2.

    The message says what came, what was expected, and what to do. Any other exception is a bug and keeps its traceback.
    """


class OutputError(UserError):
    """A folder cannot be written to, or is in use; the text says why, in one line."""
