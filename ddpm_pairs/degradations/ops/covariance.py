"""The colour covariance of correlated noise, in plain double-precision arithmetic.

Products, quotients and square roots of Python floats round alike on every machine, which a linear-algebra library does
not promise; so a generator's state gives the same covariance everywhere.
"""

import math

import torch

from ddpm_pairs.degradations.ops.draws import uniform

Matrix = list[list[float]]

CHANNELS = range(3)
SWEEPS = 8  # cyclic Jacobi converges quadratically: 3x3 matrices are diagonal to the last bit after five or six


def draw_covariance(generator: torch.Generator, level: float) -> Matrix:
    """Draw the covariance of BSRGAN's channel-correlated noise (Zhang et al., arXiv 2103.14006, as released).

    It is L^2 |U^T diag(d) U| with d ~ U(0, 1)^3, U the left singular vectors of a matrix of U(0, 1) and the absolute
    value of every element.

    Args:
        generator: a CPU generator.
        level: L, in 8-bit units.

    Returns:
        3x3 covariance of R, G and B in [0, 1] units.
    """
    diagonal = [uniform(generator, 0, 1) for _ in CHANNELS]
    basis = [[uniform(generator, 0, 1) for _ in CHANNELS] for _ in CHANNELS]
    scale = (level / 255) * (level / 255)
    return [[scale * value for value in row] for row in absolute_covariance(basis, diagonal)]


def absolute_covariance(basis: Matrix, diagonal: list[float]) -> Matrix:
    """|U^T diag(d) U| with U the left singular vectors of `basis`, and the absolute value of every element.

    Absolute values leave a 3x3 matrix positive semidefinite: its 2x2 minors stay and its determinant can only grow.

    Args:
        basis: 3x3 matrix of full rank.
        diagonal: three numbers d >= 0.

    Returns:
        Symmetric, positive semidefinite 3x3 matrix.
    """
    gram = [[sum(basis[i][k] * basis[j][k] for k in CHANNELS) for j in CHANNELS] for i in CHANNELS]
    values, vectors = eigen(gram)
    singular = [vectors[i] for i in sorted(CHANNELS, key=lambda i: -values[i])]  # columns of U
    return [
        [abs(sum(a * d * b for a, d, b in zip(singular[i], diagonal, singular[j], strict=True))) for j in CHANNELS]
        for i in CHANNELS
    ]


def square_root(covariance: Matrix) -> Matrix:
    """The symmetric matrix whose square is `covariance` (symmetric, 3x3, positive semidefinite but for rounding)."""
    values, vectors = eigen(covariance)
    roots = [math.sqrt(max(value, 0.0)) for value in values]
    return [
        [sum(root * v[i] * v[j] for root, v in zip(roots, vectors, strict=True)) for j in CHANNELS] for i in CHANNELS
    ]


def eigen(matrix: Matrix) -> tuple[list[float], Matrix]:
    """Eigenvalues, in no order, and eigenvectors, as rows, of a symmetric 3x3 matrix by Jacobi's rotations."""
    a = [list(row) for row in matrix]
    vectors = [[float(i == j) for j in CHANNELS] for i in CHANNELS]
    for p, q in ((0, 1), (0, 2), (1, 2)) * SWEEPS:
        if a[p][q] == 0:
            continue
        theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
        tangent = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1))
        cosine = 1 / math.sqrt(tangent * tangent + 1)
        sine = tangent * cosine
        _rotate_rows(vectors, p, q, cosine, sine)
        _rotate_rows(a, p, q, cosine, sine)
        a = [list(column) for column in zip(*a, strict=True)]
        _rotate_rows(a, p, q, cosine, sine)
        a[p][q] = a[q][p] = 0.0
    return [a[i][i] for i in CHANNELS], vectors


def _rotate_rows(matrix: Matrix, p: int, q: int, cosine: float, sine: float) -> None:
    first, second = matrix[p], matrix[q]
    matrix[p] = [cosine * x - sine * y for x, y in zip(first, second, strict=True)]
    matrix[q] = [sine * x + cosine * y for x, y in zip(first, second, strict=True)]
