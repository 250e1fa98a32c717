import numpy as np
import torch
from scipy.linalg import orth

from ddpm_pairs.degradations.ops.covariance import absolute_covariance, draw_covariance, eigen, square_root


def symmetric(seed: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).normal(size=(3, 3))
    return matrix + matrix.T


def test_eigenvalues_and_vectors_equal_numpy():
    for matrix in (*map(symmetric, range(50)), np.diag([1.0, 1.0, 2.0]), np.zeros((3, 3)), np.ones((3, 3)), np.eye(3)):
        values, vectors = eigen(matrix.tolist())
        np.testing.assert_allclose(sorted(values), np.linalg.eigvalsh(matrix), atol=1e-13)
        vectors = np.array(vectors)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(vectors.T @ np.diag(values) @ vectors, matrix, atol=1e-13)


def test_square_root_squares_to_the_covariance():
    for seed in range(20):
        factor = np.random.default_rng(seed).normal(size=(3, 2))
        covariance = factor @ factor.T  # singular
        root = np.array(square_root(covariance.tolist()))
        np.testing.assert_allclose(root, root.T, atol=1e-14)
        np.testing.assert_allclose(root @ root, covariance, atol=1e-7)


def original(basis: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    u = orth(basis)
    return np.abs(u.T @ np.diag(diagonal) @ u)


def test_covariance_equals_the_original_and_is_one():
    generator = np.random.default_rng(0)
    for _ in range(300):
        basis, diagonal = generator.random((3, 3)), generator.random(3)
        ours = absolute_covariance(basis.tolist(), diagonal.tolist())
        np.testing.assert_allclose(ours, original(basis, diagonal), atol=1e-9)
        assert np.linalg.eigvalsh(ours).min() > -1e-12


def test_drawn_covariances_are_distributed_as_the_original():
    drawing, generator = torch.Generator().manual_seed(0), np.random.default_rng(1)
    ours = np.array([draw_covariance(drawing, 25.0) for _ in range(3000)])
    theirs = np.array([original(generator.random((3, 3)), generator.random(3)) for _ in range(3000)]) * (25 / 255) ** 2
    for moment in (lambda values: values, np.square):
        a, b = moment(ours), moment(theirs)
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 3000)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error).all()
