"""How many labels of the pool are right after propagation, by `alpha`, neighbours and features.

    python -m tests.bench.propagation_table --data digits --balance long-tail --cache C --out O

Takes the options of `tests.bench.label_trials`, runs Phase I as it does, and prints the table
of one pool.
"""

import sys
from itertools import product

import torch

from tests.bench import trial_steps as steps
from tests.bench.label_trials import parsed
from tests.bench.trial import Trial

NUM_NEIGHBOURS, ALPHAS = (5, 10, 20), (0.8, 0.9, 0.99)


def main() -> None:
    """Print the table of one pool."""
    trial = Trial(parsed())
    images, pool, spec = trial.images, trial.pool, trial.spec
    zero_shot = steps.zero_shot_head(trial.backbone, images, spec).probabilities(images.features)
    confident = steps.confident_rows(zero_shot[pool], spec)
    peers = steps.adapt_peers(
        images, [confident] * 2, spec, trial.options.cache, trained=trial.options.peers
    )
    belief = torch.stack([peer.posterior for peer in peers]).mean(dim=0)
    tuned = [peer.features for peer in peers]
    views = {"peers": tuned, "and zero-shot": [*tuned, images.features]}
    views["zero-shot alone"] = [images.features]
    sys.stdout.write(f"| Phase I: {_right(trial, belief)} | {' | '.join(map(str, ALPHAS))} |\n")
    sys.stdout.write("|---" * (len(ALPHAS) + 1) + "|\n")
    for (name, features), k in product(views.items(), NUM_NEIGHBOURS):
        cells = [f"{name}, {k}"]
        for alpha in ALPHAS:
            trial.options.k, trial.options.alpha = k, alpha
            cells.append(_right(trial, trial.spread(features, belief)))
        sys.stdout.write(f"| {' | '.join(cells)} |\n")


def _right(trial: Trial, posterior: torch.Tensor) -> str:
    said = posterior[trial.pool].argmax(dim=1)
    return f"{(said == trial.images.labels[trial.pool]).float().mean():.3f}"


if __name__ == "__main__":
    main()
