r"""Classes as Gaussians with one diagonal covariance, beside what CLIP believes of each image.

With means $\mu_k$, variances $\Sigma$ and a belief $\hat y_i$, the assignment of an image is

$$z_{ik} \propto \hat y_{ik}^\lambda
    \exp\bigl(-\tfrac12 \lVert x_i - \mu_k \rVert^2_{\Sigma^{-1}}
    + \textstyle\sum_j w_{ij} z_{jk}\bigr)$$

where $w$ ties an image to its nearest ones (TransCLIP Eq. 8; StatA has the same). What a Gaussian
says of an image is linear in it: the square of the image is the same for all classes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.head import Head
from clipcore.propagation import nearest, sparse

NEIGHBOURS = 3
INNER_STEPS = 5
SMALLEST = 1e-3  # of a variance, as a share of that of features in all directions


def gaussian_head(
    means: Float[Tensor, "classes dim"],
    variances: Float[Tensor, " dim"],
    *,
    power: float = 1.0,
) -> Head:
    r"""Return the head with logits $p(x^T \Sigma^{-1} \mu_k - \frac12 \mu_k^T \Sigma^{-1} \mu_k)$.

    Args:
        means: Of the classes.
        variances: Of all classes, in each direction.
        power: $p$, of the densities. Below 1 it allows for directions that are not independent,
            each of which a diagonal covariance takes for evidence of its own.
    """
    weights = power * means / variances
    return Head(weights, 1.0, -0.5 * (weights * means).sum(dim=1))


def sum_of(one: Head, two: Head, *, weight: float = 1.0) -> Head:
    """Return the head whose logits are those of `one`, and `weight` times those of `two`."""
    matrix = one.logit_scale * one.embeddings + weight * two.logit_scale * two.embeddings
    biases = [
        factor * head.bias for head, factor in ((one, 1.0), (two, weight)) if head.bias is not None
    ]
    return Head(matrix, 1.0, torch.stack(biases).sum(dim=0) if biases else None)


def ties(features: Float[Tensor, "images dim"], *, k: int = NEIGHBOURS) -> Tensor:
    """Return the symmetric sparse matrix of cosines with the nearest images.

    Two images that are each among the other's nearest have their cosine, others half of it.
    """
    cosines, others = nearest(features, k=k)
    own = torch.arange(len(features))[:, None].expand_as(others)
    one_way = torch.stack([own.flatten(), others.flatten()])
    values = cosines.clamp(min=0).flatten() / 2
    pairs = torch.cat([one_way, one_way.flip(0)], dim=1)
    return sparse(pairs, values.repeat(2), len(features))


def assign(
    logits: Float[Tensor, "images classes"],
    graph: Tensor,
    start: Float[Tensor, "images classes"],
    *,
    steps: int = INNER_STEPS,
) -> Float[Tensor, "images classes"]:
    """Return the assignments that the logits and the assignments of the nearest images give.

    Args:
        logits: The logarithms of beliefs and likelihoods, up to a number for each image.
        graph: What `ties` returned.
        start: Assignments to begin with.
        steps: How often neighbours are asked again.
    """
    assigned = start
    for _ in range(steps):
        assigned = (logits + torch.sparse.mm(graph, assigned)).softmax(dim=1)
    return assigned


def sizes_and_means(
    features: Float[Tensor, "images dim"], assigned: Float[Tensor, "images classes"]
) -> tuple[Float[Tensor, " classes"], Float[Tensor, "classes dim"]]:
    """Return how many images each class has, in all, and their mean; zeros where it has none."""
    sizes = assigned.sum(dim=0)
    sums = assigned.T @ features
    return sizes, sums / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)[:, None]


def squared_distances(
    features: Float[Tensor, "images dim"],
    assigned: Float[Tensor, "images classes"],
    means: Float[Tensor, "classes dim"],
) -> Float[Tensor, " dim"]:
    r"""Return $\sum_{ik} z_{ik} (x_i - \mu_k)^2$ in each direction, without a tensor of all three.

    $\sum_{ik} z_{ik} (x_i^2 - 2 x_i \mu_k + \mu_k^2)$, in double precision.
    """
    x, z, mu = features.double(), assigned.double(), means.double()
    squares = (z.sum(dim=1) @ x**2) - 2 * ((z.T @ x) * mu).sum(dim=0) + z.sum(dim=0) @ mu**2
    return squares.clamp(min=0).to(features.dtype)


def at_least(variances: Float[Tensor, " dim"]) -> Float[Tensor, " dim"]:
    """Return variances of which none is so small that one direction decides everything."""
    return variances.clamp(min=SMALLEST / len(variances))
