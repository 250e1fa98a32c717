"""Imports follow the flow of the data: LQ pictures, DDPM, pairs, restorer, metrics, reports."""

import ast
import sys
from pathlib import Path

import pytest

import ddpm_pairs

PACKAGE = Path(ddpm_pairs.__file__).parent
DOCTOR = (PACKAGE / "cli" / "doctor").glob("*.py")

FLOORS = [
    {"errors", "plain_text", "run", "stopping", "tensors"},
    {"differences"},
    {"bounded_yaml", "trust"},
    {"files", "shipped"},
    {"new_folder"},
    {"images"},
    {"run_folder"},
    {"pairset"},
    {"metrics"},
    {"layers", "training"},
    {"diffusion"},
    {"degradations"},
    {"data"},
    {"synthesis", "restoration"},
    {"faces"},
    {"callbacks"},
    {"reports"},
    {"bank", "pools", "study"},
    {"api", "export"},
    {"cli"},
    {"demo"},
]
"""The parts of the package from the ground up: each imports those below its own floor only."""

LIGHT = [
    "__init__.py",
    "__main__.py",
    "cli/__init__.py",
    "cli/main.py",
    "errors.py",
    "plain_text.py",
    "shipped.py",
    "stopping.py",
    "trust.py",
    *sorted(f"cli/doctor/{path.name}" for path in DOCTOR),
]
"""Modules that must be imported at once and where torch is broken."""


def imported_modules(source, module):
    """Absolute names of all that a source imports, inside functions too.

    Args:
        source: Python text.
        module: its own dotted name, such as ``ddpm_pairs.images.decode``, for relative imports.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def siblings(source, module):
    """The parts of the package, folders or top-level modules, that a source imports, without its own."""
    parts = [name.split(".") for name in imported_modules(source, module)]
    found = {part[1] for part in parts if part[0] == "ddpm_pairs" and len(part) > 1 and part[1] != "__version__"}
    return found - {module.split(".")[1]}


def modules_of(part):
    for path in sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield path, ".".join(parts)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import ddpm_pairs.images.decode", {"images"}),
        ("from ddpm_pairs import data, __version__", {"data"}),
        ("from ddpm_pairs.data import decode", {"data"}),
        ("from ..data.decode import read_size", {"data"}),
        ("from .. import data", {"data"}),
        ("def f():\n    from ddpm_pairs.data import decode", {"data"}),
        ("from . import writer", set()),
        ("from .writer import Writer", set()),
        ("import ddpm_pairs", set()),
        ("import data", set()),
    ],
)
def test_siblings_sees_every_form_of_import(line, found):
    assert siblings(line, "ddpm_pairs.synthesis.generator") == found


def parts_of_the_package():
    """Its folders of modules and its top-level modules, but the two that start it."""
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    return found - {"__init__", "__main__"}


def test_every_part_has_one_floor():
    assert sorted(part for floor in FLOORS for part in floor) == sorted(parts_of_the_package())


@pytest.mark.parametrize("part", sorted(set.union(*FLOORS)))
def test_a_part_imports_only_what_is_below_it(part):
    (floor,) = (number for number, parts in enumerate(FLOORS) if part in parts)
    below = set().union(*FLOORS[:floor])
    for path, module in modules_of(part):
        wrong = siblings(path.read_text(encoding="utf-8"), module) - below
        assert not wrong, f"{module} imports {sorted(wrong)}, allowed are {sorted(below)}"


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_only_the_standard_library_and_lazy_loader_when_imported(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    at_once = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    names = imported_modules(ast.unparse(at_once), "ddpm_pairs.of_any_name")
    parts = [name.split(".") for name in names]
    assert {part[0] for part in parts} <= {*sys.stdlib_module_names, "ddpm_pairs", "lazy_loader"}
    light = {"__version__", *(light.removesuffix(".py").split("/")[0] for light in LIGHT)}
    assert {part[1] for part in parts if part[0] == "ddpm_pairs"} <= light
