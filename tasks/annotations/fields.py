"""Values of an answer file: texts and times."""

from datetime import UTC, datetime

from tasks.annotations.schema import BadAnswers


def read_text(value: object) -> str | None:
    """Return a value as text; None for one that is absent or blank."""
    # JSON can spell half of a surrogate pair, which no table can hold.
    text = "" if value is None else str(value).encode(errors="backslashreplace").decode()
    return text if text.strip() else None


def read_time(value: object, place: str) -> datetime | None:
    """Return a time in UTC; a time without a zone is read as UTC.

    Args:
        value: ISO 8601 text, a time, or None.
        place: Row and column, for the message.

    Raises:
        BadAnswers: the value is neither.
    """
    text = read_text(value)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = (
            f"{place}: expected a time such as 2026-11-22T10:30:00Z, got {text[:40]!r}; correct it"
        )
        raise BadAnswers(msg) from error
