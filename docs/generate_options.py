"""Generate the page of all options: ``python docs/generate_options.py`` prints it, and the site build includes it.

Everything is read from the configs, the signatures and docstrings of the classes in them, and the parsers of the verbs,
without importing torch.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
import yaml

from ddpm_pairs.cli.main import OWN_VERBS, _verb_parsers

UNNAMED = (
    "ddpm_pairs.callbacks.Realism",
    "ddpm_pairs.degradations.BSRGAN",
    "ddpm_pairs.degradations.BandGain",
    "ddpm_pairs.degradations.Bicubic",
    "ddpm_pairs.degradations.Classical",
    "ddpm_pairs.degradations.GaussianNoise",
    "ddpm_pairs.degradations.HQPreparation",
    "ddpm_pairs.degradations.ReDegNetChain",
    "ddpm_pairs.degradations.RealESRGAN",
)
"""Classes for users that are not in a shipped config."""

GROUPS = {
    "model": ("Modules", "--model."),
    "data": ("Data", "--data."),
    "callbacks": ("Callbacks", ""),
    "": ("Networks, losses, degradations, and operations", ""),
}
"""Title and option prefix of the classes at each place of a config."""


def options_page(root: Path) -> str:
    """Return the page in Markdown.

    Args:
        root: Root of the repository.
    """
    folder = root / "configs"
    texts = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(folder.rglob("*.yaml"))}
    documents = {name: yaml.safe_load(text) for name, text in texts.items()}
    parts = ["## Configs\n", *(_config(name, text) for name, text in texts.items())]
    used = [(place, cls, name, values) for name, one in documents.items() for place, cls, values in _classes(one)]
    groups: dict[str, dict[str, dict[str, dict[str, Any]]]] = {group: {} for group in GROUPS}
    for place, cls, name, values in used:
        groups[place].setdefault(cls, {})[name] = values
    for cls in UNNAMED:
        group = {"data": "data", "callbacks": "callbacks"}.get(cls.split(".")[1], "")
        groups[group].setdefault(cls, {})
    for group, (title, prefix) in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_class(cls, prefix, values) for cls, values in sorted(groups[group].items())]
    parts.append("## Verbs without a config\n")
    for verb, parser in _verb_parsers().items():
        assert verb in OWN_VERBS
        parts.append(f"### {verb} {{ #verb-{verb} }}\n\n```text\n{parser.format_help().strip()}\n```\n")
    return "\n".join(parts)


def _config(name: str, text: str) -> str:
    lines = text.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    said = [line.removeprefix("#").removeprefix(" ") for line in lines[:end]]
    shown = "".join(f"\n```bash\n{line.strip()}\n```\n\n" if line.startswith("  ") else f"{line}\n" for line in said)
    body = "\n".join(f"    {line}" for line in ("```yaml", *lines[end:], "```"))
    return f'### {name} {{ #{_anchor(name)} }}\n\n{shown}\n??? note "{name}"\n\n{body}\n'


def _classes(document: Any, place: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:  # noqa: ANN401
    """Yield place, class path, and arguments of every class of this package in a config."""
    if isinstance(document, list):
        for one in document:
            yield from _classes(one, place if place == "callbacks" else "")
    elif isinstance(document, dict):
        if str(document.get("class_path", "")).startswith("ddpm_pairs."):
            yield place, document["class_path"], document.get("init_args", {})
        for key, value in document.items():
            yield from _classes(value, key if key in GROUPS else "")


def _class(path: str, prefix: str, values: dict[str, dict[str, Any]]) -> str:
    """Return the section of a class: its purpose and a table of its arguments."""
    found = _load(path)
    docstring = found.docstring.parse("google") if found.docstring else []
    purpose = next((part.value for part in docstring if part.kind.value == "text"), "")
    described = [one for part in docstring if part.kind.value == "parameters" for one in part.value]
    meanings = {one.name: " ".join(one.description.split()).replace("|", "\\|") for one in described}
    rows = ["| option | type, default | meaning | set by |", "| --- | --- | --- | --- |"]
    for one in found.parameters:
        if one.name != "self" and one.kind is not griffe.ParameterKind.var_keyword:
            default = "required" if one.default is None else _code(one.default)
            kind = _code(str(one.annotation or "").replace(" | ", " or "))
            typed = ", ".join(filter(None, (kind, default)))
            rows.append(f"| `{one.name}` | {typed} | {meanings.get(one.name, '')} | {_setters(one.name, values)} |")
    table = "\n".join(rows) if len(rows) > 2 else "No options."
    name, typed = path.rpartition(".")[2], f", its options as `{prefix}OPTION`" if prefix else ""
    return f"### {name} {{ #class-{name.lower()} }}\n\n`{path}`{typed}\n\n{purpose}\n\n{table}\n"


def _setters(option: str, values: dict[str, dict[str, Any]]) -> str:
    """Return the configs that set an option, with its value if it is short."""
    words = []
    for config, given in values.items():
        if option in given:
            value = f"{_code(given[option])} in " if not isinstance(given[option], dict | list) else ""
            words.append(f"{value}[{config}](#{_anchor(config)})")
    return "; ".join(words)


def _load(path: str) -> griffe.Class:
    found = _package()[path.removeprefix("ddpm_pairs.")]
    return found.final_target if found.is_alias else found


@cache
def _package() -> griffe.Module:
    return griffe.load("ddpm_pairs", resolve_aliases=True)


def _code(value: Any) -> str:  # noqa: ANN401 - any value in a config
    text = re.sub(r"\s+", " ", str(value))
    return f"`{text}`" if text else ""


def _anchor(name: str) -> str:
    return "config-" + re.sub(r"\W+", "-", name.removesuffix(".yaml"))


if __name__ == "__main__":
    print(options_page(Path(__file__).resolve().parents[1]))
