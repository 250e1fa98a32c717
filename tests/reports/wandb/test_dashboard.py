"""``ddpm-pairs dashboard``, without an account and without a network."""

import json
import subprocess
import sys

import pytest

from ddpm_pairs.cli.main import main
from ddpm_pairs.reports.wandb.dashboard import SECTIONS, workspace

WORDS = ["dashboard", "--entity", "someone", "--project", "ddpm_pairs"]


def test_dry_run_shows_every_panel(capsys):
    assert main([*WORDS, "--dry-run"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "workspace 'ddpm_pairs' of someone/ddpm_pairs"
    shown = [line for line in lines if line]
    assert len(shown) == len(SECTIONS) + sum(len(panels) for panels in SECTIONS.values())
    for section, panels in SECTIONS.items():
        assert section in shown
        for panel in panels:
            assert any(panel.title in line and all(key in line for key in panel.keys) for line in shown)


def test_dry_run_needs_neither_torch_nor_the_package(tmp_path):
    code = "import sys; from ddpm_pairs.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    words = [sys.executable, "-c", code, *WORDS, "--dry-run"]
    completed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {name.split(".")[0] for name in completed.stderr.split()}
    assert imported.isdisjoint({"torch", "lightning", "wandb", "wandb_workspaces"})
    assert "FID at 192-d over t" in completed.stdout


def test_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert main(WORDS) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install wandb-workspaces" in said and "--dry-run" in said


def test_missing_account_is_one_line(monkeypatch, tmp_path, capsys):
    pytest.importorskip("wandb_workspaces", reason="the optional package wandb-workspaces is not installed")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(WORDS) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "wandb login" in said


def test_workspace_holds_every_panel():
    pytest.importorskip("wandb_workspaces", reason="the optional package wandb-workspaces is not installed")
    built = workspace("someone", "ddpm_pairs")
    assert (built.entity, built.project) == ("someone", "ddpm_pairs")
    assert {section.name: len(section.panels) for section in built.sections} == {
        name: len(panels) for name, panels in SECTIONS.items()
    }
    for section in built.sections:
        for made, panel in zip(section.panels, SECTIONS[section.name], strict=True):
            spec = json.dumps(made._to_model().model_dump(by_alias=True, exclude_none=True))  # what is sent to W&B
            for key in panel.keys:
                assert json.dumps(key)[1:-1] in spec
            if panel.kind == "lines":
                assert json.dumps(panel.x) in spec
    assert json.dumps(built._to_model().model_dump(by_alias=True, exclude_none=True), default=str)


def test_panels_are_of_known_kinds_and_named_once():
    panels = [panel for panels in SECTIONS.values() for panel in panels]
    assert len({panel.title for panel in panels}) == len(panels)
    for panel in panels:
        assert panel.kind in ("lines", "images") or len(panel.keys) == 1
        assert len(panel.keys) == 1 or not any(".*" in key for key in panel.keys)
