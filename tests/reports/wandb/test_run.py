"""Whether a W&B run is online or offline, and where."""

import pytest
import wandb

from ddpm_pairs.cli.trainer import finishing
from ddpm_pairs.reports.wandb.run import WandbRun, has_api_key


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_SWEEP_ID", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()  # so that it reads its environment anew
    yield
    wandb.teardown()


@pytest.mark.parametrize(
    ("netrc", "found"),
    [
        (None, False),
        ("", False),
        ("machine api.wandb.ai login user password " + "0" * 40, True),
        ("machine elsewhere.org login user password " + "0" * 40, False),
        ("machine", False),
    ],
)
def test_api_key_of_wandb_login(tmp_path, netrc, found):
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc)
    assert has_api_key() is found


def test_login_to_a_server_of_ones_own(tmp_path, monkeypatch):
    login = "machine {} login user password " + "0" * 40
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    (tmp_path / "netrc").write_text(login.format("wandb.example.org"))
    assert has_api_key()
    (tmp_path / "netrc").write_text(login.format("api.wandb.ai"))
    assert not has_api_key()


def test_login_to_the_present_server(tmp_path):
    host = wandb.setup().settings.base_url.removeprefix("https://")
    (tmp_path / "netrc").write_text(f"machine {host} login user password {'0' * 40}")
    assert has_api_key()


def test_api_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_api_key()


@pytest.mark.parametrize("key", ["", "0" * 40])
def test_offline_when_asked_or_without_a_key(tmp_path, monkeypatch, capsys, key):
    monkeypatch.setenv("WANDB_API_KEY", key)
    logger = WandbRun(offline=bool(key))
    logger.settle(tmp_path / "run", False, {"answer": 42})
    with finishing([logger]):
        run = logger.experiment
        assert logger.experiment is run and run.offline
        assert (run.name, run.config["answer"]) == ("run", 42)
    why = "offline mode" if key else "no API key found"
    line = f"W&B run kept on disk ({why}); to upload it, run: wandb sync {tmp_path}/run/wandb/offline-run-*-{run.id}\n"
    assert capsys.readouterr().err == line
    assert (tmp_path / "run" / "wandb" / "run_id").read_text() == run.id


def test_nothing_is_written_before_the_first_use(tmp_path, capsys):
    logger = WandbRun()
    logger.settle(tmp_path / "run", True, {})
    with finishing([logger]):
        pass
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_disabled_by_the_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = WandbRun()
    logger.settle(tmp_path / "run", True, {})
    with finishing([logger]):
        logger.log_metrics({"loss": 1.0}, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert "wandb sync" not in capsys.readouterr().err
