"""An output folder that is resumed with the same settings and refused with others."""

import json

import pytest
import yaml

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.find import Failure
from ddpm_pairs.run_folder import RunFolder, differences

SETTINGS = {"tile": 96, "ts": (0, 50), "small": 1e-05, "nothing": None, "start": {"name": "bicubic", "args": [1, 2]}}


@pytest.fixture(params=["run.yaml", "study.json"])
def folder(tmp_path, request):
    return RunFolder(tmp_path / "out", request.param, "things")


def test_the_same_settings_resume_and_others_are_refused_by_name(folder):
    folder.check(SETTINGS)
    assert folder.settings() is None and not folder.root.exists()  # looking leaves nothing behind
    folder.begin(SETTINGS)
    text = folder.record.read_text()
    assert (yaml.safe_load if folder.record.suffix == ".yaml" else json.loads)(text) == SETTINGS | {"ts": [0, 50]}
    folder.check(SETTINGS)
    folder.check({"tile": 96})
    with pytest.raises(UserError, match=r"out contains things made with different settings \(tile 96 -> 80\); give"):
        folder.check(SETTINGS | {"tile": 80})
    with pytest.raises(UserError, match=r"\(new None -> 1\)"):
        folder.check(SETTINGS | {"new": 1})
    with pytest.raises(UserError, match=r"\(start.name bicubic -> bsrgan and 1 more\)"):
        folder.check({"start": {"name": "bsrgan", "args": [1, 2]}, "small": 2e-05})
    assert [path.name for path in folder.root.iterdir()] == [folder.record.name]


def test_the_place_where_settings_differ():
    def spec(*sigmas):
        return {"degradation": {"init_args": {"operations": [{"name": "blur", "sigma": list(one)} for one in sigmas]}}}

    before, after = spec((1, 2), (3, 4)), spec((1, 2), (3, 9))
    assert differences(before, before) == []
    assert differences(before, after) == ["degradation.operations.2.sigma [3, 4] -> [3, 9]"]
    (long,) = differences({"a": "x" * 200}, {"a": "y" * 200})
    assert len(long) < 170


@pytest.mark.parametrize("text", ["", "[", "[1]", "\0", "text", "[" * 100_000])
def test_settings_that_cannot_be_read_are_one_line(folder, text):
    folder.root.mkdir()
    folder.record.write_text(text)
    with pytest.raises(UserError, match=f"{folder.record.name} cannot be read; give another") as caught:
        folder.check(SETTINGS)
    assert "\n" not in str(caught.value) and folder.is_torn()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "out", "run.yaml", "things").check({})


def test_failures_of_all_ranks_are_joined(folder):
    other = RunFolder(folder.root, folder.record.name, "things", rank=1)
    folder.report([Failure("old", "of a run that was interrupted")])
    folder.begin(SETTINGS)
    other.report([])
    assert [path.name for path in folder.root.iterdir()] == [folder.record.name]
    folder.report([Failure("b.png", "torn"), Failure("é.png", "zwei\u2028Zeilen")])
    other.report([Failure("a.png", "gone")])
    with (folder.root / "failures.rank1.jsonl").open("ab") as file:
        file.write(b'{"source": "half\n[1]\n\xff\n{"source": 3, "reason": null')
    wanted = [Failure("a.png", "gone"), Failure("b.png", "torn"), Failure("c.txt", "no image")]
    wanted.append(Failure("é.png", "zwei\u2028Zeilen"))
    assert folder.join([Failure("c.txt", "no image"), Failure("b.png", "known before")]) == wanted
    lines = (folder.root / "failures.jsonl").read_bytes().decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [vars(one) for one in wanted] and lines[-1] == ""
    assert {path.name for path in folder.root.iterdir()} == {folder.record.name, "failures.jsonl"}
