"""One plain line out of what jsonargparse and a class's own checks have to say about a command line."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator

_KEY = re.compile(r'Parser key "([\w.]+)":')
_NO_OPTION = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: --?([\w.+-]+)"
)
_NO_WORD = re.compile(r"unrecognized arguments: (\S+)")
_MISSING = re.compile(r"the following arguments are required: ([\w., ]+)")
_CLASS = re.compile(r"given class_path '([^']+)':")
# A class that can be imported is named in the same words, with what is wrong with its arguments behind.
_NO_CLASS = re.compile(r"given class_path '([^']+)':\s*((?:No module|module|cannot import|Not a|Import)[^\n]*)")
_NO_PATH = re.compile(r"Expected a dot import path string: (\S+)")
_NO_PROTOCOL = re.compile(r"Import path (\S+) does not implement protocol (\w+)")
_EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: .*)?$", re.MULTILINE)
_GOT = re.compile(r"(?:Got|Given) value: (.*)")


def plain_error(error: BaseException, verb: str) -> str:
    """Say in one line what is wrong with a command line or a config.

    Args:
        error: What parsing or building the classes raised; notes on it or on its causes say in which file.
        verb: The verb of the command line, for the hint at its help.
    """
    chain = list(_chain(error))
    text = str(error)
    line = _unknown_option(text, verb) or _missing_option(text, verb) or _unknown_class(text)
    if line is None and text and _EXPECTED.match(str(chain[-1])):
        line = _wrong_value(text)
    where = [note for one in chain for note in getattr(one, "__notes__", [])]
    return " ".join([line or " ".join(str(chain[-1]).split()) or type(chain[-1]).__name__, *where])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, and so on to what was raised first."""
    while error is not None:
        yield error
        error = error.__cause__


def _option(before: str, *names: str) -> str:
    """``--model.net.channels``: the keys in the text before the fault, then ``names``."""
    return "--" + ".".join([*_KEY.findall(before), *names])


def _unknown_option(text: str, verb: str) -> str | None:
    found = _NO_OPTION.search(text)
    if found is None:
        word = _NO_WORD.search(text)
        return word and f"{word[1]!r} stands where an option is expected: see 'ddpm-pairs {verb} --help'"
    name, before = found[1] or found[2] or found[3], text[: found.start()]
    near = difflib.get_close_matches(name, _parameters(before), 1)
    hint = f"did you mean {_option(before, near[0])}?" if near else f"see 'ddpm-pairs {verb} --help'"
    return f"there is no option {_option(before, name)}: {hint}"


def _parameters(before: str) -> list[str]:
    """Arguments of the class whose option the text is about, if it is about one."""
    paths = _CLASS.findall(before)
    if not paths:
        return []
    module, _, name = paths[-1].rpartition(".")
    return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)


def _missing_option(text: str, verb: str) -> str | None:
    found = _MISSING.search(text)
    if found is None:
        return None
    names = [name.strip().removeprefix(f"{verb}.") for name in found[1].split(",")]
    options = " and ".join(_option(text[: found.start()], name) for name in names)
    return f"{options} must be given, on the command line or in a --config"


def _unknown_class(text: str) -> str | None:
    if found := _NO_CLASS.search(text):
        return f"{_option(text[: found.start()])}: class {found[1]} cannot be had ({found[2].strip()})"
    if found := _NO_PROTOCOL.search(text):
        return (
            f"{_option(text[: found.start()])}: class {found[1]} has not the methods of {found[2]}, or other arguments"
        )
    if found := _NO_PATH.search(text):
        return f"{_option(text[: found.start()])}: there is no class {found[1]}: expected package.module.Class"
    return None


def _wrong_value(text: str) -> str:
    block = _innermost(text)
    expected = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", one) for one in _EXPECTED.findall(block)]
    expected = [re.sub(r"typing\.Literal\[(.*)\]", lambda found: found[1].replace("'", ""), one) for one in expected]
    kinds = dict.fromkeys("null" if one == "NoneType" else one for one in expected)
    got = _GOT.search(block)
    return f"{_option(text)} is {got[1].strip() if got else 'wrong'}: expected {' or '.join(kinds)}"


def _innermost(text: str) -> str:
    """What stands below the last key, by indentation; the rest belongs to the types that hold it."""
    lines = text.splitlines()
    last = max((number for number, line in enumerate(lines) if _KEY.search(line)), default=0)
    depth = len(lines[last]) - len(lines[last].lstrip())
    block = [lines[last]]
    for line in lines[last + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= depth:
            break
        block.append(line)
    return "\n".join(block)
