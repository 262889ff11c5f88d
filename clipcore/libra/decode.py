"""What Libra says of images: probabilities of classes, sentences, and words of images to come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from clipcore import precision
from clipcore.libra.captions import Captions
from clipcore.libra.fit import image_words
from clipcore.libra.language import causal
from clipcore.libra.model import Libra, MixedCache
from clipcore.libra.trie import Trie, build_trie, in_groups
from clipcore.libra.words import BEGIN, BOOKS, WORDS, signs_of_words

INNER_TOKENS = 192  # of endings in one pass: what attention takes grows with their square
MOST_LOGITS = 1 << 26  # numbers that lie in memory at once: 256 MB
Chooser = Callable[[Tensor], Tensor]
"""Logits of shape (batch, tokens) to the token that is taken, of shape (batch,)."""


@dataclass(frozen=True)
class Said:
    """A sentence about each image, after the prompt.

    Attributes:
        tokens: Of each, the stop among them where it came.
        log_probabilities: Of each sentence: the sum over its tokens.
        stopped: Whether it came to its end.
    """

    tokens: tuple[tuple[int, ...], ...]
    log_probabilities: Float[Tensor, " images"]
    stopped: Bool[Tensor, " images"]


class ClassQuestion:
    """Which class an image is of: the probability of each ending of a prompt.

    Many endings are read in one pass. Their inner tokens stand behind the prompt, at the place that
    each has in its sentence, and see only what stands before them there. Of many classes there are
    several passes, so that memory does not depend on how many there are.

    Args:
        model: Answers.
        captions: A prompt, and its ending for each class.
        start: Tokens at the beginning of every text.
        most: Inner tokens of a pass.
    """

    def __init__(
        self,
        model: Libra,
        captions: Captions,
        start: Sequence[int] = (),
        *,
        most: int = INNER_TOKENS,
    ) -> None:
        groups = in_groups(captions.endings, most=most)
        self._model = model
        self._parts = [
            _Endings(model, captions.prompt, [captions.endings[row] for row in rows], start)
            for rows in groups
        ]
        order = torch.tensor([row for rows in groups for row in rows])
        self._places = order.argsort().to(model.norm.weight.device)

    @torch.inference_mode()
    def __call__(
        self, signals: Float[Tensor, "images positions dim"]
    ) -> Float[Tensor, "images classes"]:
        """Return the log-probability of each class's whole ending, among all texts.

        A softmax over classes makes them the probabilities of the classes.
        """
        with precision.mixed(self._places.device, training=False):
            seen = self._model.embed_vision(*image_words(self._model, signals))
        return torch.cat([part.ask(seen) for part in self._parts], dim=1)[:, self._places]


class _Endings:
    """Some endings of a prompt, as a trie that is read in one pass."""

    def __init__(
        self,
        model: Libra,
        prompt: Sequence[int],
        endings: Sequence[Sequence[int]],
        start: Sequence[int],
    ) -> None:
        self._model = model
        trie = build_trie(endings)
        device = model.norm.weight.device
        prefix = torch.tensor([*start, *prompt], dtype=torch.long)
        ids = torch.cat([prefix, trie.tokens]).to(device)[None]
        image = model.design.positions + BOOKS
        self._start = len(start)
        places = torch.arange(image + len(prefix))
        behind = places[-1] + trie.depths
        self._positions = torch.cat([places, behind])[None].to(device)
        before = places[len(start) + image :]
        text_positions = torch.cat([torch.arange(len(start)), before, behind])[None].to(device)
        visible = _tree(len(prefix), trie).to(device)
        with torch.no_grad():
            self._states = model.text_states(ids, text_positions, visible=visible)
        self._visible = _tree(len(places), trie).to(device)
        self._nodes = slice(len(places) - 1, None)
        self._edges = trie.edges.to(device)
        self._paths = torch.zeros(len(trie.edges), len(trie.paths), device=device)
        for row, path in enumerate(trie.paths):
            self._paths[list(path), row] = 1.0

    def ask(self, seen: Float[Tensor, "images words size"]) -> Float[Tensor, "images endings"]:
        """Return the log-probability of each ending, of images as the model reads them."""
        with precision.mixed(seen.device, training=False):
            steps = self._steps(self._read(seen))
        return steps @ self._paths

    def _read(self, seen: Tensor) -> Float[Tensor, "images nodes size"]:
        """Return the states of the prompt's end and of the inner nodes behind it."""
        start = self._start
        text = self._states.expand(len(seen), -1, -1)
        x = torch.cat([text[:, :start], seen.to(text.dtype), text[:, start:]], dim=1)
        is_vision = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        is_vision[:, start : start + seen.shape[1]] = True
        states = self._model.read(x, is_vision, self._positions, visible=self._visible)
        return states[:, self._nodes]

    def _steps(self, states: Float[Tensor, "images nodes size"]) -> Float[Tensor, "images edges"]:
        """Return the log-probability of each step from a node to a child, among all tokens."""
        vocabulary = self._model.language.shape.vocab_size
        at_once = max(1, MOST_LOGITS // (vocabulary * len(states)))
        nodes, tokens = self._edges.T
        steps = states.new_zeros(len(states), len(nodes), dtype=torch.float32)
        for first in range(0, states.shape[1], at_once):
            logits = self._model.text_logits(states[:, first : first + at_once]).float()
            here = ((nodes >= first) & (nodes < first + at_once)).nonzero()[:, 0]
            log_p = logits - logits.logsumexp(dim=-1, keepdim=True)
            steps[:, here] = log_p[:, nodes[here] - first, tokens[here]]
        return steps


@dataclass(frozen=True)
class Ending:
    """How a sentence goes on and where it ends.

    Attributes:
        stops: Tokens of which each ends a sentence.
        most: Tokens, after which a sentence is left as it is.
        choose: How a token is taken; the likeliest by default.
    """

    stops: tuple[int, ...]
    most: int = 24
    choose: Chooser | None = None


@torch.inference_mode()
def say(
    model: Libra,
    signals: Float[Tensor, "images positions dim"] | None,
    prompt: Sequence[int],
    ending: Ending,
    *,
    start: Sequence[int] = (),
) -> Said:
    """Continue a prompt about each image until a stop; without images, one text.

    Args:
        model: Speaks.
        signals: Features of the positions of images, or None.
        prompt: What each sentence begins with.
        ending: How it goes on.
        start: Tokens at the beginning of every text, before the image.
    """
    with precision.mixed(model.norm.weight.device, training=False):
        reader = _Reader(model, 1 if signals is None else len(signals))
        if start:
            reader.text(torch.tensor([list(start)]))
        if signals is not None:
            reader.image(*image_words(model, signals))
        return _continued(reader, reader.text(torch.tensor([list(prompt)])), ending)


def _continued(reader: "_Reader", states: Tensor, ending: Ending) -> Said:
    """Take token after token, of all sentences at once, until each has stopped."""
    ends = torch.tensor(ending.stops, device=states.device)
    tokens: list[Tensor] = []
    going: list[Tensor] = []
    total = torch.zeros(len(states), device=states.device)
    stopped = torch.zeros(len(states), dtype=torch.bool, device=states.device)
    while len(tokens) < ending.most and not stopped.all():
        logits = reader.model.text_logits(states[:, -1]).float()
        taken = (ending.choose or likeliest)(logits)
        gained = logits.log_softmax(dim=-1).gather(1, taken[:, None])[:, 0]
        total += torch.where(stopped, 0.0, gained)
        tokens.append(taken)
        going.append(~stopped)
        stopped = stopped | torch.isin(taken, ends)
        states = reader.text(taken[:, None])
    return Said(_cut(tokens, going), total, stopped)


def likeliest(logits: Float[Tensor, "batch tokens"]) -> Int[Tensor, " batch"]:
    """Take the likeliest token: greedy decoding."""
    return logits.argmax(dim=-1)


def nucleus(top_p: float, draws: Generator) -> Chooser:
    """Return what draws among the likeliest tokens that have `top_p` together (1904.09751)."""

    def choose(logits: Tensor) -> Tensor:
        p, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        p = torch.where(p.cumsum(dim=-1) - p < top_p, p, 0.0)
        drawn = torch.multinomial(p.cpu(), 1, generator=draws).to(order.device)
        return order.gather(1, drawn)[:, 0]

    return choose


@torch.inference_mode()
def imagine(
    model: Libra, prompt: Sequence[int], *, images: int = 1, choose: Chooser | None = None
) -> Int[Tensor, "images positions 2"]:
    """Return words of images after a text: `BEGIN`, then each position from those before it.

    Features of a position that is drawn are zero, as they are not known.
    `Words.reconstruct` makes features of words.

    Args:
        model: Draws.
        prompt: The text.
        images: How many.
        choose: How a word is taken, in each book by itself; the likeliest by default.
    """
    reader = _Reader(model, images)
    reader.text(torch.tensor([list(prompt)]))
    words = torch.full((images, 1, BOOKS), BEGIN)
    drawn = []
    for _ in range(model.design.positions):
        states = reader.image(words, torch.zeros(images, 1, model.design.dim))
        logits = model.word_logits(states[:, -1]).float()[..., :WORDS]  # an image is of one size
        taken = [(choose or likeliest)(book) for book in logits.unbind(dim=1)]
        words = torch.stack(taken, dim=-1)[:, None]
        drawn.append(words)
    return torch.cat(drawn, dim=1)


def imagined_features(
    model: Libra, words: Int[Tensor, "images positions 2"]
) -> Float[Tensor, "images positions dim"]:
    """Return the features that words stand for."""
    return model.words.reconstruct(signs_of_words(words))


class _Reader:
    """A pass through the model piece by piece: what was read before is kept, and not read again."""

    def __init__(self, model: Libra, batch: int) -> None:
        self.model = model
        self._batch = batch
        self._below = model.language.new_cache(batch)
        self._mixed: list[MixedCache] = model.new_cache(batch)
        self._length = 0

    def text(self, ids: Int[Tensor, "#batch tokens"]) -> Float[Tensor, "batch tokens size"]:
        """Read tokens, of all rows alike or of each, and return their states."""
        model = self.model
        ids = ids.to(model.norm.weight.device).expand(self._batch, -1)
        positions = self._next(ids.shape[1])
        x = model.text_states(ids, positions, cache=self._below)
        is_vision = torch.zeros_like(ids, dtype=torch.bool)
        return model.read(x, is_vision, positions, cache=self._mixed)

    def image(
        self, words: Int[Tensor, "batch words 2"], signals: Float[Tensor, "batch words dim"]
    ) -> Float[Tensor, "batch words size"]:
        """Read words of images, and return their states."""
        model = self.model
        device = model.norm.weight.device
        x = model.embed_vision(words.to(device), signals.to(device))
        is_vision = torch.ones(x.shape[:2], dtype=torch.bool, device=device)
        return model.read(x, is_vision, self._next(x.shape[1]), cache=self._mixed)

    def _next(self, tokens: int) -> Tensor:
        device = self.model.norm.weight.device
        positions = torch.arange(self._length, self._length + tokens, device=device)[None]
        self._length += tokens
        return positions


def _tree(prefix: int, trie: Trie) -> Bool[Tensor, "1 tokens tokens"]:
    """Return what tokens may read: a prefix, and behind it the inner nodes of a trie."""
    inner = len(trie.tokens)
    before = causal(prefix, prefix, device=torch.device("cpu"))[0]
    above = torch.cat([before, torch.zeros(prefix, inner, dtype=torch.bool)], dim=1)
    below = torch.cat([torch.ones(inner, prefix, dtype=torch.bool), trie.reads], dim=1)
    return torch.cat([above, below])[None]


def _cut(tokens: Sequence[Tensor], going: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of each sentence, up to its stop."""
    if not tokens:
        return ()
    all_tokens = torch.stack(list(tokens), dim=1).tolist()
    lengths = torch.stack(list(going), dim=1).sum(dim=1).tolist()
    return tuple(tuple(row[:length]) for row, length in zip(all_tokens, lengths, strict=True))
