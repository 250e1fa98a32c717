"""``doctor`` run for real, on packages that really are broken, missing or doubled."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from ddpm_pairs import shipped
from ddpm_pairs.cli.doctor import files
from ddpm_pairs.cli.doctor.packages import check_version, import_in_child

SCRIPTS = sysconfig.get_path("scripts")


def run(site, *, path=SCRIPTS, **environment):
    """Run the verb with the packages in ``site`` before those that are installed."""
    return subprocess.run(
        [sys.executable, "-m", "ddpm_pairs", "doctor"],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site), "PATH": f"{path}{os.pathsep}/usr/bin", **environment},
        capture_output=True,
        text=True,
    )


def package(site, name, body):
    """A package whose import runs ``body``."""
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").write_text(body)


def metadata(site, name, version, entry_points=""):
    """What an installed distribution leaves beside its modules."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def no_imports(tmp_path):
    """A site where doctor imports no package, so that tests of the rest are quick."""
    metadata(tmp_path / "site", "lightning", "2.6.2")
    return tmp_path / "site"


@pytest.mark.slow
def test_sound_environment_has_nothing_to_mend(tmp_path):
    completed = run(tmp_path)
    assert completed.returncode == 0, completed.stdout
    assert completed.stderr == ""
    assert "ok       torch " in completed.stdout
    assert completed.stdout.endswith("No problems found.\n")


