"""What rounds of questions start from, the same for a person and for a simulation."""

from tasks.active.specs import ActiveSpec
from tasks.active.start import StartRef, check_model
from tasks.embed import embed_pool
from tasks.label.confident import most_confident
from tasks.label.zero_shot import label_zero_shot
from tasks.phase1 import adapt_peers
from tasks.predict import predict_pool
from tasks.refs import BackboneRef, ImagesRef, TaskRef
from tasks.sentences.given import given_sentences
from tasks.tracking.registry_model import find_model
from tasks.tracking.runs import Run


def find_start(
    spec: ActiveSpec, images: ImagesRef, task: TaskRef, backbone: BackboneRef, run: Run
) -> StartRef:
    """Return features of the images and who names the first pseudo-labels.

    By default these are the first peer of CoFT's Phase I, which `coft adapt` in the same workspace
    has trained already; with `start="zero-shot"` CLIP as it is, as in the paper; else a model that
    coft made, by its registry URI or its folder.
    """
    embeddings = embed_pool(images, backbone, spec.run)
    sentences = given_sentences(task, backbone, spec.run)
    zero_shot = label_zero_shot(embeddings, images, task, backbone, spec.run, sentences)
    if spec.start == "zero-shot":
        return StartRef(features=embeddings, zero_shot=zero_shot)
    if spec.start != "phase1":
        model = find_model(spec.start, spec.run.runtime)
        check_model(model, task, backbone)
        features = predict_pool(model, images, spec.run).features[0]
        return StartRef(features=features, zero_shot=zero_shot, model=model)
    confident = most_confident(zero_shot, embeddings, images, task, spec.run)
    peer = adapt_peers([confident], images, task, backbone, spec.run, run)[0]
    features = embed_pool(images, backbone, spec.run, learned=[peer], name=f"peer {peer.peer}")
    return StartRef(features=features, zero_shot=zero_shot, peer=peer)
