"""Make the weights of the backbone "glyph"; see `clipcore.embedded.recipe`."""

import argparse
from pathlib import Path

import torch
from rich.console import Console

from clipcore.embedded.recipe.training import STEPS, save, train

_REPORT_EVERY = 100  # steps


def main() -> None:
    """Train with one thread, so that the weights do not depend on the number of cores."""
    parser = argparse.ArgumentParser(prog="python -m clipcore.embedded.recipe", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    console = Console()

    def report(step: int, loss: float) -> None:
        if (step + 1) % _REPORT_EVERY == 0:
            console.print(f"step {step + 1} of {options.steps}: loss {loss:.3f}")

    torch.set_num_threads(1)
    save(train(options.seed, steps=options.steps, on_step=report), options.output)
    console.print(f"weights: {options.output}")


if __name__ == "__main__":
    main()