def test_mismatched_torchvision_is_recognised(tmp_path):
    package(tmp_path, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    # Everything that the other packages need of torch is beside the point here, and slow.
    package(tmp_path, "torch", "__version__ = '2.14.0'\nraise ImportError('libtorch_cpu.so: no such file')")
    completed = run(tmp_path)
    assert completed.returncode == 1
    assert "cannot be imported: RuntimeError: operator torchvision::nms does not exist" in completed.stdout
    assert "cannot be imported: ImportError: libtorch_cpu.so: no such file" in completed.stdout
    mends = [line for line in completed.stdout.splitlines() if "different builds" in line]
    assert len(mends) == 1
    assert "--force-reinstall 'torch<2.15,>=2.11' 'torchvision<0.30,>=0.26'" in mends[0]
    assert "accelerators unknown" in completed.stdout
    assert "ok       numpy " in completed.stdout


def test_malicious_release_is_named_and_never_imported(tmp_path):
    site = tmp_path / "site"
    metadata(site, "lightning", "2.6.3")
    package(site, "lightning", f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    completed = run(site)
    assert completed.returncode == 1
    assert "lightning 2.6.3 is a MALICIOUS release" in completed.stdout
    assert "change every password" in completed.stdout
    assert not (tmp_path / "imported").exists()


def test_import_in_child_goes_on_after_a_crash(tmp_path, monkeypatch):
    package(tmp_path, "crashes_hard", "import os\nos._exit(3)")
    package(tmp_path, "talks_a_lot", "print('hello', end='')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    results = import_in_child(["talks-a-lot", "crashes-hard", "not-there", "json"])
    assert results["talks-a-lot"] == {"error": None}
    assert results["crashes-hard"] == {"error": "Python ended with status 3"}
    assert results["not-there"]["error"].startswith("ModuleNotFoundError")
    assert results["json"] == {"error": None}


@pytest.mark.parametrize(
    ("requirement", "state", "said"),
    [
        ("torch>=2.11,<2.15", "ok", "torch 2.14.1+cpu"),
        ("torch>=2.15", "problem", "does not satisfy >=2.15"),
        ("torch", "ok", "any version"),
        ("surely-not-installed>=1", "problem", "is not installed"),
    ],
)
def test_check_version(requirement, state, said, tmp_path, monkeypatch):
    metadata(tmp_path, "torch", "2.14.1+cpu")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = check_version(Requirement(requirement))
    assert finding.state == state
    assert said in finding.text
    assert bool(finding.mend) == (state == "problem")


def test_second_owner_of_the_name_that_lost_it_is_a_note(no_imports):
    metadata(no_imports, "lightning-sdk", "2026.10.13", "[console_scripts]\nlightning = lightning_sdk.cli:main_cli\n")
    lines = run(no_imports).stdout.splitlines()
    assert any(line.startswith("  note     lightning-sdk provides this command too") for line in lines)
    assert any(line.startswith("  ok ") and line.endswith("lightning belongs to ddpm_pairs") for line in lines)
    assert not any("get the command back" in line for line in lines)


def test_second_owner_of_the_name_that_took_it_is_a_problem(no_imports, tmp_path):
    stolen = tmp_path / "bin" / "lightning"
    stolen.parent.mkdir()
    stolen.write_text("#!/usr/bin/python3\nimport sys\nfrom lightning_sdk.cli.entrypoint import main_cli\nmain_cli()\n")
    stolen.chmod(0o755)
    completed = run(no_imports, path=stolen.parent)
    assert completed.returncode == 1
    assert f"problem  {stolen} belongs to lightning_sdk, not to ddpm_pairs" in completed.stdout
    assert "pip install --force-reinstall --no-deps " in completed.stdout


def test_no_command_on_path_is_a_note(no_imports, tmp_path):
    assert "note     'lightning' is not on PATH" in run(no_imports, path=tmp_path).stdout


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "ddpm_pairs"),
        ({"url": "file:///src/x", "dir_info": {"editable": True}}, "-e file:///src/x"),
        ({"url": "file:///w/ddpm_pairs.whl", "archive_info": {}}, "file:///w/ddpm_pairs.whl"),
        ({"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "0"}}, "git+https://host/x.git"),
    ],
)
def test_repair_takes_the_package_from_where_it_came(record, words, no_imports, tmp_path):
    # Metadata in `site` come before those of the installed package; its script has been deleted.
    metadata(no_imports, "ddpm_pairs", "0.1.0")
    folder = no_imports / "ddpm_pairs-0.1.0.dist-info"
    (folder / "RECORD").write_text("../bin/lightning,,\n")
    if record is not None:
        (folder / "direct_url.json").write_text(json.dumps(record))
    completed = run(no_imports, path=tmp_path)
    assert completed.returncode == 1
    assert "precision was not measured" in completed.stdout  # nor is a malicious package imported for it
    assert f"problem  {tmp_path / 'bin' / 'lightning'} has been deleted" in completed.stdout
    assert f"pip install --force-reinstall --no-deps {words} ('ddpm-pairs' works" in completed.stdout


def test_metric_weights_own_folder_before_torch_hubs_cache(no_imports, tmp_path):
    own, cache = tmp_path / "own", tmp_path / "torch" / "hub" / "checkpoints"
    for folder in (own, cache):
        folder.mkdir(parents=True)
        (folder / "pt_inception-2015-12-05-6726825d.pth").touch()
    (cache / "alexnet_features.pth").touch()
    text = run(no_imports, DDPM_PAIRS_WEIGHTS=str(own), TORCH_HOME=str(tmp_path / "torch")).stdout
    assert f"ok       Inception (FID, KID): {own / 'pt_inception-2015-12-05-6726825d.pth'}" in text
    assert f"ok       AlexNet (LPIPS): {cache / 'alexnet_features.pth'}" in text


def test_metric_weights_missing(no_imports, tmp_path):
    nowhere = tmp_path / "nowhere"
    text = run(no_imports, DDPM_PAIRS_WEIGHTS=str(nowhere), TORCH_HOME=str(tmp_path)).stdout
    assert f"problem  $DDPM_PAIRS_WEIGHTS: got {nowhere}; expected an existing folder" in text
    assert "note     AlexNet (LPIPS): no alexnet_features.pth" in text
    assert "note     VGG19 (perceptual loss): no vgg19-dcbb9e9d.pth" in text


def test_shipped_configs_are_found(no_imports):
    folder = Path(shipped.__file__).parents[1] / "configs"
    assert f"configs in {folder}" in run(no_imports).stdout


@pytest.mark.parametrize(("free", "state"), [(64_000_000, "note"), (8_000_000_000, "ok")])
def test_little_shared_memory_is_a_note(no_imports, tmp_path, monkeypatch, free, state):
    monkeypatch.setattr("ddpm_pairs.cli.doctor.files.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    (finding,) = files.check_shared_memory()
    assert finding.state == state
    assert ("0.06 GB free" in finding.text and "--shm-size" in finding.text) == (state == "note")
