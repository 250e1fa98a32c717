import random
from pathlib import Path

import pytest
import yaml

import ddpm_pairs.shipped
from ddpm_pairs.bounded_yaml import MOST_BYTES, MOST_DEPTH, MOST_VALUES, parse_yaml, read_yaml
from ddpm_pairs.errors import UserError

CONFIGS = sorted(ddpm_pairs.shipped.configs_folder().rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_read_as_by_pyyaml(config):
    assert read_yaml(config) == yaml.safe_load(config.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "", "# only a comment", "a", "1e-3", "1.0e-3", "0o7", "1:30", "yes", "~", "2026-11-30",
        "a: &x [1, 2]\nb: *x", "base: &b {a: 1, b: 2}\nc:\n  <<: *b\n  a: 3", "[1, 1, [1]]", "? [1, 2]\n: 3",
        "{1: a, '1': b}",
        "é: ü", "!!binary aGk=", "!!set {a, b}",
    ],
)  # fmt: skip
def test_values_are_those_of_pyyaml(text):
    if text.startswith("?"):  # a sequence as a key cannot be hashed
        with pytest.raises(UserError, match="found unhashable key"):
            parse_yaml(text.encode())
        return
    assert parse_yaml(text.encode()) == yaml.safe_load(text)


def test_a_byte_order_mark_is_no_content():
    assert parse_yaml("a: ü".encode("utf-8-sig")) == parse_yaml("a: ü".encode("utf-16")) == {"a": "ü"}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB.encode(), f"more than {MOST_VALUES} values, at line 6"),  # 9**5 values are less, 9**6 more than the limit
        (b"a: &x [*x]", "an alias to a value that contains it, at line 1"),
        (b"a: &x\n  b: {c: *x}", "an alias to a value that contains it"),
        (b"[" * (MOST_DEPTH + 1), f"deeper than {MOST_DEPTH} levels"),
        (b"[" * 1_000_000, "nesting depth"),  # libyaml's own limit
        (b"- " * 1_000_000, f"deeper than {MOST_DEPTH} levels"),
        (b"9" * 5_000, "not a YAML file"),
        (b"a: 1\nb: 2\na: 3", "the key 'a' twice, at line 3"),
        (b"x:\n  a: 1\n  'a': 3", "the key 'a' twice, at line 3"),
        (b" " * (MOST_BYTES + 1), "larger than 4 MiB"),
        (b"a: [", "not a YAML file"),
        (b"a: b: c", "not a YAML file"),
        (b"\x89PNG\r\n\x1a\n\x00", "not a YAML file"),
        (b"\xff\xfe\xff", "not a YAML file"),
        (b"a: 2026-13-45", "not a YAML file"),
        (b"a: !!python/object/apply:os.system [true]", "not a YAML file"),
        (b"a: 1\n---\nb: 2", "not a YAML file"),
        (b"? {a: 1}\n: 2", "not a YAML file"),
        (b"a: *b", "not a YAML file"),
    ],
)
def test_refused_content(tmp_path, data, reason):
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    message = str(error.value)
    assert message.startswith(str(path)) and reason in message and "\n" not in message and len(message) < 600


def test_the_deepest_and_the_largest_are_read():
    assert parse_yaml(b"[" * MOST_DEPTH + b"]" * MOST_DEPTH)
    assert len(parse_yaml(b"[" + b"1," * (MOST_VALUES - 1) + b"]")) == MOST_VALUES - 1


@pytest.mark.parametrize("seed", range(300))
def test_random_bytes_are_values_or_a_reason(seed):
    draw = random.Random(seed)
    alphabet = "[]{}:,&*!|>%@`'\"#-?<= \n\tab01~\x00é\ud800".encode("utf-8", "surrogatepass")
    data = bytes(draw.choice(alphabet) for _ in range(draw.randrange(60)))
    try:
        parse_yaml(data)
    except UserError as error:
        assert "\n" not in str(error)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path, Path("/dev/zero")):
        with pytest.raises(UserError, match=f"^{path} is not a file$"):
            read_yaml(path)
