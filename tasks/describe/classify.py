"""Who says what the images show: CLIP's own zero-shot, or a registered classifier."""

from tasks.backbone import find_backbone
from tasks.describe.specs import DescribeSpec
from tasks.embed import embed_pool
from tasks.features.towers import Tower, tower_of, towers_of
from tasks.label.confident import most_confident
from tasks.label.zero_shot import label_zero_shot
from tasks.predict import predict_pool
from tasks.refs import ImagesRef, LabelsRef, PredictionsRef, TaskRef
from tasks.specs import InputError
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.uris import join, redact
from tasks.tracking.registry_model import find_model

MODEL = "model"  # the source of labels that a classifier gave
Classified = tuple[LabelsRef | PredictionsRef, LabelsRef, Tower]


def classify(images: ImagesRef, task: TaskRef, spec: DescribeSpec) -> Classified:
    """Return what a classifier says of all images, what of it is kept, and a tower that sees them.

    Raises:
        InputError: the classifier has other classes.
    """
    labelling = spec.labelling
    if spec.model is not None:
        model = find_model(spec.model, spec.runtime)
        known = read_json(join(model.uri, DESCRIPTION))["classes"]
        check_classes(known, task.classes, spec.model)
        predictions = predict_pool(model, images, labelling)
        said = LabelsRef(
            uri=predictions.uri, digest=predictions.digest, rows=predictions.rows, source=MODEL
        )
        clean = most_confident(said, None, images, task, labelling)
        return predictions, clean, towers_of(model)[0]
    backbone = find_backbone(spec.backbone, spec.runtime)
    embeddings = embed_pool(images, backbone, labelling)
    zero_shot = label_zero_shot(embeddings, images, task, backbone, labelling)
    clean = most_confident(zero_shot, embeddings, images, task, labelling)
    return zero_shot, clean, tower_of(backbone)


def check_classes(known: list[str], classes: tuple[str, ...], model: str) -> None:
    """Refuse a classifier that sorts into other classes than captions are about.

    Raises:
        InputError: names one of them.
    """
    if other := sorted(set(known) ^ set(classes)):
        who = "the model" if other[0] in known else "--classes"
        raise InputError(
            f"--model {redact(model)}: expected the {len(classes)} classes of --classes, but only "
            f"{who} has {other[0]!r}; give the list that the model was made with."
        )
