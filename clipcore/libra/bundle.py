"""A folder that is served: Libra's own tensors and the tower that it sees by, safetensors and JSON.

The language model is no part of it, unless somebody wants that: it is known by the hash of its
weights, and whoever loads the folder says where it is. Another one is refused, and so is its like
with another tokenizer: the tokens of all sentences stand in the description.

Weights stay fp32, so that answers are bit for bit what they were: in fp16 they are 11 MB in place
of 23 (SmolLM2-135M, vision from layer 24), but 2 of 250 photos change their class.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from clipcore import checkpoint, tower_files
from clipcore.backbone import VisualTower
from clipcore.description import read_description, write_description
from clipcore.libra.captions import TOKENIZER, Vocabulary, write_captions
from clipcore.libra.language import INDEX, Language, load
from clipcore.libra.model import Design, Libra
from clipcore.libra.served import LibraModel
from clipcore.libra.shape import CONFIG, read_ends
from clipcore.libra.source import (
    LANGUAGE,
    Source,
    find_source,
    read_sentences,
    sentence_tokens,
)
from clipcore.libra.speaker import Wording
from clipcore.tower_files import TowerParts

KIND = "libra"
WEIGHTS = "weights.safetensors"


def save_model(  # noqa: PLR0913  # what a model is made of
    folder: Path,
    model: Libra,
    *,
    classes: Sequence[str],
    template: str,
    vocabulary: Vocabulary,
    tower: TowerParts,
    language: Mapping[str, Any],
    facts: Mapping[str, Any],
    attached: Sequence[Mapping[str, Any]] = (),
    include: Path | None = None,
) -> None:
    """Write what was learned, with the tower that it was learned by.

    Args:
        folder: Target folder; created if absent.
        model: What was learned.
        classes: The names.
        template: The sentence that was learned of them; see `write_captions`.
        vocabulary: The language model's.
        tower: Whose maps of features were learned.
        language: The language model's `name`, and `sha256` as it was loaded.
        facts: The model's origin; any JSON values.
        attached: Arguments of `adapters.attach` for each adapter of the tower, innermost first.
        include: Folder of the language model, to be copied; by default it is left where it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(checkpoint.to_bytes(model.tensors(), {}))
    described = tower_files.save_tower(folder, 0, tower, attached)
    if include is not None:
        copy_language(include, folder / LANGUAGE)
    known = {
        "name": str(language["name"]),
        "sha256": str(language["sha256"]),
        "shape": asdict(model.language.shape),
        "tokens": sentence_tokens(vocabulary, write_captions(vocabulary, classes, template)),
        "included": include is not None,
    }
    write_description(
        folder,
        kind=KIND,
        classes=list(classes),
        template=template,
        design=asdict(model.design),
        tower=described,
        language=known,
        members=[WEIGHTS, tower_files.file_of(0)],
        facts=dict(facts),
    )


def load_model(
    folder: Path, *, language: Path | None = None, device: str | torch.device = "cpu"
) -> LibraModel:
    """Load a folder of `save_model`.

    Args:
        folder: Of the model.
        language: Folder of the language model; not looked at where the model has its own.
        device: Of all parts.

    Raises:
        BrokenModel: a file is missing or incomplete, or the folder holds another kind of model.
        UnsupportedLanguage: the language model is another one, or none is named.
    """
    description = read_description(folder, KIND)
    source = find_source(folder, description["language"], language)
    classes = tuple(description["classes"])
    written = read_sentences(source, classes, description["template"])
    wording = Wording(classes, *written, ends=read_ends(source.folder))
    design = Design(**description["design"])
    libra = _libra(folder, _language(source), design).to(device)
    return LibraModel(libra, load_tower(folder).to(device), wording)


def load_tower(folder: Path) -> VisualTower:
    """Return the tower of a folder of `save_model`; the language model need not be there.

    Raises:
        BrokenModel: as `load_model`.
    """
    return tower_files.load_tower(folder, 0, read_description(folder, KIND)["tower"])


def copy_language(source: Path, target: Path) -> None:
    """Copy what coft reads of a language model in transformers' layout, and nothing else."""
    target.mkdir(parents=True, exist_ok=True)
    names = [CONFIG, TOKENIZER, *([INDEX] if (source / INDEX).is_file() else [])]
    for path in (*(source / name for name in names), *sorted(source.glob("*.safetensors"))):
        shutil.copyfile(path, target / path.name)


def _language(source: Source) -> Language:
    language = load(source.folder)
    if (found := language.sha256()) != source.known["sha256"]:
        raise source.refused(f"found {found[:12]}")
    return language


def _libra(folder: Path, language: Language, design: Design) -> Libra:
    """Return the vision system on its language model.

    Raises:
        BrokenModel: the weights are missing, incomplete, or of another design.
    """
    try:
        return Libra.restored(language, design, checkpoint.read(str(folder / WEIGHTS))[0])
    except (OSError, SafetensorError, RuntimeError) as error:
        raise tower_files.incomplete(folder, error) from error
