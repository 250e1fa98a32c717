"""Print names and reasons of unknown origin."""

import re

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Escape what could control a terminal or turn the direction of a line, and lone surrogates.

    Args:
        text: Any text; its line breaks and tabs are kept.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def print_plain(text: str) -> None:
    """Print ``printable`` text as it is: without markup, colors, or wrapping."""
    print(printable(text))
