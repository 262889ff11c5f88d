"""Class sentences that a person has chosen: used as they are, and not weighed again."""

from tasks.progress import say
from tasks.refs import BackboneRef, SentencesRef, TaskRef
from tasks.sentences import candidates
from tasks.sentences.checks import TEMPLATES
from tasks.sentences.record import FILE, Record, digest_of
from tasks.sentences.sentence_file import read_record_of, read_sentence_file
from tasks.sentences.words import reasons
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_json
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join, redact


@step("given sentences")
def given_sentences(task: TaskRef, backbone: BackboneRef, spec: CoftSpec) -> SentencesRef | None:
    """Write the class sentences of a person's file as a stage; None where none was named.

    A class that the file does not have keeps the plain templates.

    Raises:
        InputError: it is no such file, or has nothing about any of the classes.
    """
    if spec.templates is None:
        return None
    plain = candidates.plain(task.classes, spec.label.templates)
    found = read_sentence_file(spec.templates, task.classes, spec.label.templates, TEMPLATES)
    sentences = found.complete(plain)
    why = f"{redact(spec.templates)}, about {len(found.own):,} of {len(plain):,} classes"
    record = Record(chosen=found.name, why=why, backbone=backbone.name, sentences=sentences)
    if before := read_record_of(spec.templates, TEMPLATES):
        record = before.model_copy(update={"sentences": sentences})
    digest = fingerprint(Folder.SENTENCES, "given", task.classes, record)
    folder = in_workspace(spec.runtime.workspace, Folder.SENTENCES, digest)

    def write() -> Outcome:
        write_json(join(folder, FILE), record)
        return Outcome((), {"chosen": record.chosen})

    manifest, resumed = once(
        folder, kind=Folder.SENTENCES, digest=digest, label="Given sentences", compute=write
    )
    rest = len(plain) - len(found.own)
    more = f"; the other {rest:,} keep the templates" if rest else ""
    if record.backbone != backbone.name:
        more += f"; they were chosen with {record.backbone}"
    more += f"; dropped {reasons(found.dropped)}" if found.dropped else ""
    say(f"Class sentences: {why}{more}")
    return SentencesRef(
        uri=folder,
        file=join(folder, FILE),
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        chosen=record.chosen,
        content="" if sentences == plain else digest_of(sentences, task.classes),
    )
