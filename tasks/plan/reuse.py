"""What earlier runs in a workspace left for a run: found from names and manifests, not computed."""

from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clipcore import backbone_names
from tasks.answers.record import FOLDER
from tasks.plan.facts import Reused
from tasks.pool.entries import digest_of
from tasks.pool.understood import Understood
from tasks.specs import COLUMN, FOLDERS, CoftSpec, PoolSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash, names_in
from tasks.storage.finished_runs import steps_so_far
from tasks.storage.layout import RUNS, Folder, in_workspace
from tasks.storage.manifest import Manifest, read_manifest
from tasks.storage.tables import count_rows, read_facts
from tasks.storage.uris import join

READERS = 16  # threads that look into footers
_NOT_ASKED = {"runtime", "command", "pool", "answers", "templates", "register_as"}  # itself


def digest_of_run(spec: CoftSpec, aim: str, found: Understood, model: str | None) -> str:
    """Return what tells a run from others that would make other files: equal runs, equal steps.

    Args:
        spec: What was asked for; where it runs and how its input is called does not count.
        aim: What is to come of it.
        found: The images and the classes.
        model: A version of the registry or a folder, in place of the backbone.
    """
    settings, labels = spec.model_dump(mode="json", exclude=_NOT_ASKED), spec.pool.labels
    return fingerprint(
        aim,
        settings,
        digest_of_images(found, spec.pool),
        found.classes.names,
        labels if labels in (None, COLUMN, FOLDERS) else content_hash(labels),
        spec.pool.label_columns,
        None if spec.answers is None else _version_of_answers(spec.answers),
        [content_hash(file) for file in (spec.templates, spec.sentences.file) if file],
        model or _version_of_backbone(spec.backbone.name),
    )


def find_reused(spec: CoftSpec, found: Understood, digest: str, backbone: str | None) -> Reused:
    """Return what is there already.

    Args:
        spec: What was asked for.
        found: The images.
        digest: What `digest_of_run` returned.
        backbone: Its name; None for a model, whose towers only it knows.
    """
    workspace = spec.runtime.workspace
    pool = in_workspace(workspace, Folder.POOL, digest_of_images(found, spec.pool))
    images = read_manifest(pool)
    stores = [] if backbone is None else _stores(workspace, backbone)
    of_these = (
        0 if images is None else max((_of_images(store, images) for store in stores), default=0)
    )
    return Reused(
        images=images is not None,
        embeddings=of_these or sum(map(_size, stores)),
        of_these=of_these > 0,
        steps=tuple(steps_so_far(workspace, digest)),
    )


def digest_of_images(found: Understood, spec: PoolSpec) -> str:
    """Return the name of the folder of these images in a workspace."""
    return digest_of(found.sources, spec, is_split=bool(found.split_folders))


# --- embeddings -----------------------------------------------------------------------------------


def _stores(workspace: str, backbone: str) -> list[str]:
    """Return the folders of the features of a backbone's own tower.

    Its weights may have changed under its name: there is one for each that was used.
    """
    home = in_workspace(workspace, Folder.EMBEDDINGS)
    stores = [join(home, tower) for tower in sorted(names_in(home))]
    with ThreadPoolExecutor(READERS) as readers:
        facts = readers.map(_facts_of, stores)
        own = {"backbone": backbone, "learned": ""}
        return [store for store, said in zip(stores, facts, strict=True) if own.items() <= said]


def _facts_of(store: str) -> AbstractSet[tuple[str, str]]:
    part = next((name for name in sorted(names_in(store)) if name.startswith("part-")), None)
    return set() if part is None else read_facts(join(store, part)).items()


def _of_images(store: str, images: Manifest) -> int:
    """Return how many of some images have features, as far as a finished run has said so."""
    run = read_manifest(join(store, RUNS, str(images.facts["content"])))
    return 0 if run is None else run.rows


def _size(store: str) -> int:
    """Return the rows of a store: what finished runs say, and the footers of other parts."""
    known: dict[str, int] = {}
    for run in sorted(names_in(join(store, RUNS))):
        manifest = read_manifest(join(store, RUNS, run))
        known |= {part.name: part.rows for part in manifest.parts} if manifest else {}
    parts = {name for name in names_in(store) if name.startswith("part-")}
    with ThreadPoolExecutor(READERS) as readers:
        others = readers.map(count_rows, [join(store, name) for name in sorted(parts - set(known))])
        return sum(known[name] for name in parts & set(known)) + sum(others)


# --- versions of what is given --------------------------------------------------------------------


def _version_of_answers(uri: str) -> str | list[str]:
    """Return what changes with the answers in a folder of rounds, or with a file."""
    return sorted(names_in(join(uri, FOLDER))) or content_hash(uri)  # named by their content


def _version_of_backbone(name: str) -> list[object]:
    """Return what changes with the files of a backbone on this machine; a published one's name."""
    source, _ = backbone_names.resolve(name)
    if not source.startswith("local-dir:"):
        return [name]
    files = sorted(Path(source.removeprefix("local-dir:")).iterdir())
    return [name, *([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)]
