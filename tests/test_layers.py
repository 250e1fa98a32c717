"""Imports follow the flow of the data: LQ pictures, DDPM, pairs, restorer, metrics, reports."""

import ast
import sys
from pathlib import Path

import pytest

import ddpm_pairs

PACKAGE = Path(ddpm_pairs.__file__).parent
DOCTOR = (PACKAGE / "doctor").glob("*.py")

ALLOWED = {
    "data": set(),
    "degradations": set(),
    "diffusion": set(),
    "metrics": set(),
    "pairs": {"data", "degradations", "diffusion"},
    "restoration": {"data", "degradations"},
    # Callbacks look at training from outside and preview what pairs would come of it: they see all that lies below.
    "callbacks": {"pairs", "metrics", "data", "degradations", "diffusion"},
    # The preview and the t study make pairs of pictures as predict does: they find, decode and degrade them.
    "reports": {"pairs", "metrics", "data", "diffusion"},
    "doctor": set(),
    # Jobs serve the command line, whose type they name.
    "jobs": {"trainer_cli", "callbacks", "data", "diffusion", "pairs", "reports", "restoration"},
}
"""What each folder may import of its siblings, beside itself and COMMON."""

COMMON = {"devices", "files", "lpips_network", "optimizer", "pixels", "protocols", "seeding", "shipped", "weights"}
"""Top-level modules that stand below everything: all may import them, they import nothing of the package."""

LIGHT = ["__init__.py", "__main__.py", "cli.py", "shipped.py", *sorted(f"doctor/{path.name}" for path in DOCTOR)]
"""Modules that must be imported at once and where torch is broken."""


def imported_modules(source, module):
    """Absolute names of all that a source imports, inside functions too.

    Args:
        source: Python text.
        module: its own dotted name, such as ``ddpm_pairs.data.decode``, for relative imports.
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


def modules_of(folder):
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield path, ".".join(parts)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import ddpm_pairs.data.decode", {"data"}),
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
    assert siblings(line, "ddpm_pairs.pairs.generator") == found


def test_every_folder_with_modules_has_a_rule():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders <= set(ALLOWED)


@pytest.mark.parametrize("folder", ALLOWED)
def test_folder_imports_only_what_comes_before_it(folder):
    for path, module in modules_of(folder):
        wrong = siblings(path.read_text(encoding="utf-8"), module) - ALLOWED[folder] - COMMON
        assert not wrong, f"{module} imports {sorted(wrong)}, allowed are {sorted(ALLOWED[folder] | COMMON)}"


@pytest.mark.parametrize("name", sorted(COMMON))
def test_common_modules_import_nothing_of_the_package(name):
    assert siblings((PACKAGE / f"{name}.py").read_text(encoding="utf-8"), f"ddpm_pairs.{name}") == set()


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_only_the_standard_library_when_imported(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    at_once = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    names = imported_modules(ast.unparse(at_once), "ddpm_pairs.of_any_name")
    parts = [name.split(".") for name in names]
    assert {part[0] for part in parts} <= {*sys.stdlib_module_names, "ddpm_pairs"}
    light = {"__version__", *(light.removesuffix(".py").split("/")[0] for light in LIGHT)}
    assert {part[1] for part in parts if part[0] == "ddpm_pairs"} <= light
