"""Make the number words that coft ships: `python -m tests.bench.digit_words FILE`.

The ten digits in the languages of num2words 0.5.14, in the letters a to z that anyascii 0.3.3 makes
of them; of languages with equal words the first, by its code.
"""

import string
import sys
from pathlib import Path

from anyascii import anyascii
from num2words import CONVERTER_CLASSES, num2words

DIGITS = 10


def main() -> None:
    """Write a line of each language: its code and ten words, with tabs between them."""
    lines: dict[tuple[str, ...], str] = {}
    for language in sorted(CONVERTER_CLASSES):
        words = tuple(spelled(digit, language) for digit in range(DIGITS))
        if len(set(words)) == DIGITS:  # else letters were lost
            lines.setdefault(words, "\t".join([language, *words]) + "\n")
    Path(sys.argv[1]).write_text("".join(lines.values()))


def spelled(digit: int, language: str) -> str:
    """Return the word of a digit in the letters a to z."""
    letters = anyascii(num2words(digit, lang=language)).lower()
    return "".join(letter for letter in letters if letter in string.ascii_lowercase)


if __name__ == "__main__":
    main()
