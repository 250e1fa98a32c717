"""Which classes a file may name.

Checkpoints name the class of their network, and the ``run.yaml`` of a pairs folder that of its degradation. Importing
and building a class runs its code, and some classes load pickles. Therefore only classes of this package are built from
a file, unless the user trusts others with ``trust_classes`` or ``--trust_classes``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ddpm_pairs.errors import UserError

OWN = "ddpm_pairs"
OPTION = "--trust_classes"
HELP = (
    "classes of your own that a checkpoint or run.yaml may name, such as my_module or my_module.Net, separated by "
    "commas; building them runs their code (default: none)"
)

_trusted: set[str] = set()
_file: ContextVar[str | None] = ContextVar("file", default=None)


def trust_classes(*names: str | type) -> None:
    """Allow files to name classes of your own, for the rest of the process.

    Building a class runs its code with the arguments in the file, so trust only modules that you wrote or have read.

    Args:
        names: Classes, their paths (``my_networks.Net``), or modules and packages (``my_networks``), which include
            everything inside them.
    """
    _trusted.update(name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}" for name in names)


def trust_words(words: str | None) -> None:
    """Apply ``--trust_classes``: names as in ``trust_classes``, separated by commas."""
    trust_classes(*(word.strip() for word in (words or "").split(",") if word.strip()))


def check_trusted(class_path: str, file: str) -> None:
    """Check that a file may name a class; call this before importing it.

    Args:
        class_path: The class that the file names.
        file: The file, for the message.

    Raises:
        UserError: If the user does not trust the class.
    """
    parts = class_path.split(".")
    if not any(".".join(parts[:length]) in _trusted for length in range(1, len(parts) + 1)):
        raise UserError(
            f"{file} names the class {class_path}, which is not part of ddpm_pairs; building it runs its code; if you "
            f"trust it, add {OPTION} {class_path} (in Python: ddpm_pairs.trust_classes({class_path!r}))"
        )


@contextmanager
def classes_named_by(file: str) -> Iterator[None]:
    """Inside the block, degradations are described by a file, and only trusted classes are built.

    Args:
        file: The file, for messages; inside another such block, that of the outer one is kept.
    """
    token = _file.set(_file.get() or file)
    try:
        yield
    finally:
        _file.reset(token)


def naming_file() -> str | None:
    """Return the file that names the classes that are being built; ``None`` if the user named them."""
    return _file.get()
