"""``ddpm-pairs score`` through the real command line."""

import csv
import json
import os

import numpy as np
import pytest

from ddpm_pairs.cli.main import main


def test_the_verb_writes_paired_scores(folders, tmp_path, capsys):
    result, reference = folders
    out = tmp_path / "scores"
    assert main(["score", str(result), str(reference), "--output_dir", str(out), "--metrics", "psnr,ssim"]) == 0
    document = json.loads((out / "metrics.json").read_text())
    assert document["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)
    assert 0.9 < document["ssim"] < 1
    assert (document["n"], document["fid"], document["lpips"]) == (4, None, None)
    assert document["intervals"]["psnr"] == pytest.approx([document["psnr"]] * 2)
    with (out / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["psnr"]) == document["psnr"]
    assert (row["fid"], row["n"]) == ("", "4")
    with (out / "pictures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [line["key"] for line in rows] == [f"sub/{n}" for n in range(4)]
    assert "psnr" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("DDPM_PAIRS_WEIGHTS"), reason="$DDPM_PAIRS_WEIGHTS is not set: no real metric weights"
)
def test_a_folder_against_itself_with_real_weights(folders, tmp_path):
    out = tmp_path / "scores"
    assert main(["score", str(folders[1]), str(folders[1]), "--output_dir", str(out)]) == 0
    document = json.loads((out / "metrics.json").read_text())
    assert abs(document["fid"]) < 1e-2 and abs(document["fid192"]) < 1e-2
    assert document["lpips"] == pytest.approx(0, abs=1e-6)
    assert document["ssim"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--metrics", "psnr,fud"], "metrics: got 'fud'; expected some of fid,kid,lpips,psnr,ssim"),
        (["--metrics", "psnr", "--patch", "8"], "patch: got 8; expected 32 px or more"),
        (["--metrics", "fid"], "Inception (FID, KID) are missing"),
    ],
)
def test_wrong_words_are_one_line(folders, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    assert main(["score", *map(str, folders), "--output_dir", str(tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _no_network(*_, **__):
    raise OSError("no network")
