"""Captions of printed characters."""

import string

import torch
from jaxtyping import Int
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Of many lengths, so that a name occurs at every position where a learned prompt may put it.
TEMPLATES = (
    "{}",
    "the {}",
    "a photo of the {}",
    "a photo of a {}.",
    "a picture of the {}.",
    "a small photo of the {}.",
    "a blurry photo of the {} in a scan",
    "a low resolution picture of the {} on a page.",
    "light on dark, a grey and noisy photo of the {}.",
    "this is a photo of a page and in the photo is the {}.",
    "a scan of a printed page in a book, small and grey, that shows the {}.",
    "on a page of an old book, in a small grey scan of low resolution, is the {}",
    "a picture of one mark on a page, cut out of a blurry and noisy scan of the page: the {}",
    "this is a small and grey and blurry photo of one mark on a page in a book, and it is the {}.",
)


def character_name(character: str) -> str:
    """Return the name that captions use: "digit seven", "letter a", "capital letter a"."""
    if character.isdigit():
        return f"digit {DIGIT_NAMES[int(character)]}"
    return f"{'capital letter' if character.isupper() else 'letter'} {character.lower()}"


def tokenize_captions(context_length: int) -> Int[Tensor, "templates characters context"]:
    """Tokenize every template with the name of every character, by CLIP's tokenizer."""
    tokenizer = SimpleTokenizer(context_length=context_length)
    names = [character_name(character) for character in CHARACTERS]
    return torch.stack([tokenizer([text.format(name) for name in names]) for text in TEMPLATES])
