"""Where the configs and weights that come with the package lie, in a wheel and in an editable install alike."""

from pathlib import Path

from ddpm_pairs.errors import UserError

PACKAGE = Path(__file__).resolve().parent
ASSETS = PACKAGE / "assets"


def configs_folder() -> Path:
    """The folder of shipped configs: ``ddpm_pairs/configs`` in a wheel, top-level ``configs`` in a source checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Names that :func:`shipped_config` finds, sorted, such as ``ddpm.yaml`` and ``parts/cpu.yaml``.

    Files ``sweep_*.yaml`` lie beside them and are none: they are read by ``wandb sweep``, not by ``--config``.
    """
    folder = configs_folder()
    paths = [path for path in folder.rglob("*.yaml") if not path.name.startswith("sweep_")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def weights_names() -> list[str]:
    """Names that :func:`shipped_weights` finds, sorted."""
    return sorted(path.stem for path in ASSETS.glob("*.safetensors"))


def shipped_config(name: str) -> Path | None:
    """Find a config that comes with the package.

    Args:
        name: the path below the folder of configs, such as ``ddpm.yaml`` or ``parts/cpu.yaml``.

    Returns:
        The file's absolute path; None where no such config is shipped.
    """
    return configs_folder() / name if name in config_names() else None


def shipped_weights(name: str) -> Path | None:
    """Find weights that come with the package.

    Args:
        name: the bare name, without folder and suffix, such as ``blind_camera``.

    Returns:
        The absolute path of ``ddpm_pairs/assets/<name>.safetensors``; None where no such weights are shipped.
    """
    return ASSETS / f"{name}.safetensors" if name in weights_names() else None


def weights_file(name: str) -> str:
    """The path that a user's word for weights stands for: a file or folder, else the name of shipped weights.

    Raises:
        UserError: if there is neither.
    """
    if Path(name).exists():
        return name
    found = shipped_weights(name)
    if found is None:
        names = ", ".join(weights_names()) or "none yet"
        raise UserError(f"checkpoint {name} does not exist: expected a file, a folder, or shipped weights ({names})")
    return str(found)
