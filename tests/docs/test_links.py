"""Links and anchors of README, CONTRIBUTING, CHANGELOG, docs and results lead somewhere."""

import re
from pathlib import Path

import pytest
from doc_pages import ROOT

FILES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
FILES += [path.relative_to(ROOT).as_posix() for folder in ("docs", "results") for path in (ROOT / folder).rglob("*.md")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def anchors(path: Path) -> set[str]:
    """What headings can be linked as, on GitHub and in the site alike."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.S | re.M), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r" +", "-", heading) for heading in plain}


@pytest.mark.parametrize("name", FILES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for link in LINK.findall(prose(page)):
        if re.match(r"https?://", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{name}: {link}"
        assert path.is_relative_to(ROOT), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(path), f"{name}: {link}"


def test_a_missing_anchor_is_noticed():
    page = ROOT / "docs" / "degradations.md"
    assert "calibrate-the-start" in anchors(page) and "calibrate" not in anchors(page)
