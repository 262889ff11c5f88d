"""Which sense of a class name the pool speaks for: what its surest images have in common."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.sentences import Near, near_surest, nearest_sense, surest
from clipcore.templates import in_templates
from clipcore.zero_shot import sentence_embeddings
from tasks.backbone import load_backbone
from tasks.compute.calls import run_tasks
from tasks.pool.shards import Shard
from tasks.sentences.evidence import Judges, heads_in
from tasks.sentences.wordnet.nouns import Sense

NUM_SUREST = 50  # images of the pool that show what a class looks like


class PlainHead(NamedTuple):
    """Where the class embeddings of the plain templates are, and which classes are asked about."""

    folder: str
    file: str
    name: str
    classes: tuple[int, ...]


def choose_senses(
    known: Mapping[str, Sequence[Sense]],
    head: PlainHead,
    judges: Judges,
    templates: Sequence[str],
) -> dict[str, Sense]:
    """Return the sense of each name that the surest images of the pool lie closest to.

    Args:
        known: The senses of each name that has several, in the order of `head.classes`.
        head: The plain class embeddings.
        judges: The pool, and the text tower that reads the words.
        templates: The plain templates.
    """
    if not known:
        return {}
    runtime, items = judges.runtime, [(head, shard) for shard in judges.shards]
    tops = (top for _, top in run_tasks(_surest_of_part, items, runtime=runtime))
    least = reduce(_merged, tops)[-1]
    with_least = [(*item, least) for item in items]
    near = reduce(add, (part for _, part in run_tasks(_near_in_part, with_least, runtime=runtime)))
    texts = [[_sentences(sense, templates) for sense in own] for own in known.values()]
    work = [(judges.backbone.name, texts, near.directions)]
    ((_, places),) = run_tasks(_nearest, work, runtime=runtime)
    return {name: own[place] for (name, own), place in zip(known.items(), places, strict=True)}


def _merged(one: Tensor, other: Tensor) -> Float[Tensor, "top classes"]:
    """Return the best of two parts: memory depends on the classes, not on the parts."""
    return surest(torch.cat([one, other]), NUM_SUREST)


def _sentences(sense: Sense, templates: Sequence[str]) -> list[str]:
    """Return the sentences about a sense: its words, and what they are a kind of."""
    words = [*sense.synonyms, *filter(None, [sense.hypernym])]
    return [sentence for word in words for sentence in in_templates(word, templates)]


def _of_part(head: PlainHead, shard: Shard) -> tuple[Tensor, Tensor]:
    """Return the features of a part of the pool, and their probabilities of these classes."""
    _, features = shard.features(split="pool")
    probabilities = heads_in(head.folder, head.file)[head.name].probabilities(features)
    return features, probabilities[:, list(head.classes)]


def _surest_of_part(head: PlainHead, shard: Shard) -> Float[Tensor, "top classes"]:
    return surest(_of_part(head, shard)[1], NUM_SUREST)


def _near_in_part(head: PlainHead, shard: Shard, least: Float[Tensor, " classes"]) -> Near:
    return near_surest(*_of_part(head, shard), least)


def _nearest(
    backbone: str,
    texts: Sequence[Sequence[Sequence[str]]],
    directions: Float[Tensor, "classes dim"],
) -> list[int]:
    """Return the place of the sense of each name that its direction speaks for."""
    loaded = load_backbone(backbone)
    with torch.inference_mode():
        flat = sentence_embeddings(loaded, [sense for own in texts for sense in own])
    of_name = flat.split([len(own) for own in texts])
    return [nearest_sense(d, own) for d, own in zip(directions, of_name, strict=True)]
