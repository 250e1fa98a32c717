"""Add content from outside docs/ to the site: the results, and the options of all configs."""

import re
from pathlib import Path

from generate_options import options_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- options: .*-->$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and figures of results/, which are outside docs/."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.name == "README.md" or path.suffix == ".png":
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the options, and adapt links so that they work in the site as in the repository."""
    if page.file.src_uri == "options.md":
        assert MARK.search(markdown), "docs/options.md: missing the options comment"
        return MARK.sub("", markdown) + "\n" + options_page(ROOT)
    if page.file.src_uri.startswith("results/"):
        return LINK.sub(lambda link: _within_the_site(link, page, files), markdown)
    return markdown.replace("](../results/", "](results/")


def _within_the_site(link: re.Match[str], page: Page, files: Files) -> str:
    """Return a link of a results page, or only its text if the target (measurements, a script) is not in the site."""
    target = (Path("/") / page.file.src_uri).parent.joinpath(link[2]).resolve().relative_to("/").as_posix()
    inside = ":" in link[2] or files.get_file_from_path(target) is not None
    return link[0] if inside else link[1]
