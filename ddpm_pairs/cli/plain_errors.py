"""Reduce the errors of jsonargparse to one plain line."""

import difflib
import importlib
import inspect
import re
from itertools import takewhile

# jsonargparse nests its texts: one key of the option per level, then what is wrong with its value.
_KEY = re.compile(r'Parser key "([\w.]+)":')
_NO_OPTION = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: --?([\w.+-]+)"
)
_NO_WORD = re.compile(r"unrecognized arguments: (\S+)")
_MISSING = re.compile(r"the following arguments are required: ([\w., ]+)")
_CLASS = re.compile(r"given class_path '([^']+)':")
# The text about a class that can be imported starts with the same words; what is wrong with its arguments follows.
_NO_CLASS = re.compile(r"given class_path '([^']+)':\s*((?:No module|module|cannot import|Not a|Import)[^\n]*)")
_NO_PATH = re.compile(r"Expected a dot import path string: (\S+)")
_WORD = re.compile(r"[\w.-]{1,80}")
_NO_PROTOCOL = re.compile(r"Import path (\S+) does not implement protocol (\w+)")
_EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: .*)?$", re.MULTILINE)
_GOT = re.compile(r"(?:Got|Given) value: (.*)")


def plain_error(error: Exception, verb: str) -> str:
    """Describe in one line what is wrong with a command line or a config.

    Args:
        error: What jsonargparse raised; notes on it or on its causes name the file.
        verb: The verb of the command line, to point to its help.
    """
    chain, text = causes(error), str(error)
    line = _unknown_option(text, verb) or _missing_option(text, verb) or _unknown_class(text)
    if line is None and text and _EXPECTED.match(str(chain[-1])):
        line = _wrong_value(text)
    notes = [note for one in chain[:-1] for note in getattr(one, "__notes__", [])]
    if line is None:
        return " ".join([one_line(chain[-1]), *notes])
    return " ".join([line, *notes, *getattr(chain[-1], "__notes__", [])])


def _option(before: str, *names: str) -> str:
    """Return an option such as ``--model.net.channels``: the keys in the text before the error, then ``names``."""
    return "--" + ".".join([*_KEY.findall(before), *names])


def _unknown_option(text: str, verb: str) -> str | None:
    found = _NO_OPTION.search(text)
    if found is None:
        word = _NO_WORD.search(text)
        return word and f"unexpected argument {word[1]!r}; see 'ddpm-pairs {verb} --help'"
    name, before = found[1] or found[2] or found[3], text[: found.start()]
    known: list[str] = []
    if paths := _CLASS.findall(before):  # an option of a class: suggest a similar one of the same class
        module, _, kind = paths[-1].rpartition(".")
        known = list(inspect.signature(getattr(importlib.import_module(module), kind)).parameters)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {_option(before, near[0])}?" if near else f"see 'ddpm-pairs {verb} --help'"
    return f"unknown option {_option(before, name)}; {hint}"


def _missing_option(text: str, verb: str) -> str | None:
    found = _MISSING.search(text)
    if found is None:
        return None
    names = [name.strip().removeprefix(f"{verb}.") for name in found[1].split(",")]
    options = " and ".join(_option(text[: found.start()], name) for name in names)
    return f"{options} must be set on the command line or in a --config"


def _unknown_class(text: str) -> str | None:
    if found := _NO_CLASS.search(text):
        line = f"cannot import class {found[1]} ({found[2].strip()})"
    elif found := _NO_PROTOCOL.search(text):
        line = f"class {found[1]} does not implement {found[2]} (missing or incompatible methods)"
    elif found := _NO_PATH.search(text):
        got = found[1] if _WORD.fullmatch(found[1]) else "a text"  # perhaps of a file that was read as a list
        line = f"got {got}; expected a class path such as package.module.Class"
    return f"{_option(text[: found.start()])}: {line}" if found else None


def _wrong_value(text: str) -> str:
    *_, key = _KEY.finditer(text)
    depth = key.start() - text.rfind("\n", 0, key.start())
    first, *rest = text[key.end() :].splitlines()
    # Only the text indented below the last key; the rest is about the types that contain it.
    block = "\n".join([first, *takewhile(lambda line: line[:depth].isspace(), rest)])
    expected = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", one) for one in _EXPECTED.findall(block)]
    expected = [re.sub(r"typing\.Literal\[(.*)\]", lambda found: found[1].replace("'", ""), one) for one in expected]
    kinds = dict.fromkeys("null" if one == "NoneType" else one for one in expected)
    got = _GOT.search(block)
    return f"{_option(text)}: {f'got {got[1].strip()}' if got else 'wrong value'}; expected {' or '.join(kinds)}"


def causes(error: BaseException) -> list[BaseException]:
    """Return the error, its cause, and so on back to the original exception."""
    return [error, *([] if error.__cause__ is None else causes(error.__cause__))]


def one_line(error: BaseException) -> str:
    """Return the text of an error and its notes in one line."""
    return " ".join([*str(error).split(), *getattr(error, "__notes__", [])]) or type(error).__name__
