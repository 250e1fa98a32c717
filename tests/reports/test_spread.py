import pytest

from ddpm_pairs.reports.spread import spread


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (300, 4, [0, 100, 199, 299]),
        (7, 1, [0]),
        (1, 12, [0]),
        (23, 12, [*range(0, 23, 2)]),
    ],
)
def test_spread(count, most, expected):
    assert spread(count, most) == expected
