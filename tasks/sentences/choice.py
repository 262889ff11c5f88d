"""The class sentences of a run: those that tell the images of the pool apart best."""

from collections.abc import Mapping, Sequence

from clipcore.sentences import PLAIN, Sums, choose
from tasks.progress import say
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, SentencesRef, TaskRef
from tasks.sentences import candidates, words
from tasks.sentences.candidates import Candidate, Sentences
from tasks.sentences.evidence import Judges
from tasks.sentences.pool_senses import PlainHead, choose_senses
from tasks.sentences.record import FILE, Asked, Record, Weighed, digest_of, read_record
from tasks.sentences.synonyms import look_up, of_senses
from tasks.sentences.wordnet.nouns import Sense
from tasks.sentences.written import gather
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join

_PLAIN_FILE, SETS_FILE = "plain.safetensors", "sets.safetensors"


@step("class sentences")
def choose_sentences(
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> SentencesRef:
    """Weigh all sets of class sentences that there are on the pool, and keep the best one.

    The plain templates stay unless a set has a higher mutual information of image and class, and
    no class loses half of its share. No label is used.

    Args:
        embeddings: The images as CLIP's own tower sees them.
        images: Which of them are the pool.
        task: The classes.
        backbone: Whose text tower reads the sentences.
        spec: What was asked for; `sentences` says which sets there are.

    Raises:
        InputError: a file of sentences cannot be used, or an endpoint refuses.
        GaveUp: an endpoint answers nothing at all.
    """
    written = gather(task.classes, spec)
    known = look_up(task.classes) if spec.sentences.synonyms else {}
    digest = fingerprint(
        Folder.SENTENCES,
        embeddings.digest,
        images.digest,
        task.classes,
        spec.label.templates,
        [(candidate.name, candidate.own) for candidate in written.candidates],
        {name: [[sense.synonyms, sense.hypernym] for sense in own] for name, own in known.items()},
    )
    folder = in_workspace(spec.runtime.workspace, Folder.SENTENCES, digest)
    plain = candidates.plain(task.classes, spec.label.templates)

    def compute() -> Outcome:
        judges = Judges(folder, embeddings, images, backbone, spec.runtime)
        synonyms = [_synonyms(judges, plain, known, spec.label.templates)] if known else []
        record = _choose(judges, plain, [*synonyms, *written.candidates], written.asked)
        write_json(join(folder, FILE), record)
        return Outcome((), {"chosen": record.chosen, "images": images.digest})

    manifest, resumed = once(
        folder, kind=Folder.SENTENCES, digest=digest, label="Class sentences", compute=compute
    )
    record = read_record(join(folder, FILE))
    say(f"Class sentences: {record.why}")
    return SentencesRef(
        uri=folder,
        file=join(folder, FILE),
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        chosen=record.chosen,
        content="" if record.chosen == PLAIN else digest_of(record.sentences, task.classes),
    )


def _synonyms(
    judges: Judges,
    plain: Sentences,
    known: Mapping[str, Sequence[Sense]],
    templates: Sequence[str],
) -> Candidate:
    """Return the other words for the classes, in the sense that the pool chooses."""
    doubtful = {name: senses for name, senses in known.items() if len(senses) > 1}
    judges.encode(_PLAIN_FILE, {PLAIN: plain})
    places = tuple(place for place, name in enumerate(plain) if name in doubtful)
    head = PlainHead(judges.folder, _PLAIN_FILE, PLAIN, places)
    first = {name: senses[0] for name, senses in known.items()}
    return of_senses({**first, **choose_senses(doubtful, head, judges, templates)}, templates)


def _choose(
    judges: Judges, plain: Sentences, others: Sequence[Candidate], asked: Asked | None
) -> Record:
    """Return the set that the pool prefers, and the table that says why."""
    found = [Candidate(PLAIN, plain), *(other for other in others if other.own)]
    sets = {candidate.name: candidate.complete(plain) for candidate in found}
    judges.encode(SETS_FILE, sets)
    sums = judges.weigh(SETS_FILE)
    weighed = [_weighed(candidate, sums, list(plain)) for candidate in found]
    chosen = choose(sums)
    return Record(
        chosen=chosen,
        why=words.why(chosen, weighed),
        backbone=judges.backbone.name,
        candidates=tuple(weighed),
        asked=asked,
        sentences=sets[chosen],
    )


def _weighed(candidate: Candidate, sums: Mapping[str, Sums], classes: Sequence[str]) -> Weighed:
    """Return a line of the table."""
    own = sums[candidate.name]
    share, lowest = own.least_share(sums[PLAIN])
    return Weighed(
        name=candidate.name,
        mutual_information=own.mutual_information,
        least_share=share,
        least_class=classes[lowest],
        num_classes=len(candidate.own),
        num_sentences=sum(map(len, candidate.own.values())),
        dropped=dict(candidate.dropped),
    )
