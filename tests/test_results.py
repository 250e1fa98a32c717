"""Tables of the studies: what README files state is what was measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = {"A blind camera": "study_b", "Faces": "study_a", "Which pairs": "study_b", "What matters": "study_d"}
"""Of the page that shows the tables of a title."""


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """Tables by title, printed from what the studies left."""
    command = [sys.executable, "-m", "results.tables"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return dict(part.split("\n", 1) for part in re.split(r"^# ", text, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize(("title", "folder"), FOLDERS.items())
def test_every_row_measured_stands_on_the_studys_page(printed, title, folder):
    page = [figures(line) for line in (ROOT / "results" / folder / "README.md").read_text().splitlines()]
    rows = [row for line in printed[title].splitlines() if line.startswith("|") and (row := figures(line))]
    assert len(rows) > 10
    assert [row for row in rows if not any(row <= line for line in page)] == []


@pytest.mark.parametrize(("title", "folder"), FOLDERS.items())
def test_the_studys_page_says_what_was_recommended(printed, title, folder):
    page = " ".join((ROOT / "results" / folder / "README.md").read_text().split())
    found = re.findall(r"Recommended: start with (\w+) and t = (\d+): (\w+)", printed[title])
    assert len(found) == {"Faces": 2, "What matters": 1}.get(title, 0)
    for start, t, score in found:
        assert score == "KID" and re.search(rf"`{start}`(,| and) \*t\* = {t}\b", page)


def figures(line: str) -> set[str]:
    """The decimal numbers in a line."""
    return set(re.findall(r"\d+\.\d+", line))
