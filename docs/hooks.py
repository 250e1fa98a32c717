"""What the site has besides the pages in docs/: the results, and the options of all configs."""

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
    """Add the pages and pictures of results/, which live outside of docs/."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.name == "README.md" or path.suffix == ".png":
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the options, and let links work in the site as they do in the repository."""
    if page.file.src_uri == "options.md":
        assert MARK.search(markdown), "docs/options.md has lost its mark"
        return MARK.sub("", markdown) + "\n" + options_page(ROOT)
    if page.file.src_uri.startswith("results/"):
        return LINK.sub(lambda link: _within_the_site(link, page, files), markdown)
    return markdown.replace("](../results/", "](results/")


def _within_the_site(link: re.Match[str], page: Page, files: Files) -> str:
    """A link of a results page; only its text if the target (measurements, a script) is not part of the site."""
    target = (Path("/") / page.file.src_uri).parent.joinpath(link[2]).resolve().relative_to("/").as_posix()
    inside = ":" in link[2] or files.get_file_from_path(target) is not None
    return link[0] if inside else link[1]
