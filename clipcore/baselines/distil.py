"""A linear head that says what a method says, so that it can be served."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.head import Head

STEPS = 100
RIDGE = 1e-5  # of the distance from the start, beside the mean cross-entropy


def distilled(
    features: Float[Tensor, "images dim"],
    targets: Float[Tensor, "images classes"],
    start: Head,
    *,
    ridge: float = RIDGE,
    steps: int = STEPS,
) -> Head:
    r"""Return the linear head whose probabilities come closest to those of a method.

    $$\min_{W, b} -\frac1n \sum_i p_i^T \log \operatorname{softmax}(x_i W^T + b)
        + \rho\, (\lVert W - W_0 \rVert^2 + \lVert b \rVert^2)$$

    by L-BFGS from $W_0$, zero-shot's head. A convex problem: it has one end, whatever the draws.

    Args:
        features: Of the images that the method learned from, normalised.
        targets: $p$, what it says of them.
        start: Where to begin, and what to stay near where images do not decide.
        ridge: $\rho$.
        steps: Of the optimizer, at most.
    """
    first = start.logit_scale * start.embeddings
    weight = first.clone().requires_grad_()
    bias = torch.zeros(len(first), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        said = torch.log_softmax(features @ weight.T + bias, dim=1)
        penalty = (weight - first).square().sum() + bias.square().sum()
        value = -(targets * said).sum(dim=1).mean() + ridge * penalty
        value.backward()
        return value

    optimizer.step(loss)
    return Head(weight.detach(), 1.0, bias.detach())
