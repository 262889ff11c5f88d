"""How Libra learns: words of images first, then the next token of both kinds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from clipcore import precision
from clipcore.fit import LossTerms, TrainingDiverged
from clipcore.libra.captions import Captions
from clipcore.libra.language import causal
from clipcore.libra.model import Libra, Sequences
from clipcore.libra.words import BEGIN, BOOKS, DEFAULT_LOSS, END, WordLoss, Words

IGNORED = -100  # by cross-entropy


def fit_words(
    words: Words,
    draw: Callable[[], Float[Tensor, "positions dim"]],
    *,
    steps: int = 120,
    learning_rate: float = 1e-3,
    weights: WordLoss = DEFAULT_LOSS,
) -> dict[str, float]:
    """Learn the books from features of image positions alone; return the last loss terms.

    Args:
        words: Learns; it starts from the mean and the size of the first features.
        draw: Returns features of positions that are drawn anew.
        steps: Of AdamW.
        learning_rate: Of these.
        weights: Of the loss terms.

    Raises:
        TrainingDiverged: a loss is no number.
    """
    words.standardise(draw())
    optimizer = torch.optim.AdamW(words.parameters(), lr=learning_rate, weight_decay=0.0)
    terms: dict[str, Tensor] = {}
    for _ in range(steps):
        terms = words.losses(draw(), weights)
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimizer.step()
    found = {name: float(value.detach()) for name, value in terms.items()}
    if found and not torch.isfinite(torch.tensor(found["loss"])):
        raise TrainingDiverged("The words of images could not be learned: the loss is no number.")
    return found


def losses(
    model: Libra,
    states: Float[Tensor, "batch tokens size"],
    sequences: Sequences,
    learned: Bool[Tensor, "batch tokens"],
) -> dict[str, Tensor]:
    """Return the cross-entropies of the next token, `text` and `vision`, and `loss`, their sum.

    A token is predicted by the one before it, if that is of its own kind: so the first text token
    after an image and `BEGIN` are nobody's target, and the last target of an image is `END`.
    The paper takes the mean over targets of both kinds at once, which weighs an image's many words
    above a caption's few; here each kind has its own mean.

    Args:
        model: Whose heads.
        states: What `Libra` returned.
        sequences: What it read.
        learned: Which text tokens are targets; prompts and padding are not.
    """
    before, after = sequences.is_vision[:, :-1], sequences.is_vision[:, 1:]
    text = ~before & ~after & learned[:, 1:]
    vision = before & after & (sequences.words[:, 1:, 0] != BEGIN)
    terms = {}
    if text.any():
        logits = model.text_logits(states[:, :-1][text])
        terms["text"] = F.cross_entropy(logits.float(), sequences.ids[:, 1:][text])
    if vision.any():
        logits = model.word_logits(states[:, :-1][vision]).float()
        targets = sequences.words[:, 1:][vision]
        terms["vision"] = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    if not terms:
        raise ValueError("expected a token to learn, of a text or of an image")
    return {**terms, "loss": torch.stack(list(terms.values())).sum()}


@dataclass(frozen=True)
class Layout:
    """An image before or after its caption.

    Attributes:
        start: Tokens at the beginning of every text.
        image_first: Whether the image stands before the text (the paper's captioning).
    """

    start: tuple[int, ...] = ()
    image_first: bool = True


def padded(
    captions: Captions,
) -> tuple[Int[Tensor, "classes tokens"], Bool[Tensor, "classes tokens"]]:
    """Return whole sentences, filled up with zeros, and which of their tokens are learned."""
    length = len(captions.prompt) + max(map(len, captions.endings))
    ids = torch.zeros(len(captions.endings), length, dtype=torch.long)
    learned = torch.zeros(len(captions.endings), length, dtype=torch.bool)
    for row, ending in enumerate(captions.endings):
        whole = (*captions.prompt, *ending)
        ids[row, : len(whole)] = torch.tensor(whole)
        learned[row, len(captions.prompt) : len(whole)] = True
    return ids, learned


class CaptionData:
    """Captions of all classes, ready to be put beside images.

    What the first mixed layer reads of them is computed once: images have no part in it.
    """

    def __init__(self, model: Libra, captions: Captions, layout: Layout) -> None:
        ids, learned = padded(captions)
        device = model.norm.weight.device
        start = torch.tensor(layout.start, dtype=torch.long).expand(len(ids), -1)
        self.layout = layout
        self._num_image = model.design.positions + BOOKS
        self.ids = torch.cat([start, ids], dim=1).to(device)
        self.learned = F.pad(learned, (len(layout.start), 0)).to(device)
        before = len(layout.start) + len(captions.prompt)
        self._lengths = torch.tensor([before + len(one) for one in captions.endings], device=device)
        gap = self._num_image if layout.image_first else 0
        positions = torch.arange(self.ids.shape[1], device=device)
        positions[len(layout.start) :] += gap
        self.positions = positions[None]
        with torch.no_grad():
            self.states = model.text_states(self.ids, self.positions)

    def put(self, text: Tensor, image: Tensor) -> Tensor:
        """Return what belongs to a text and to an image, in the order of the layout."""
        start = len(self.layout.start)
        first = [text[:, :start], image, text[:, start:]]
        return torch.cat(first if self.layout.image_first else [text, image], dim=1)

    def reading(
        self, rows: Int[Tensor, " batch"]
    ) -> tuple[Int[Tensor, "#batch tokens"], Bool[Tensor, "batch tokens tokens"] | None]:
        """Return the positions of captions and images, and what tokens may read if not all before.

        An image stands right behind its caption and does not read what that was filled up with.
        """
        text, device = self.ids.shape[1], self.ids.device
        tokens = text + self._num_image
        places = torch.arange(tokens, device=device)[None]
        if self.layout.image_first:
            return places, None
        lengths = self._lengths[rows][:, None]
        filling = (places >= lengths) & (places < text)
        visible = causal(tokens, tokens, device=device) & ~filling[:, None]
        visible = visible | torch.eye(tokens, dtype=torch.bool, device=device)
        return torch.where(places < text, places, places - text + lengths), visible

    def sequences(
        self, words: Int[Tensor, "batch words 2"], rows: Int[Tensor, " batch"]
    ) -> tuple[Sequences, Bool[Tensor, "batch tokens"]]:
        """Return captions beside the words of images, and which text tokens are learned."""
        ids, learned = self.ids[rows], self.learned[rows]
        batch, length, device = len(rows), ids.shape[1], ids.device
        image_zeros = torch.zeros(batch, words.shape[1], dtype=torch.long, device=device)
        is_vision = self.put(
            torch.zeros(batch, length, dtype=torch.bool, device=device), image_zeros == 0
        )
        no_words = torch.zeros(batch, length, BOOKS, dtype=torch.long, device=device)
        signals = torch.zeros(batch, length + words.shape[1], 0, device=device)
        sequences = Sequences(
            self.put(ids, image_zeros), is_vision, self.put(no_words, words), signals
        )
        return sequences, self.put(learned, image_zeros > 0)


def image_words(
    model: Libra, signals: Float[Tensor, "batch positions dim"]
) -> tuple[Int[Tensor, "batch words 2"], Float[Tensor, "batch words dim"]]:
    """Return an image's words and features, between `BEGIN` and `END`."""
    with torch.no_grad():
        words = model.words(signals)
    ends = words.new_ones(len(words), 1, BOOKS)
    words = torch.cat([ends * BEGIN, words, ends * END], dim=1)
    return words, F.pad(signals, (0, 0, 1, 1))


def caption_loss(model: Libra, data: Sequence[CaptionData], share: float = 1.0) -> LossTerms:
    """Return what is minimised: (features of positions, classes, draws) to named loss terms.

    Args:
        model: Learns.
        data: Captions in one layout, or in two.
        share: Of batches in the first layout.
    """

    def terms(signals: Tensor, classes: Tensor, draws: Generator) -> dict[str, Tensor]:
        device = model.norm.weight.device
        second = len(data) > 1 and float(torch.rand((), generator=draws)) >= share
        own = data[second]
        rows = classes.to(device)
        words, features = image_words(model, signals.to(device).float())
        sequences, learned = own.sequences(words, rows)
        with precision.mixed(device, training=True):
            seen = model.embed_vision(words, features)
            states = own.states[rows]
            x = own.put(states.to(seen.dtype), seen)
            positions, visible = own.reading(rows)
            states = model.read(x, sequences.is_vision, positions, visible=visible)
            return losses(model, states, sequences, learned)

    return terms


def new_optimizer(model: Libra, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with the betas of Libra's code, over what learns."""
    return torch.optim.AdamW(
        model.vision(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )


def positions_of(
    features: Float[Tensor, "images positions dim"], *, batch: int, draws: Generator
) -> Callable[[], Float[Tensor, "batch dim"]]:
    """Return what draws features of image positions, for `fit_words`."""
    flat = features.flatten(0, 1)

    def draw() -> Tensor:
        rows = torch.randint(len(flat), (batch,), generator=draws)
        return flat[rows].float()

    return draw
