"""What a language model is asked about a class, and the form that its answer has to have."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tasks.sentences.checking import Dropped, checked, on_class

SENTENCES = 5  # asked for, for each class
TEMPERATURE = 0.3
MAX_TOKENS = 60 * SENTENCES  # of an answer
_KEY = "sentences"
_SYSTEM = (
    "You write captions of photos. Each caption is one short sentence that says what can be seen. "
    "You answer in JSON."
)
_EXAMPLE = {
    _KEY: [
        "a photo of a red fox with a bushy tail.",
        "a photo of a red fox that stands in the snow.",
        "a close-up of a red fox with pointed ears.",
        "a photo of a young red fox in the grass.",
        "a photo of a red fox seen from the side.",
    ]
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        _KEY: {
            "type": "array",
            "items": {"type": "string", "minLength": 10, "maxLength": 120},
            "minItems": SENTENCES,
            "maxItems": SENTENCES,
        }
    },
    "required": [_KEY],
    "additionalProperties": False,
}


def question(name: str) -> str:
    """Return what is asked about a class."""
    return (
        f"Write {SENTENCES} different captions of photos of: {_spoken(name)}. Each contains the "
        f"words {json.dumps(_spoken(name), ensure_ascii=False)}, and nothing else is its subject."
    )


def body(model: str, name: str) -> dict[str, Any]:
    """Return the request about a class; equal requests have equal answers in the cache."""
    example = json.dumps(_EXAMPLE)
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": question("red fox")},
            {"role": "assistant", "content": example},
            {"role": "user", "content": question(name)},
        ],
        "temperature": TEMPERATURE,
        "max_tokens": MAX_TOKENS,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "captions", "schema": SCHEMA},
        },
    }


def sentences_in(answer: str, name: str, classes: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Return the sentences of an answer that can be used, and how many cannot, by reason.

    Args:
        answer: As the model wrote it.
        name: The class that it was asked about.
        classes: All classes.
    """
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        return [], Counter({Dropped.MALFORMED: 1})
    texts = content.get(_KEY) if isinstance(content, dict) else None
    kept, dropped = checked(texts)
    kept, off_class = on_class(kept, _spoken(name), map(_spoken, classes))
    return kept, dropped + off_class


def _spoken(name: str) -> str:
    return name.replace("_", " ")
