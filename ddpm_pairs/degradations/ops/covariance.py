"""Color covariance of correlated noise, in plain double-precision arithmetic.

Products, quotients and square roots of Python floats are rounded the same way on every machine. A linear-algebra
library does not guarantee this. The same generator state therefore gives the same covariance everywhere.
"""

import math

import torch

from ddpm_pairs.degradations.ops.draws import uniform

Matrix = list[list[float]]

CHANNELS = range(3)
SWEEPS = 8  # cyclic Jacobi converges quadratically: a 3x3 matrix is diagonal to the last bit after five or six


def draw_covariance(generator: torch.Generator, level: float) -> Matrix:
    """Draw the covariance of BSRGAN's channel-correlated noise (Zhang et al., arXiv 2103.14006, as released).

    The covariance is L^2 |U^T diag(d) U|, with d ~ U(0, 1)^3 and U the left singular vectors of a matrix drawn from
    U(0, 1). The absolute value is taken of each element.

    Args:
        generator: A CPU generator.
        level: Noise level L, in 8-bit units.

    Returns:
        3x3 covariance of R, G and B in [0, 1] units.
    """
    diagonal = [uniform(generator, 0, 1) for _ in CHANNELS]
    basis = [[uniform(generator, 0, 1) for _ in CHANNELS] for _ in CHANNELS]
    scale = (level / 255) * (level / 255)
    return [[scale * value for value in row] for row in absolute_covariance(basis, diagonal)]


def absolute_covariance(basis: Matrix, diagonal: list[float]) -> Matrix:
    """Compute |U^T diag(d) U|, with U the left singular vectors of ``basis`` and absolute values element by element.

    A 3x3 matrix stays positive semidefinite: taking absolute values leaves the principal 2x2 minors unchanged and
    cannot decrease the determinant.

    Args:
        basis: 3x3 matrix of full rank.
        diagonal: Three numbers d >= 0.

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
    """Symmetric square root of ``covariance``, a symmetric 3x3 matrix, positive semidefinite up to rounding errors.

    Raises:
        ValueError: If it is not 3x3.
    """
    if [len(row) for row in covariance] != [len(CHANNELS)] * len(CHANNELS):
        raise ValueError("covariance: expected 3x3 numbers")
    values, vectors = eigen(covariance)
    roots = [math.sqrt(max(value, 0.0)) for value in values]
    return [
        [sum(root * v[i] * v[j] for root, v in zip(roots, vectors, strict=True)) for j in CHANNELS] for i in CHANNELS
    ]


def eigen(matrix: Matrix) -> tuple[list[float], Matrix]:
    """Unsorted eigenvalues and eigenvectors (rows) of a symmetric 3x3 matrix, computed by Jacobi rotations."""
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
