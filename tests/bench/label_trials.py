"""Trials of what makes pseudo-labels right more often: coft's steps in one process, on clipcore.

    python -m tests.bench.label_trials --data digits --balance long-tail --consistency
    python -m tests.bench.label_trials --help

Prints one line per run and adds a row to a JSONL file, and to MLflow where it is asked to. True
labels are read to count what is right, by nothing that learns. Pixels and zero-shot features stay
in a cache folder; what every candidate says of the held-out and the test images goes beside the
rows, so that rules of the guard can be compared without training again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipcore.coft import guard
from clipcore.coft.consistency import Consistency
from clipcore.coft.guard import Candidate
from clipcore.fit import resolve_epochs
from clipcore.propagation import ALPHA, NEIGHBOURS, STEPS
from tasks.refs import PEERS
from tests.bench import trial_remedies as remedies
from tests.bench import trial_steps as steps
from tests.bench.measure import say
from tests.bench.trial import Trial
from tests.bench.trial_data import encode

BENCH = Path(__file__).parents[3] / "shared" / "bench"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run one trial and return its row."""
    trial = Trial(options)
    images, spec = trial.images, trial.spec
    posterior = steps.zero_shot_head(trial.backbone, images, spec).probabilities(images.features)
    trial.note("zero-shot", posterior)
    trial.keep("zero-shot", posterior.log())
    if "neighbours-first" in options.remedies:
        posterior = trial.spread([images.features], posterior)
        trial.note("neighbours of zero-shot", posterior)
    confident = _first_labels(trial, posterior[trial.pool])
    subsets = _subsets(confident, options)
    peers = steps.adapt_peers(images, subsets, spec, options.cache, trained=options.peers)
    starts: tuple[steps.Peer, ...] = peers
    for number, peer in enumerate(peers):
        trial.keep(f"phase1-{number}", peer.posterior.log())
    trial.note("phase1", _mean(peers), **trial.precision(*confident))
    current = [peer.posterior for peer in peers]
    features = [peer.features for peer in peers]
    if not options.iterations:
        _labels_of(trial, 0, starts, current, features)
    for iteration in range(options.iterations):
        current, features = _phase2(trial, iteration, starts, current, features)
    trial.row["seconds"] = round(time.process_time(), 1)
    return _written(trial)


