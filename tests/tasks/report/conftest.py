"""Two peers that were really trained, and a run of drawn images to report on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.backbone import describe
from tasks.compute.epochs import train_here
from tasks.phase1 import PeerJob, PeerTrainer
from tasks.phase2 import NetworkJob, NetworkTrainer
from tasks.refs import BackboneRef, PeerRef, Reason
from tasks.specs import AdapterSpec, BackboneSpec, Phase1Spec, Phase2Spec, PromptSpec
from tests.tasks.read_page import Page
from tests.tasks.report.made_run import CLASSES, Pictures, Run, draw_pictures, page_of

PEERS = (1, 2)
PHASE1 = Phase1Spec(
    epochs=2,
    min_steps=0,
    batch_size=8,
    prompts=PromptSpec(num_context_tokens=2),
    adapter=AdapterSpec(num_visual_prompts=2),
)
PHASE2 = Phase2Spec(epochs=2, batch_size=8, wise_alphas=(0.0, 1.0))
FATES = (Reason.KEPT, Reason.HELD_OUT, Reason.REJECTED)


@pytest.fixture(scope="session")
def backbone(tiny_clip: Path) -> BackboneRef:
    return describe(BackboneSpec(name=f"local-dir:{tiny_clip}"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return draw_pictures(tmp_path_factory.mktemp("shapes"), len(CLASSES), 24)


@pytest.fixture(scope="session")
def peers(tmp_path_factory: pytest.TempPathFactory, backbone: BackboneRef) -> tuple[PeerRef, ...]:
    """Train two peers through both phases, two epochs each."""
    folder = tmp_path_factory.mktemp("trained")
    few = draw_pictures(folder / "images", len(CLASSES), 3)
    run = Run(folder, backbone, few, fate=lambda index: FATES[index % len(FATES)])
    spec = run.spec.model_copy(update={"phase1": PHASE1, "phase2": PHASE2})
    about = {"images": run.images(), "task": run.task()}
    confident, clean = run.confident(), run.clean()
    refs = []
    for peer, labels in zip(PEERS, clean, strict=True):
        first = PeerRef(uri=str(folder / f"phase1-{peer}"), digest=f"{peer}", peer=peer, phase=1)
        shared = {"peer": peer, "backbone": backbone, **about, "seed": 0, "flip": True}
        limits = {"limits": spec.pool}
        job = PeerJob(
            folder=first.uri,
            digest=first.digest,
            confident=confident,
            spec=PHASE1,
            **shared,
            **limits,
        )
        train_here(PeerTrainer, job)
        second = PeerRef(uri=str(folder / f"phase2-{peer}"), digest=f"{peer}", peer=peer, phase=2)
        job2 = NetworkJob(
            folder=second.uri,
            digest=second.digest,
            clean=labels,
            start=first,
            spec=PHASE2,
            batch_size=8,
            **shared,
            **limits,
        )
        train_here(NetworkTrainer, job2)
        refs += [first, second]
    return tuple(ref.model_copy(update={"seconds": 75.0 / ref.phase}) for ref in refs)


@pytest.fixture
def make_run(
    tmp_path: Path, backbone: BackboneRef, pictures: Pictures, peers: tuple[PeerRef, ...]
) -> Callable[..., Run]:
    """Return `make(**changes)`: an adapted, labelled run with changed fields."""

    def make(**changes: object) -> Run:
        values = {"backbone": backbone, "pictures": pictures, "peers": peers}
        return Run(**{"folder": tmp_path, **values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run()


@pytest.fixture(scope="module")
def usual(
    tmp_path_factory: pytest.TempPathFactory,
    backbone: BackboneRef,
    pictures: Pictures,
    peers: tuple[PeerRef, ...],
) -> Page:
    """Return the page of an adapted and labelled run."""
    folder = tmp_path_factory.mktemp("usual")
    return page_of(Run(folder, backbone, pictures, peers).inputs())
