"""Matplotlib figures as SVG inside a page: in the page's fonts and colors, light and dark, with unique ids."""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

PALETTE = {
    "card": "#ffffff",
    "ink": "#1c2126",
    "faint": "#586270",
    "line": "#dde2e7",
    "accent": "#0b5cad",
    "c0": "#0b62b8",
    "c1": "#b4530a",
    "c2": "#0d7a5f",
    "c3": "#9b2c8d",
    "c4": "#6a5a00",
    "c5": "#b3263d",
}
"""Colors to draw with, those of the light scheme in ``page.css``; on a page they become its variables for dark mode."""

_LINK = "{http://www.w3.org/1999/xlink}href"


def inline_svg(figure: Figure, name: str, label: str, tips: Mapping[str, Sequence[str]] | None = None) -> Markup:
    """Save a figure as an ``<svg>`` element.

    Equal figures give equal text: there are no dates, and ids depend on ``name`` only.

    Args:
        figure: The figure, drawn in colors of ``PALETTE``.
        name: Prefix of all ids, unique on the page.
        label: What the figure shows, for readers who cannot see it.
        tips: Texts shown when a marker is pointed at: under the ``gid`` of a line, one text per drawn marker.

    Returns:
        The element, scaled by the page.
    """
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ddpm_pairs"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
    for gid, texts in (tips or {}).items():
        for marker, text in zip(root.findall(f".//g[@id='{gid}']/g/use"), texts, strict=True):
            ElementTree.SubElement(marker, "title").text = text
    _use_page_style(root)
    _prefix_ids(root, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _use_page_style(root: ElementTree.Element) -> None:
    """Leave out Matplotlib's metadata, global styles and fonts, and refer to the page's colors."""
    variables = {color: f"var(--{name})" for name, color in PALETTE.items()}
    for parent in list(root.iter()):
        parent.text = parent.text if parent.tag in ("text", "tspan", "title") else None
        parent.tail = None
        for child in [child for child in parent if child.tag in ("metadata", "style")]:
            parent.remove(child)
        if "d" in parent.attrib:
            parent.set("d", " ".join(parent.attrib["d"].split()))
        if "style" in parent.attrib:
            style = re.sub(r"font-family: [^;]*;? ?", "", parent.attrib["style"])
            parent.set("style", re.sub(r"#\w{6}", lambda found: variables.get(found[0], found[0]), style))


def _prefix_ids(root: ElementTree.Element, name: str) -> None:
    """Keep only ids that something refers to, and make them unique on the page."""
    uses = [value for element in root.iter() for value in element.attrib.values()]
    referred = {found[1] for value in uses if (found := re.fullmatch(r"(?:url\()?#([\w.-]+)\)?", value))}
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in referred:
            element.set("id", f"{name}-{own}")
        for key in ("href", "clip-path"):
            if key in element.attrib:
                element.set(key, element.attrib[key].replace("#", f"#{name}-"))
