"""Hide passwords, tokens and keys in everything that a run records."""

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
_MIN_SECRET = 6  # characters; hiding shorter values would hide common words

# Last word of a name, as in HF_TOKEN or client-secret, but not `num_context_tokens`.
_WORDS = (
    "TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|SIGNATURE|SIG"
    "|(?:API|ACCESS|SECRET|PRIVATE|ACCOUNT|STORAGE)[_-]?KEY|ACCESS[_-]KEY[_-]ID|CONNECTION_STRING"
)
_SECRET_NAME = re.compile(rf"(?:^|[^A-Za-z0-9])AWS_|(?:^|[^A-Za-z0-9])(?:{_WORDS})$", re.IGNORECASE)
_USER_INFO = re.compile(r"(://)[^/@\s\"'<>]+@")
# NAME=value of a shell, "NAME": "value" of JSON.
_VARIABLE = re.compile(
    rf"\b(AWS_[A-Z0-9_]+|(?:[A-Z0-9]+_)*(?:{_WORDS}))(['\"]?\s*[=:]\s*['\"]?)([^\s\"'&,;<]+)"
)
# ?name=value of a signed link.
_QUERY = re.compile(rf"([?&](?:[\w-]*-)?(?:{_WORDS})=)[^&\s\"'<>]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide secrets in a text: users in URIs, values of keys, values of environment variables."""
    for value in _environment_secrets():
        text = text.replace(value, HIDDEN)
    text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    return _VARIABLE.sub(rf"\1\2{HIDDEN}", text)


def redact_fields(fields: Mapping[str, object]) -> dict[str, str]:
    """Flatten nested fields to dotted names with texts; values under secret names are hidden.

    `{"phase1": {"epochs": 10}, "hub_token": "x"}` becomes
    `{"phase1.epochs": "10", "hub_token": "***"}`.
    """
    flat: dict[str, str] = {}
    for name, value in fields.items():
        if is_secret_name(name):
            flat[name] = HIDDEN
        elif isinstance(value, Mapping):
            inner = redact_fields(value)
            flat.update({f"{name}.{key}": text for key, text in inner.items()})
        else:
            flat[name] = redact(str(value))
    return flat


def is_secret_name(name: str) -> bool:
    """Return whether a variable or field with this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def _environment_secrets() -> list[str]:
    # AWS_REGION and similar are not secret, and hiding "us-east-1" would make URIs unreadable.
    values = {
        value
        for name, value in os.environ.items()
        if re.search(rf"(?:^|_)(?:{_WORDS})$", name, re.IGNORECASE) and len(value) >= _MIN_SECRET
    }
    return sorted(values, key=len, reverse=True)  # a secret that contains another first
