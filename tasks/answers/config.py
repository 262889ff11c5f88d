"""The labelling configuration of Label Studio: an image, the reason of the query, one choice."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tasks.annotations.exports import CONTROL
from tasks.annotations.schema import NONE
from tasks.annotations.spelling import fold
from tasks.pool.classes import list_names
from tasks.specs import InputError

_MAX_INLINE = 30  # classes that are listed; more are easier to search in a menu
_WIDTH = 400  # pixels of the image, so that the choices below it stay on the screen
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INVISIBLE = "\u200b"
_QUOTES = {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}


def labeling_config(classes: Sequence[str]) -> str:
    """Return the labelling configuration as XML.

    To skip an image, people use Label Studio's own button.

    Args:
        classes: The class names, in the order of the choices.

    Raises:
        InputError: a class has the name of the choice for none of them, is blank, or has
            characters that XML cannot hold.
    """
    _check_classes(classes)
    choices = "\n".join(
        f'    <Choice value="{escape(choice_of(name), _QUOTES)}"/>'
        for name in (*classes, NONE.capitalize())
    )
    layout = "select" if len(classes) > _MAX_INLINE else "inline"
    return f"""<View>
  <Header value="Which class does this image show?"/>
  <Text name="why" value="$reason"/>
  <Image name="image" value="$image" zoom="true" maxWidth="{_WIDTH}px"/>
  <Choices name="{CONTROL}" toName="image" choice="single" required="true" layout="{layout}">
{choices}
  </Choices>
</View>
"""


def choice_of(name: str) -> str:
    """Return the choice that stands for a class.

    Label Studio takes `$name` for a field of the task. An invisible space before it, which names
    are compared without, makes it a text.
    """
    return f"{_INVISIBLE}{name}" if name.startswith("$") else name


def _check_classes(classes: Sequence[str]) -> None:
    unusable = [name for name in classes if fold(name) in ("", NONE) or _NOT_IN_XML.search(name)]
    if unusable:
        msg = (
            f"class names for Label Studio: {list_names(unusable)} not possible there (blank, the "
            "name of the choice for none of them, or control characters); "
            "rename the class, or use the contact sheet"
        )
        raise InputError(msg)
