"""What Libra is asked about test images, and how often it is right."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clipcore.libra.captions import Captions, Vocabulary, write_captions
from clipcore.libra.decode import ClassQuestion, Ending, say
from clipcore.libra.model import Libra

BATCH = 50
PROMPTS = ("This picture shows a", "In the image we can see a", "It is not a cat, it is a")
"""Never trained."""

Numbers = dict[str, float]


@dataclass(frozen=True)
class Exam:
    """A model, and images to ask it about.

    Attributes:
        model: Answers.
        vocabulary: The language model's.
        classes: The names of the images' classes.
        maps: Of the images.
        labels: True ones.
    """

    model: Libra
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    maps: Tensor
    labels: Tensor

    @cached_property
    def captions(self) -> Captions:
        """Return the sentences that are trained on."""
        return write_captions(self.vocabulary, self.classes)

    def among_names(self) -> Numbers:
        """Return how often the class whose name is likeliest is right, and what it takes.

        `mass` is the mean probability that the sentence is of one of the classes at all.
        """
        question = ClassQuestion(self.model, self.captions, self.vocabulary.start)
        started = time.process_time()
        log_p = torch.cat([question(x.float()) for x in self.maps.split(BATCH)])
        return {
            "constrained": share(log_p.argmax(dim=1) == self.labels),
            "mass": float(log_p.exp().sum(dim=1).mean()),
            "constrained seconds": (time.process_time() - started) / len(self.labels),
        }

    def free(self, captions: Captions | None = None) -> tuple[Numbers, list[tuple[int, ...]]]:
        """Return how often the likeliest text to the stop is right, what it takes, and the texts.

        `first` is how often its first token is that of the class's name. What has not stopped when
        the longest name has is none of them.
        """
        captions = captions or self.captions
        ending = Ending(captions.stops, most=max(map(len, captions.endings)))
        started, said = time.process_time(), list[tuple[int, ...]]()
        for x in self.maps.split(BATCH):
            found = say(self.model, x.float(), captions.prompt, ending, start=self.vocabulary.start)
            said += found.tokens
        spent = (time.process_time() - started) / len(said)
        names = [captions.endings[label] for label in self.labels.tolist()]
        pairs = list(zip(said, names, strict=True))
        return {
            "free": sum(one == name for one, name in pairs) / len(pairs),
            "first": sum(one[:1] == name[:1] for one, name in pairs) / len(pairs),
            "free seconds": spent,
        }, said

    def prompted(self, prompt: str) -> Numbers:
        """Return how often the answer to another prompt is right.

        `first among names` is over the first tokens of the classes' names alone.
        """
        captions = write_captions(self.vocabulary, self.classes, f"{prompt} {{}}.")
        firsts = sorted({ending[:1] for ending in captions.endings})
        question = ClassQuestion(
            self.model, Captions(captions.prompt, tuple(firsts)), self.vocabulary.start
        )
        said = torch.cat([question(x.float()).argmax(dim=1) for x in self.maps.split(BATCH)])
        truth = [firsts.index(captions.endings[label][:1]) for label in self.labels.tolist()]
        free, _ = self.free(captions)
        names = share(said == torch.tensor(truth))
        return {"first among names": names, "first": free["first"], "free": free["free"]}

    def unknown(self, trained: Captions) -> Numbers:
        """Return how often names that were never trained are found.

        `of the trained` is how often the free text is one of the trained names.
        """
        free, said = self.free()
        known = sum(one in set(trained.endings) for one in said) / len(said)
        chance = 1 / len(self.classes)
        return {**self.among_names(), **free, "of the trained": known, "chance": chance}


@contextmanager
def without_bridge(model: Libra) -> Iterator[None]:
    """Set the bridge to zero while the `with` statement runs."""
    layers: list[Any] = list(model.layers)
    bridges = [layer.bridge for layer in layers if layer.bridge is not None]
    outs: list[Tensor] = [one.b for bridge in bridges for one in bridge.maps.values()]
    before = [out.detach().clone() for out in outs]
    _each(outs, lambda out, _: out.zero_(), before)
    try:
        yield
    finally:
        _each(outs, lambda out, value: out.copy_(value), before)


@torch.no_grad()
def _each(
    outs: list[Tensor], change: Callable[[Tensor, Tensor], Tensor], with_: list[Tensor]
) -> None:
    for out, value in zip(outs, with_, strict=True):
        change(out, value)


def share(right: Tensor) -> float:
    """Return the share of what is right."""
    return float(right.float().mean())
