"""Find the configs and weights that come with the package, in a wheel or an editable install."""

import os
from pathlib import Path

from ddpm_pairs.errors import UserError

PACKAGE = Path(__file__).resolve().parent
ASSETS = PACKAGE / "assets"


def configs_folder() -> Path:
    """Return the folder of shipped configs: ``ddpm_pairs/configs`` in a wheel, ``configs`` in a source checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Return the names that ``shipped_config`` finds, sorted, such as ``ddpm.yaml`` and ``parts/cpu.yaml``.

    Files ``sweep_*.yaml`` in the same folder are not included: ``wandb sweep`` reads them, not ``--config``.
    """
    folder = configs_folder()
    paths = [path for path in folder.rglob("*.yaml") if not path.name.startswith("sweep_")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def weights_names() -> list[str]:
    """Return the names that ``shipped_weights`` finds, sorted."""
    return sorted(path.stem for path in ASSETS.glob("*.safetensors"))


def shipped_config(name: str) -> Path | None:
    """Find a config that comes with the package.

    Args:
        name: Path inside the folder of configs, such as ``ddpm.yaml`` or ``parts/cpu.yaml``.

    Returns:
        The absolute path of the file; ``None`` if there is no such config.
    """
    return configs_folder() / name if name in config_names() else None


def shipped_weights(name: str) -> Path | None:
    """Find weights that come with the package.

    Args:
        name: Name without folder and suffix, such as ``blind_camera``.

    Returns:
        The absolute path of ``ddpm_pairs/assets/<name>.safetensors``; ``None`` if there are no such weights.
    """
    return ASSETS / f"{name}.safetensors" if name in weights_names() else None


def weights_file(name: str) -> str:
    """Return the path of weights that are given as a file, a folder, or the name of shipped weights.

    Raises:
        UserError: If nothing is found.
    """
    if os.path.exists(name):  # noqa: PTH110 - a name that is too long is not an error
        return name
    found = shipped_weights(name)
    if found is None:
        names = ", ".join(weights_names()) or "none"
        name = name if len(name) <= 200 else f"{name[:199]}…"
        raise UserError(f"checkpoint {name} does not exist; expected a file, a folder, or shipped weights ({names})")
    return str(found)
