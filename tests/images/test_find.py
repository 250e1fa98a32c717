import os
import subprocess
import sys

import pytest

from ddpm_pairs.images.find import Failure, find_pictures


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def keys(root):
    return [p.key for p in find_pictures(root, "--data.lq_dir")[0]]


def error(root):
    with pytest.raises(ValueError) as caught:
        find_pictures(root, "--data.lq_dir")
    text = str(caught.value)
    assert text.startswith("--data.lq_dir: ") and "\n" not in text
    return text


def test_keys_are_sorted_by_code_point_and_keep_folders(tmp_path):
    touch(tmp_path, "b.png", "a/z.JPG", "a.b.tiff", "B.WebP", "ä.jpeg", "a/y.bmp", "a-1.TIF")
    pictures, failures = find_pictures(tmp_path, "--data.lq_dir")
    assert [p.key for p in pictures] == ["B", "a-1", "a.b", "a/y", "a/z", "b", "ä"]
    assert [p.source for p in pictures][:5] == ["B.WebP", "a-1.TIF", "a.b.tiff", "a/y.bmp", "a/z.JPG"]
    assert all(p.path == tmp_path / p.source for p in pictures)
    assert failures == []


def test_hidden_files_and_folders_are_ignored(tmp_path):
    touch(tmp_path, "a.png", ".hidden.png", "._a.png", ".thumbnails/b.png", "sub/.DS_Store")
    assert keys(tmp_path) == ["a"]
    assert find_pictures(tmp_path, "--data.lq_dir")[1] == []


def test_a_hidden_root_is_searched(tmp_path):
    touch(tmp_path, ".cache/a.png")
    assert keys(tmp_path / ".cache") == ["a"]


def test_other_files_are_failures(tmp_path):
    touch(tmp_path, "a.png", "notes.txt", "sub/movie.mp4", "no_suffix")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    pictures, failures = find_pictures(tmp_path, "--data.lq_dir")
    assert [p.key for p in pictures] == ["a"]
    assert [f.source for f in failures] == ["gone.png", "no_suffix", "notes.txt", "pipe.png", "sub/movie.mp4"]
    assert failures[0] == Failure("gone.png", "broken link")
    assert failures[3] == Failure("pipe.png", "not a regular file")
    assert ".png" in failures[2].reason


def test_names_that_break_lines_of_text_are_failures(tmp_path):
    touch(tmp_path, "a.png", "two\nlines.png", "narrow\u202fspace.png")
    (tmp_path / os.fsdecode(b"latin\xe4.png")).write_bytes(b"x")
    pictures, failures = find_pictures(tmp_path, "--data.lq_dir")
    assert [p.key for p in pictures] == ["a", "narrow\u202fspace"]
    assert len(failures) == 2
    for failure in failures:
        assert "rename it" in failure.reason
        assert failure.source.encode("utf-8") and "\n" not in failure.source


def test_links_are_followed_without_looping(tmp_path):
    touch(tmp_path, "pics/a.png", "elsewhere/b.png")
    (tmp_path / "pics" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pics" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "pics")
    (tmp_path / "pics" / "self").symlink_to(tmp_path / "pics")
    assert keys(tmp_path / "pics") == ["a", "again/b", "link/b"]


def test_one_key_twice_names_both_files(tmp_path):
    touch(tmp_path, "sub/a.png", "sub/a.JPG")
    text = error(tmp_path)
    assert "'sub/a.png'" in text and "'sub/a.JPG'" in text and "'sub/a'" in text


def test_missing_folder(tmp_path):
    assert "there is no folder" in error(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder(tmp_path):
    touch(tmp_path, "a.png")
    assert "is not a folder" in error(tmp_path / "a.png")


def test_no_pictures(tmp_path):
    assert "no images in" in error(tmp_path)
    touch(tmp_path, "notes.txt")
    assert "1 other files" in error(tmp_path)


def test_light_modules_import_no_torch():
    code = "import sys, ddpm_pairs.images.find, ddpm_pairs.images.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
