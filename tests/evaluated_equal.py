"""Comparison of two evaluations."""

import pytest


def assert_equal(found, expected):
    """Pictures and words are equal bit for bit; distances of sets to what linear algebra rounds.

    Args:
        found: ``vars`` of an ``Evaluated``.
        expected: Likewise.
    """
    for name in ("pictures", "inputs", "input_values", "notes", "settings", "n"):
        assert found[name] == expected[name]
    assert found["values"] == pytest.approx(expected["values"], rel=1e-6)
    assert found["intervals"].keys() == expected["intervals"].keys()
    for name, bounds in expected["intervals"].items():
        assert found["intervals"][name] == (bounds if bounds is None else pytest.approx(bounds, rel=1e-6))
