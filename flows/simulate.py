"""Rounds of questions that a labelled data set answers: is a strategy worth its labels?"""

from prefect import flow

from tasks.active.simulate import SimulationRef, check_simulation, simulate_rounds
from tasks.active.start import StartRef
from tasks.adapt import adapt_peers
from tasks.embed import embed_pool, find_backbone
from tasks.label import label_zero_shot, most_confident
from tasks.pool import open_pool
from tasks.publish import tracked
from tasks.specs import SimulationSpec


@flow(name="simulate")
def simulate(spec: SimulationSpec) -> SimulationRef:
    """Run the active rounds of https://arxiv.org/abs/2602.04340 against labels that are held back.

    Every strategy meets the same start, the same learner and the same seeds.
    """
    check_simulation(spec)
    run_spec = spec.active.run
    backbone = find_backbone(run_spec.backbone)
    pool = open_pool(run_spec.pool, run_spec.runtime)
    with tracked(run_spec, pool, backbone) as run:
        images = embed_pool(pool, backbone, run_spec)
        zero_shot = label_zero_shot(images, pool, backbone, run_spec)
        start = StartRef(features=images, zero_shot=zero_shot)
        if spec.active.start == "phase1":
            confident = most_confident(zero_shot, images, pool, run_spec)
            peer = adapt_peers(confident, pool, backbone, run_spec, run)[0]
            features = embed_pool(pool, backbone, run_spec, peer=peer)
            start = StartRef(features=features, zero_shot=zero_shot, peer=peer)
        return simulate_rounds(start, pool, backbone, spec)