def _first_labels(trial: Trial, posterior: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and labels for Phase I: the surest of each class, or clusters of more of them."""
    share = trial.options.diverse
    if not share:
        return steps.confident_rows(posterior, trial.spec, share=trial.options.share)
    surest = steps.confident_rows(posterior, trial.spec, more=1 / share)
    features, seed = trial.images.features, trial.options.seed
    return remedies.diverse(surest, posterior, features, share=share, seed=seed)


def _subsets(
    confident: tuple[Tensor, Tensor], options: argparse.Namespace
) -> list[tuple[Tensor, Tensor]]:
    """Return what each peer learns from: the same, or with cross-fitting a half each."""
    if "crossfit" not in options.remedies:
        return [confident, confident]
    rows, labels = confident
    return [(rows[half::2], labels[half::2]) for half in (0, 1)]


def _mean(peers: "tuple[steps.Peer, ...]") -> Tensor:
    return torch.stack([peer.posterior for peer in peers]).mean(dim=0)


def _labels_of(
    trial: Trial,
    iteration: int,
    starts: "tuple[steps.Peer, ...]",
    current: list[Tensor],
    features: list[Tensor],
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return rows and labels for each network, and the posterior that gives the class prior."""
    pool, images, asked = trial.pool, trial.images, trial.options.remedies
    own = [posterior[pool].argmax(dim=1) for posterior in current]
    belief = torch.stack(current).mean(dim=0)
    known = [images.features] if "zero-shot-features" in asked else []
    spread = trial.spread([*features, *known], belief)
    trial.note(f"neighbours-{iteration + 1}", spread)
    trial.keep(f"neighbours-{iteration + 1}", spread.log())
    if "neighbours" in asked or "agree" in asked:
        belief = spread
    said = belief[pool].argmax(dim=1)
    labels = [said, said] if "neighbours" in asked else own
    kept = steps.cross_filtered(labels, starts, images, trial.spec)
    if "all" in asked:
        kept = [~images.is_held_out] * 2
    if "agree" in asked:
        kept = [keep & (said == label) for keep, label in zip(kept, own, strict=True)]
    if "class-thresholds" in asked:
        kept = [
            keep & remedies.is_sure(belief[pool], label)
            for keep, label in zip(kept, labels, strict=True)
        ]
    chosen = [
        (keep.nonzero(as_tuple=True)[0], label[keep])
        for keep, label in zip(kept, labels, strict=True)
    ]
    return chosen, belief


def _phase2(
    trial: Trial,
    iteration: int,
    starts: "tuple[steps.Peer, ...]",
    current: list[Tensor],
    features: list[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Run Phase II once; return both networks' posteriors and features of all images."""
    chosen, belief = _labels_of(trial, iteration, starts, current, features)
    trainings = [steps.start_training(peer) for peer in starts]
    helpers = [_helper(trial, training, belief) for training in trainings]
    optimizers = [steps.new_optimizer(training, trial.spec) for training in trainings]
    averages = [
        remedies.Averages(training.network, optimizer, trial.options.averages)
        for training, optimizer in zip(trainings, optimizers, strict=True)
    ]
    candidates = [_phase1_candidate(trial, starts)]
    epochs = _epochs(trial, chosen)
    for epoch in range(epochs):
        name = f"phase2-{iteration + 1} epoch {epoch + 1}"
        for place, training in enumerate(trainings):
            row = steps.finetune(
                training,
                PEERS[place],
                trial.images,
                chosen[place],
                trial.spec,
                optimizer=optimizers[place],
                epochs=(epoch, epochs),
                unlabeled=helpers[place],
            )
            trial.row[f"{name} losses {place}"] = {k: round(v, 4) for k, v in row.items()}
        candidates += _judge(trial, name, epoch, trainings, _mean_precision(trial, chosen))
        if helpers[0] is not None:
            _judge_teachers(trial, name, helpers)
        if trial.options.averages:
            _judge_averages(trial, name, averages)
        if not epoch and trial.options.small_losses is not None:
            networks, share = [one.network for one in trainings], trial.options.small_losses
            chosen = remedies.without_large_losses(networks, chosen, trial.images, share=share)
    _note_guard(trial, f"guard-{iteration + 1}", candidates)
    seen = [encode(one.network.eval(), trial.images.pixels).clone() for one in trainings]
    with torch.no_grad():
        logits = [one.network.logits(mine) for one, mine in zip(trainings, seen, strict=True)]
    return [one.softmax(dim=1) for one in logits], seen


def _phase1_candidate(trial: Trial, starts: "tuple[steps.Peer, ...]") -> tuple[Candidate, float]:
    candidate = trial.candidate(guard.PHASE_1, 0.0, _mean(starts)[trial.judged])
    return candidate, float(trial.row["phase1"]["test"])


def _mean_precision(trial: Trial, chosen: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    one, two = (trial.precision(*labeled) for labeled in chosen)
    return {name: (value + two[name]) / 2 for name, value in one.items()}


def _judge_averages(trial: Trial, name: str, averages: list[remedies.Averages]) -> None:
    said = [one.logits(trial.images.pixels[trial.judged]) for one in averages]
    for average, logits in said[0].items():
        both = [logits, said[1][average]]
        for place, mine in enumerate(both):
            trial.keep(f"{name} {average} {place}", mine)
        mean = torch.stack([mine.softmax(dim=1) for mine in both]).mean(dim=0)
        trial.note(f"{name} {average}", mean)


def _epochs(trial: Trial, chosen: list[tuple[Tensor, Tensor]]) -> int:
    phase2, num_pool = trial.spec.phase2, int((~trial.images.is_held_out).sum())
    longest = max(len(rows) for rows, _ in chosen)
    return resolve_epochs(
        phase2.epochs,
        num_samples=num_pool if "consistency" in trial.options.remedies else longest,
        batch_size=phase2.batch_size,
        min_steps=trial.options.min_steps,
    )


def _judge_teachers(trial: Trial, name: str, helpers: "list[Consistency | None]") -> None:
    pixels = trial.images.pixels[trial.judged]
    said = [steps.logits_of(one.teacher, pixels) for one in helpers if one is not None]
    for place, logits in enumerate(said):
        trial.keep(f"{name} teacher {place}", logits)
    mean = torch.stack([logits.softmax(dim=1) for logits in said]).mean(dim=0)
    sure = [float(one.share_sure) for one in helpers if one is not None]
    trial.note(f"{name} teacher", mean, sure=float(np.mean(sure)))


def _helper(trial: Trial, training: steps.Training, belief: Tensor) -> Consistency | None:
    options = trial.options
    if "consistency" not in options.remedies:
        return None
    pool = belief[trial.pool]
    prior = pool.mean(dim=0) if options.prior == "soft" else torch.ones(pool.shape[1])
    return Consistency(
        training.network,
        prior=prior / prior.sum(),
        weight=options.weight,
        momentum=options.momentum,
        threshold=options.threshold,
        per_class="per-class" in options.remedies,
        flip=trial.spec.flip,
    )


def _judge(
    trial: Trial,
    name: str,
    epoch: int,
    trainings: list[steps.Training],
    means: dict[str, float],
) -> list[tuple[Candidate, float]]:
    """Note an epoch; return the guard's candidates, and how right each is on the test images."""
    pixels, num_out = trial.images.pixels[trial.judged], trial.num_held_out
    alphas = sorted({*trial.spec.phase2.wise_alphas, 1.0} - {0.0})
    said = [steps.mixed_logits(training, alphas, pixels) for training in trainings]
    truth, found = trial.images.labels[trial.judged], []
    for one, two, alpha in zip(*said, alphas, strict=True):
        for place, logits in enumerate((one, two)):
            trial.keep(f"{name} alpha {alpha} {place}", logits)
        mean = (one.softmax(dim=1) + two.softmax(dim=1)) / 2
        right = float((mean.argmax(dim=1) == truth)[num_out:].float().mean())
        found.append((trial.candidate(epoch, alpha, mean), right))
        if alpha == 1:
            trial.note(name, mean, **means, coherence=found[-1][0].coherence)
    return found


def _note_guard(trial: Trial, name: str, candidates: list[tuple[Candidate, float]]) -> None:
    choices = [candidate for candidate, _ in candidates]
    best = guard.choose(choices, num_images=trial.num_held_out)
    right = dict(candidates)
    trial.row[name] = {
        "epoch": best.epoch + 1,
        "alpha": best.alpha,
        "test": round(right[best], 4),
        "best": round(max(right.values()), 4),
        "all": [[one.epoch, one.alpha, round(one.coherence, 4), v] for one, v in candidates],
    }
    say(f"  {name}: { ({k: v for k, v in trial.row[name].items() if k != 'all'}) }")


def _written(trial: Trial) -> dict[str, Any]:
    options, row = trial.options, trial.row
    row["name"] = f"{options.data}-{options.balance}-{options.seed}-{time.time_ns() // 10**6}"
    options.out.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {
        **trial.kept,
        "features": trial.unread.half().numpy(),
        "held_out": trial.images.labels[trial.pool][trial.images.is_held_out].numpy(),
        "test": trial.images.labels[trial.pool.stop :].numpy(),
    }
    np.savez_compressed(options.out / f"{row['name']}.npz", **kept)
    with (options.out / f"{options.data}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    if options.mlflow:
        _log(row, options.mlflow)
    return row


def _log(row: dict[str, Any], uri: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("label trials")
    with mlflow.start_run(run_name=row["name"]):
        mlflow.log_params(row["options"])
        for stage, values in row.items():
            if isinstance(values, dict) and stage != "options":
                numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
                mlflow.log_metrics({f"{stage}.{name}": v for name, v in numbers.items()})


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", default="digits", choices=["digits", "tiny25", "cifar10"])
    add("--balance", default="balanced", choices=["balanced", "long-tail", "absent"])
    add("--seed", type=int, default=0)
    add("--pool", type=int, help="images of the pool; by default all")
    add("--test", type=int, help="images of the test split; by default all")
    add("--epochs", type=int, help="of Phase II; by default coft's")
    add("--iterations", type=int, default=1, help="of labels and Phase II")
    add(
        "--remedies",
        default="",
        type=lambda text: tuple(name for name in text.split(",") if name),
        help="of neighbours-first, crossfit, neighbours, zero-shot-features, agree, all, "
        "class-thresholds, consistency, per-class",
    )
    add("--diverse", type=float, help="first labels: this share of the surest, by clusters")
    add("--share", type=float, default=1.0, help="first labels: at most this share of a class")
    add("--averages", type=float, nargs="*", default=[], help="momenta of averages of weights")
    add(
        "--small-losses",
        type=float,
        help="of a class, the share of labels that stay after an epoch; 0: by a mixture",
    )
    add("--learning-rate", type=float, help="of the tower in Phase II; by default coft's")
    add("--min-steps", type=int, default=0, help="raise Phase II's epochs until this many")
    add("--alphas", type=float, nargs="*", help="mixes with the start; by default coft's")
    add("--k", type=int, default=NEIGHBOURS)
    add("--steps", type=int, default=STEPS)
    add("--alpha", type=float, default=ALPHA)
    add("--prior", default="soft", choices=["soft", "uniform"])
    add("--weight", type=float, default=1.0)
    add("--momentum", type=float, default=0.99)
    add("--threshold", type=float, default=0.8)
    add("--peers", type=Path, nargs=2, help="folders of Phase I that `coft adapt` trained")
    add("--bench", type=Path, default=BENCH)
    add("--cache", type=Path, required=True)
    add("--out", type=Path, required=True)
    add("--mlflow", help="a tracking URI, such as sqlite:///trials.db")
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parsed())))  # noqa: T201
