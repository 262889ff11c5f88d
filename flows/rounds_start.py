"""What rounds of questions start from, the same for a person and for a simulation."""

from tasks.active.start import StartRef, check_model
from tasks.embed import embed_pool
from tasks.label.confident import most_confident
from tasks.label.zero_shot import label_zero_shot
from tasks.phase1 import adapt_peers
from tasks.predict import features_of, predict_pool
from tasks.refs import BackboneRef, PoolRef
from tasks.specs import ActiveSpec
from tasks.tracking.registry_model import find_model
from tasks.tracking.runs import Run


def find_start(spec: ActiveSpec, pool: PoolRef, backbone: BackboneRef, run: Run) -> StartRef:
    """Return features of the pool and who names the first pseudo-labels.

    By default these are the first peer of CoFT's Phase I, which `coft adapt` in the same workspace
    has trained already; with `start="zero-shot"` CLIP as it is, as in the paper; else a model that
    coft made, by its registry URI or its folder.
    """
    images = embed_pool(pool, backbone, spec.run)
    zero_shot = label_zero_shot(images, pool, backbone, spec.run)
    if spec.start == "zero-shot":
        return StartRef(features=images, zero_shot=zero_shot)
    if spec.start != "phase1":
        model = find_model(spec.start, spec.run.runtime)
        check_model(model, pool, backbone)
        features = features_of(predict_pool(model, pool, spec.run), dim=backbone.embed_dim)
        return StartRef(features=features, zero_shot=zero_shot, model=model)
    confident = most_confident(zero_shot, images, pool, spec.run)
    peer = adapt_peers(confident, pool, backbone, spec.run, run)[0]
    features = embed_pool(pool, backbone, spec.run, learned=[peer], name=f"peer {peer.peer}")
    return StartRef(features=features, zero_shot=zero_shot, peer=peer)
