"""The elements of an HTML page."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br"}
RAW = {"script", "style"}


@dataclass
class Element:
    tag: str
    attributes: dict
    text: str = ""
    path: list = field(default_factory=list)


class Outline(HTMLParser):
    """Collects elements with the text inside them; a tag that is closed wrongly raises.

    SVG is well-formed here, so elements such as ``<path/>`` close themselves.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements, self._open = [], []
        self.feed(str(page))  # of Markup, parts would be escaped once more
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        element = Element(tag, dict(attributes), path=[one.tag for one in self._open])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(Element(tag, dict(attributes), path=[one.tag for one in self._open]))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1].tag == tag, f"</{tag}> at {self.getpos()} closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        raw = bool(self._open) and self._open[-1].tag in RAW
        for element in self._open[-1:] if raw else self._open:
            element.text += data

    def all(self, tag, **attributes):
        """Elements of a tag that have these attributes; ``_`` stands for ``-`` and may end a name."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            one
            for one in self.elements
            if one.tag == tag and all(one.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag, **attributes):
        (found,) = self.all(tag, **attributes)
        return found
