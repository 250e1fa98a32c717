"""The light half of the command line: help, version, errors, hand-over. Nothing here imports torch."""

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import ddpm_pairs
from ddpm_pairs.cli import main as cli

SCRIPTS = Path(sysconfig.get_path("scripts"))
SPELLINGS = {
    "lightning": [str(SCRIPTS / "lightning")],
    "ddpm-pairs": [str(SCRIPTS / "ddpm-pairs")],
    "python -m": [sys.executable, "-m", "ddpm_pairs"],
}
LIGHT_WORDS = [["--help"], ["--version"], []] + [[verb, "--help"] for verb in cli.OWN_VERBS]


def run(words, cwd, spelling="ddpm-pairs", **environment):
    """Run the real command in a process of its own."""
    return subprocess.run(
        [*SPELLINGS[spelling], *words], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )


def one_error_line(completed):
    """The one line of a user error, checked to be all that was said."""
    assert completed.returncode == 2
    assert completed.stdout == ""
    lines = completed.stderr.splitlines()
    assert len(lines) == 1, completed.stderr
    assert lines[0].startswith("ddpm-pairs: error: ")
    return lines[0]


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["remake"], ["nonsense"]], ids=" ".join)
def test_three_spellings_are_one_program(words, tmp_path):
    answers = [run(words, tmp_path, spelling) for spelling in SPELLINGS]
    assert len({(answer.returncode, answer.stdout, answer.stderr) for answer in answers}) == 1


@pytest.mark.parametrize("words", LIGHT_WORDS, ids=lambda words: " ".join(words) or "no words")
def test_light_words_answer_without_torch(words, tmp_path):
    # Python itself lists on stderr each module that the real command imports.
    completed = run(words, tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert completed.returncode == 0
    assert completed.stdout
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in completed.stderr.splitlines()}
    assert "ddpm_pairs" in imported
    assert imported.isdisjoint({"torch", "torchvision", "numpy", "lightning", "jsonargparse", "packaging"})


def test_version_is_the_packages(tmp_path):
    assert run(["--version"], tmp_path).stdout == f"ddpm_pairs {ddpm_pairs.__version__}\n"


def test_help_names_every_verb(tmp_path):
    text = run(["--help"], tmp_path).stdout
    for verb in ["fit", "validate", "test", "predict", "demo", "preview", "calibrate", "remake", "export", "doctor"]:
        assert f"\n  {verb} " in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["remake", "pairs"], "KEY"),
        (["demo", "--seed", "x"], "'x'"),
        (["preview", "--degradation", "bsrgan"], "--data.hq_dir"),
        (["preview", "--degradation", "a", "--data.hq_dir", "b", "--preset", "c"], "--preset"),
        (["demo", "--outputdir", "x"], "--outputdir"),
        (["export", "a", "b", "c"], "c"),
        (["--nonsense"], "--nonsense"),
        (["--versio"], "--versio"),
        (["--"], "--"),
    ],
)
def test_bad_arguments_are_one_line(words, said, tmp_path):
    line = one_error_line(run(words, tmp_path))
    assert said in line
    assert "--help" in line


def test_unknown_verb_names_ours_and_fabric(tmp_path):
    line = one_error_line(run(["run", "model"], tmp_path, "lightning"))
    assert "'run'" in line
    assert "predict" in line
    assert "'fabric'" in line


def cloud_client(folder):
    """A package ``lightning_sdk`` that says which words it was given, and ends with status 7."""
    package = folder / "lightning_sdk" / "cli"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "entrypoint.py").write_text(
        "import sys\n\ndef main_cli():\n    print('cloud', *sys.argv[1:])\n    sys.exit(7)\n"
    )
    return str(folder)


def test_foreign_words_go_to_the_cloud_client(tmp_path):
    completed = run(["studio", "list", "--all"], tmp_path, "lightning", PYTHONPATH=cloud_client(tmp_path / "site"))
    assert (completed.returncode, completed.stdout) == (7, "cloud studio list --all\n")


def test_our_words_stay_ours_beside_the_cloud_client(tmp_path):
    site = cloud_client(tmp_path / "site")
    assert run(["--version"], tmp_path, "lightning", PYTHONPATH=site).stdout.startswith("ddpm_pairs ")
    assert "remake" in one_error_line(run(["remake"], tmp_path, "lightning", PYTHONPATH=site))


@pytest.fixture
def implementation(tmp_path, monkeypatch):
    """Let the verb ``remake`` be done by a module made of the given body."""

    def write(body):
        (tmp_path / "written_verb.py").write_text(f"def main(arguments):\n    {body}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(cli.OWN_VERBS, "remake", "written_verb")
        monkeypatch.delitem(sys.modules, "written_verb", raising=False)

    return write


def test_verb_gets_its_arguments_and_gives_the_status(implementation, capsys):
    implementation("print(vars(arguments)); return 5")
    assert (
        cli.main(
            [
                "remake",
                "made/pairs",
                "a/b",
            ]
        )
        == 5
    )
    expected = {"pairs": Path("made/pairs"), "key": "a/b", "ckpt_path": None, "degradation": None, "output_dir": None}
    expected["trust_classes"] = None
    assert capsys.readouterr().out == f"{expected}\n"


def test_user_error_of_a_verb_is_one_line(implementation, capsys):
    implementation("from ddpm_pairs.errors import UserError; raise UserError('no manifest in x;\\nrun predict first')")
    assert cli.main(["remake", "x", "a"]) == 2
    assert capsys.readouterr().err == "ddpm-pairs: error: no manifest in x; run predict first\n"


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError])
def test_other_errors_of_a_verb_are_not_hidden(kind, implementation):
    implementation(f"raise {kind.__name__}('a fault of the program')")
    with pytest.raises(kind, match="a fault of the program"):
        cli.main(["remake", "x", "a"])


def test_interruption_is_one_line(implementation, capsys):
    implementation("raise KeyboardInterrupt")
    assert cli.main(["remake", "x", "a"]) == 130
    assert capsys.readouterr().err == "ddpm-pairs: interrupted; to resume, rerun the same command\n"


def kill(name):
    return f"import os, signal; os.kill(os.getpid(), signal.{name})"


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_is_an_interruption_with_its_own_status(name, status, implementation, capsys):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    implementation(f"{kill(name)}; raise RuntimeError")
    assert cli.main(["remake", "x", "a"]) == status
    assert capsys.readouterr().err == "ddpm-pairs: interrupted; to resume, rerun the same command\n"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


def test_a_second_signal_does_not_interrupt_the_cleanup_after_the_first(implementation, tmp_path):
    first, second = kill("SIGTERM"), kill("SIGHUP").partition("; ")[2]
    cleanup = f"{second}; open({str(tmp_path / 'clean')!r}, 'w').close()"
    implementation(f"try:\n        {first}\n    finally:\n        {cleanup}")
    assert cli.main(["remake", "x", "a"]) == 143
    assert (tmp_path / "clean").exists()


def test_an_ignored_signal_stays_ignored(implementation):
    """As under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        implementation(f"{kill('SIGHUP')}; return 0")
        assert cli.main(["remake", "x", "a"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
