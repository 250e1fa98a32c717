"""The Jinja2 environment of all HTML reports.

Templates (``*.html.j2``) are package data next to the module that renders them, and are named by their path inside
``ddpm_pairs``. Every value is escaped; only ``markupsafe.Markup`` is inserted as it is.
"""

import base64
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: object) -> str:
    """Render a whole page.

    Args:
        template: Path of the template inside ``ddpm_pairs``, such as ``study/report.html.j2``.
        **values: Variables of the template; a missing one is an error.

    Returns:
        The HTML document.
    """
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    """Create the environment, with autoescaping; undefined variables are errors."""
    made = Environment(
        loader=PackageLoader("ddpm_pairs", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    made.globals |= {"style": Markup(style), "script": Markup(script), "policy": _policy(script)}
    return made


def _policy(script: str) -> str:
    """Return a Content-Security-Policy that loads nothing from outside and runs only our script."""
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
