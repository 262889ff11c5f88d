"""Other words for the class names, in one sense of each."""

from collections.abc import Mapping, Sequence

from tasks.annotations.spelling import fold
from tasks.sentences.candidates import SYNONYMS, Candidate, of_names
from tasks.sentences.wordnet.nouns import Sense, senses


def look_up(classes: Sequence[str]) -> dict[str, list[Sense]]:
    """Return the senses of those class names that are nouns, the most frequent first."""
    found = {name: senses(name) for name in classes}
    return {name: own for name, own in found.items() if own}


def of_senses(chosen: Mapping[str, Sense], templates: Sequence[str]) -> Candidate:
    """Return the sentences of all words for one sense of each class, its own name first."""
    words = {name: [name, *_others(name, sense)] for name, sense in chosen.items()}
    own = {name: found for name, found in words.items() if len(found) > 1}
    return Candidate(SYNONYMS, of_names(own, templates))


def _others(name: str, sense: Sense) -> list[str]:
    spoken = fold(name.replace("_", " "))
    return [word for word in sense.synonyms if fold(word) != spoken]
