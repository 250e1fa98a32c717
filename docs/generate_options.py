"""The page of all options: ``python docs/generate_options.py`` prints it; the site's build fills it in.

Everything is read from the configs, the signatures and docstrings of the classes that they name, and the parsers of
the verbs, without importing torch.
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
    "ddpm_pairs.data.DegradedImages",
    "ddpm_pairs.callbacks.Realism",
    "ddpm_pairs.degradations.BSRGAN",
    "ddpm_pairs.degradations.BandGain",
    "ddpm_pairs.degradations.Bicubic",
    "ddpm_pairs.degradations.Classical",
    "ddpm_pairs.degradations.HQPreparation",
    "ddpm_pairs.degradations.RealESRGAN",
)
"""Classes that users name although no shipped config does."""

GROUPS = {
    "model": ("Modules", "--model."),
    "data": ("Data", "--data."),
    "callbacks": ("Callbacks", ""),
    "": ("Networks, losses, degradations, and operations", ""),
}
"""Title and option prefix of the classes that stand at each place of a config."""


def options_page(root: Path) -> str:
    """The page in Markdown.

    Args:
        root: The repository.
    """
    configs = {
        path.relative_to(root / "configs").as_posix(): path for path in sorted((root / "configs").rglob("*.yaml"))
    }
    documents = {name: yaml.safe_load(path.read_text("utf-8")) for name, path in configs.items()}
    parts = ["## Configs\n"]
    parts += [_config(name, path.read_text("utf-8")) for name, path in configs.items()]
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
    """Place, class path and arguments of every class of ours in a config."""
    if isinstance(document, list):
        for one in document:
            yield from _classes(one, place if place == "callbacks" else "")
    elif isinstance(document, dict):
        if str(document.get("class_path", "")).startswith("ddpm_pairs."):
            yield place, document["class_path"], document.get("init_args", {})
        for key, value in document.items():
            yield from _classes(value, key if key in GROUPS else "")


def _class(path: str, prefix: str, values: dict[str, dict[str, Any]]) -> str:
    found = _load(path)
    docstring = found.docstring.parse("google") if found.docstring else []
    purpose = next((part.value for part in docstring if part.kind.value == "text"), "")
    meanings = {
        one.name: one.description for part in docstring if part.kind.value == "parameters" for one in part.value
    }
    rows = ["| option | type, default | meaning | set by |", "| --- | --- | --- | --- |"]
    for one in found.parameters:
        if one.name == "self" or one.kind is griffe.ParameterKind.var_keyword:
            continue
        setters = [
            f"{_code(given[one.name])} in [{config}](#{_anchor(config)})"
            for config, given in values.items()
            if one.name in given and not isinstance(given[one.name], dict | list)
        ]
        setters += [f"[{config}](#{_anchor(config)})" for config, given in values.items()
                    if isinstance(given.get(one.name), dict | list)]  # fmt: skip
        default = "required" if one.default is None else _code(one.default)
        kind = _code(str(one.annotation or "").replace(" | ", " or "))
        meaning = " ".join(meanings.get(one.name, "").split()).replace("|", "\\|")
        rows.append(f"| `{one.name}` | {', '.join(filter(None, (kind, default)))} | {meaning} | {'; '.join(setters)} |")
    table = "\n".join(rows) if len(rows) > 2 else "No options."
    name, typed = path.rpartition(".")[2], f", its options as `{prefix}OPTION`" if prefix else ""
    return f"### {name} {{ #class-{name.lower()} }}\n\n`{path}`{typed}\n\n{purpose}\n\n{table}\n"


def _load(path: str) -> griffe.Class:
    found = _package()[path.removeprefix("ddpm_pairs.")]
    return found.final_target if found.is_alias else found


@cache
def _package() -> griffe.Module:
    return griffe.load("ddpm_pairs", resolve_aliases=True)


def _code(value: Any) -> str:  # noqa: ANN401 - whatever a config holds
    text = re.sub(r"\s+", " ", str(value))
    return f"`{text}`" if text else ""


def _anchor(name: str) -> str:
    return "config-" + re.sub(r"\W+", "-", name.removesuffix(".yaml"))


if __name__ == "__main__":
    print(options_page(Path(__file__).resolve().parents[1]))
