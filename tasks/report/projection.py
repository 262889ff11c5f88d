"""A map of images: high-dimensional embeddings laid out on a plane, near ones near."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

MAX_IMAGES = 1200  # about 2 seconds a map on one core
_MIN_TSNE = 100  # t-SNE of fewer points is mostly noise
_PCA_DIM = 50
_ITERATIONS = 400
_PERPLEXITY = 30
NEIGHBOURS = 10


def project(vectors: np.ndarray, *, seed: int) -> tuple[np.ndarray, str]:
    """Lay out vectors of shape (images, dim) on a plane, and name the method.

    t-SNE after a PCA to 50 dimensions; PCA alone for few images. Positions have no unit.
    """
    if len(vectors) < 2 or vectors.shape[1] < 2 or not np.ptp(vectors, axis=0).any():  # noqa: PLR2004
        return np.zeros((len(vectors), 2)), "no map"  # too few, or all alike
    if len(vectors) < _MIN_TSNE:
        return PCA(2, random_state=seed).fit_transform(vectors), "PCA"
    dim = min(_PCA_DIM, *vectors.shape)
    reduced = PCA(dim, random_state=seed).fit_transform(vectors)
    tsne = TSNE(
        2,
        perplexity=_PERPLEXITY,
        init="pca",
        max_iter=_ITERATIONS,
        random_state=seed,
        n_jobs=1,
    )
    with threadpool_limits(1):  # threads that wait for a busy core take many times longer
        return tsne.fit_transform(reduced), "t-SNE"


def neighbour_agreement(vectors: np.ndarray, labels: list[str]) -> float | None:
    """Return the share of each image's 10 nearest neighbours that carry its label, on average.

    Vectors of shape (images, dim) are L2-normalised. None for fewer than 11 images.
    """
    if len(vectors) <= NEIGHBOURS:
        return None
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    names = np.asarray(labels)
    return float((names[nearest] == names[:, None]).mean())
