"""The package as users get it: a wheel in an environment of its own, called from elsewhere."""

import configparser
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from ddpm_pairs import __version__, shipped

ROOT = Path(__file__).parents[1]
SOURCES = ["setup.cfg", "pyproject.toml", "requirements.txt", "LICENSE", "README.md", "ddpm_pairs", "configs"]


def files(folder, pattern):
    """Paths below a folder, as text relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    with_modules = {path.parent.relative_to(ROOT) for path in (ROOT / "ddpm_pairs").rglob("*.py")}
    with_configs = {Path("ddpm_pairs") / path.parent.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    on_disk = {".".join(path.parts) for path in with_modules | with_configs} | {"ddpm_pairs.configs"}
    assert sorted(listed) == sorted(on_disk)
    assert len(listed) == len(set(listed))


def test_every_folder_of_modules_is_a_regular_package():
    folders = {path.parent for path in (ROOT / "ddpm_pairs").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_shipped_configs_in_a_checkout():
    assert set(shipped.config_names()) | {"sweep_t.yaml"} == files(ROOT / "configs", "*.yaml")
    assert shipped.shipped_config("parts/cpu.yaml") == ROOT / "configs" / "parts" / "cpu.yaml"


@pytest.mark.parametrize(
    "name",
    ["", "cpu.yaml", "parts", "parts/cpu", "sweep_t.yaml", "../setup.cfg", "../configs/parts/cpu.yaml", "/etc/passwd"],
)
def test_other_names_are_no_shipped_config(name):
    assert shipped.shipped_config(name) is None


@pytest.mark.parametrize("name", ["", "nothing", "../assets/x", "/etc/passwd"])
def test_other_names_are_no_shipped_weights(name):
    assert shipped.shipped_weights(name) is None


def test_shipped_weights_go_by_their_bare_name(tmp_path, monkeypatch):
    (tmp_path / "some_camera.safetensors").touch()
    (tmp_path / "some_camera.md").touch()
    monkeypatch.setattr(shipped, "ASSETS", tmp_path)
    assert shipped.weights_names() == ["some_camera"]
    assert shipped.shipped_weights("some_camera") == tmp_path / "some_camera.safetensors"
    assert shipped.shipped_weights("some_camera.safetensors") is None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=copy, check=True)
    (path,) = (copy / "out").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh environment with the wheel; it borrows the other packages of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True)
    return folder


def answer(*command):
    """What a command prints when called from the root of the file system."""
    completed = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.mark.slow
def test_wheel_holds_every_module_config_and_asset(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {f"ddpm_pairs/{name}" for name in files(ROOT / "ddpm_pairs", "*.py")}
    configs = {f"ddpm_pairs/configs/{name}" for name in files(ROOT / "configs", "*.yaml")}
    assets = {f"ddpm_pairs/assets/{path.name}" for path in shipped.ASSETS.glob("*") if path.is_file()}
    reports = {
        f"ddpm_pairs/{name}" for kind in ("*.css", "*.js", "*.html.j2") for name in files(ROOT / "ddpm_pairs", kind)
    }
    metadata = {name for name in names if name.startswith(f"ddpm_pairs-{__version__}.dist-info/")}
    assert names - metadata == package | configs | assets | reports
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


@pytest.mark.slow
def test_wheel_needs_what_requirements_txt_lists(wheel):
    from packaging.requirements import Requirement

    archive = zipfile.ZipFile(wheel)
    text = archive.read(f"ddpm_pairs-{__version__}.dist-info/METADATA").decode()
    needed = [line.removeprefix("Requires-Dist: ") for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()]
    plain = {str(Requirement(line)) for line in needed if "extra ==" not in line}
    assert plain == {str(Requirement(line)) for line in lines if line}


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [["lightning"], ["ddpm-pairs"], ["python", "-m", "ddpm_pairs"]], ids=" ".join)
def test_installed_program_answers_from_anywhere(spelling, environment):
    command = [str(environment / "bin" / spelling[0]), *spelling[1:]]
    assert answer(*command, "--version") == f"ddpm_pairs {__version__}\n"
    assert "predict" in answer(*command, "--help")


@pytest.mark.slow
def test_installed_package_finds_what_it_ships(environment):
    python = str(environment / "bin" / "python")
    code = "from ddpm_pairs import shipped as s; print(s.PACKAGE, *s.config_names(), *s.weights_names())"
    package, *names = answer(python, "-c", code).split()
    assert Path(package).is_relative_to(environment)
    assert names == [*shipped.config_names(), *shipped.weights_names()]
    code = "from ddpm_pairs.shipped import shipped_config; print(shipped_config('parts/cpu.yaml').read_text())"
    assert answer(python, "-c", code).strip() == (ROOT / "configs/parts/cpu.yaml").read_text("utf-8").strip()


@pytest.mark.slow
def test_installed_doctor_has_nothing_to_mend(environment):
    assert "No problems found." in answer(str(environment / "bin" / "ddpm-pairs"), "doctor")
