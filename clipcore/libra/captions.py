"""Sentences that name a class, as the tokens of a language model, and the trie of their endings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from clipcore.libra.language import UnsupportedLanguage

TOKENIZER = "tokenizer.json"
TEMPLATE = "A photo of the {}."


class UnwritableName(ValueError):
    """A class name, or a prompt, that the language model's tokenizer cannot write."""


class Vocabulary:
    """A language model's tokenizer.

    Attributes:
        start: What stands before every text; empty for many models.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.start: tuple[int, ...] = tuple(tokenizer.encode("").ids)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without `start`.

        Raises:
            UnwritableName: they do not say the same.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if (said := self.decode(ids)).strip() != text.strip():
            raise UnwritableName(
                f"The language model's tokenizer cannot write {text!r}: it would say {said!r}."
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())


@dataclass(frozen=True)
class Captions:
    """A prompt, and how it ends for each class.

    Attributes:
        prompt: What stands before the name; never trained on.
        endings: Of each class, its name and the stop.
    """

    prompt: tuple[int, ...]
    endings: tuple[tuple[int, ...], ...]

    @property
    def stop(self) -> int:
        """Return the token at which a sentence ends."""
        return self.endings[0][-1]

    def padded(self) -> tuple[Int[Tensor, "classes tokens"], Bool[Tensor, "classes tokens"]]:
        """Return the whole sentences, filled up with zeros, and which tokens are to be learned."""
        length = len(self.prompt) + max(map(len, self.endings))
        ids = torch.zeros(len(self.endings), length, dtype=torch.long)
        learned = torch.zeros(len(self.endings), length, dtype=torch.bool)
        for row, ending in enumerate(self.endings):
            whole = (*self.prompt, *ending)
            ids[row, : len(whole)] = torch.tensor(whole)
            learned[row, len(self.prompt) : len(whole)] = True
        return ids, learned


@dataclass(frozen=True)
class Trie:
    """What the endings of all classes have in common. Node 0 is the prompt, a node a token.

    Attributes:
        tokens: Of the inner nodes, the prompt left out.
        reads: Which of these each of them may read: itself, and those above it.
        depths: How far below the prompt they are; 1 is next to it.
        edges: For each step from an inner node to a child: the node, and the token.
        paths: For each class, the steps to the end of its sentence.
    """

    tokens: Int[Tensor, " inner"]
    reads: Bool[Tensor, "inner inner"]
    depths: Int[Tensor, " inner"]
    edges: Int[Tensor, "edges 2"]
    paths: tuple[tuple[int, ...], ...]


def load_vocabulary(folder: Path) -> Vocabulary:
    """Return the tokenizer in a language model's folder.

    Raises:
        UnsupportedLanguage: there is none, or it cannot be read.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise UnsupportedLanguage(
            f"{folder}: expected {TOKENIZER} beside the weights. transformers writes it: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )
    try:
        return Vocabulary(Tokenizer.from_file(str(path)))
    except Exception as error:  # tokenizers raises nothing more particular
        raise UnsupportedLanguage(f"{path} cannot be read: {error}") from error


def write_captions(
    vocabulary: Vocabulary, classes: Sequence[str], template: str = TEMPLATE
) -> Captions:
    """Return the tokens of a sentence about each class.

    A sentence is written as a whole and cut after the words before the name, so that a name has the
    tokens that it has inside of a text.

    Args:
        vocabulary: The language model's.
        classes: The names.
        template: A sentence with one `{}`, and a mark at its end.

    Raises:
        UnwritableName: a name cannot be written, is written as another one is, or grows together
            with what stands before it.
    """
    before, mark, after = template.partition("{}")
    if not mark or not before.strip() or not after.strip() or "{}" in after:
        raise UnwritableName(
            f"{template!r}: expected words, one {{}} for the name, and a mark at the end, such as "
            f"{TEMPLATE!r}."
        )
    prompt = tuple(vocabulary.encode(before.rstrip()))
    endings = []
    for name in classes:
        whole = tuple(vocabulary.encode(template.replace("{}", name)))
        if whole[: len(prompt)] != prompt:
            raise UnwritableName(
                f"The tokens of {template.replace('{}', name)!r} do not begin with those of "
                f"{before.rstrip()!r}; choose other words before the name."
            )
        endings.append(whole[len(prompt) :])
    _check_distinct(endings, classes)
    return Captions(prompt, tuple(endings))


def build_trie(endings: Sequence[Sequence[int]]) -> Trie:
    """Return the trie of endings of which none begins with another one whole."""
    children: list[dict[int, int]] = [{}]
    parents, tokens, depths = [0], [0], [0]
    for ending in endings:
        node = 0
        for token in ending:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                parents.append(node)
                tokens.append(token)
                depths.append(depths[node] + 1)
            node = children[node][token]
    inner = [node for node, below in enumerate(children) if below and node]
    place = {0: 0, **{node: number for number, node in enumerate(inner, start=1)}}
    steps = {
        child: number
        for number, child in enumerate(child for node in place for child in children[node].values())
    }
    edges = [[place[parents[child]], tokens[child]] for child in steps]
    reads = torch.eye(len(inner), dtype=torch.bool)
    for number, node in enumerate(inner):
        if above := place[parents[node]]:
            reads[number] |= reads[above - 1]
    return Trie(
        tokens=torch.tensor([tokens[node] for node in inner], dtype=torch.long),
        reads=reads,
        depths=torch.tensor([depths[node] for node in inner], dtype=torch.long),
        edges=torch.tensor(edges, dtype=torch.long),
        paths=tuple(_path(ending, children, steps) for ending in endings),
    )


def _path(
    ending: Sequence[int], children: Sequence[dict[int, int]], steps: dict[int, int]
) -> tuple[int, ...]:
    node, path = 0, []
    for token in ending:
        node = children[node][token]
        path.append(steps[node])
    return tuple(path)


def _check_distinct(endings: Sequence[tuple[int, ...]], classes: Sequence[str]) -> None:
    """Refuse names of which one's tokens are another one's, whole or as a beginning."""
    seen = dict(zip(endings, classes, strict=True))
    for ending, name in zip(endings, classes, strict=True):
        for length in range(1, len(ending) + 1):
            other = seen.get(ending[:length])
            if other is not None and other != name:
                raise UnwritableName(
                    f"The language model writes {other!r} as it begins {name!r}; rename one."
                )
