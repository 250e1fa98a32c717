"""The site is built strictly, holds what it should, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from doc_pages import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    root = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(root)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_every_config_and_class_is_on_the_page_of_options(site):
    text = (site / "options.html").read_text("utf-8")
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f">{path.relative_to(ROOT / 'configs').as_posix()}<" in text
        for name in re.findall(r"class_path: (ddpm_pairs\.\S+)", path.read_text()):
            assert f"<code>{name}</code>" in text
    options = yaml.safe_load((ROOT / "configs" / "pairs_natural.yaml").read_text())["model"]["init_args"]
    assert all(f"<code>{name}</code>" in text for name in options)


def test_reference_has_the_public_functions(site):
    text = (site / "python-api.html").read_text("utf-8")
    for name in ("api.load_ddpm", "api.make_pairs", "api.restore", "api.score", "degradations.walk.Walk"):
        assert f'id="ddpm_pairs.{name}"' in text


def test_results_are_part_of_the_site(site):
    assert (site / "results" / "study_b" / "pairs.png").is_file()
    assert "The search" in (site / "results" / "study_b" / "index.html").read_text("utf-8")


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//[^>]*>", text), path
        assert not re.findall(r"<link[^>]+href=\"?(?:https?:)?//[^>]*>", text), path
