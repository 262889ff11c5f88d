"""The labelling configuration of Label Studio: one image, why it is asked about, one choice."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tasks.answers.exports import CONTROL
from tasks.answers.schema import NONE, fold
from tasks.pool.classes import list_names
from tasks.specs import InputError

_MANY = 30  # classes; more are easier to search than to overlook
_SHOWN = 400  # pixels of the width, so that the choices below it are on the screen too
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTES = {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}


def labeling_config(classes: Sequence[str]) -> str:
    """Return the labelling configuration: an image, why it is asked about, one choice of all.

    Skipping needs no choice: Label Studio has a button for it.

    Raises:
        InputError: a class is called like the choice for none of them, begins with `$`, is blank,
            or has characters that XML cannot hold.
    """
    _check_classes(classes)
    choices = "\n".join(
        f'    <Choice value="{escape(name, _QUOTES)}"/>' for name in (*classes, NONE.capitalize())
    )
    layout = "select" if len(classes) > _MANY else "inline"
    return f"""<View>
  <Header value="Which class does this image show?"/>
  <Text name="why" value="$reason"/>
  <Image name="image" value="$image" zoom="true" maxWidth="{_SHOWN}px"/>
  <Choices name="{CONTROL}" toName="image" choice="single" required="true" layout="{layout}">
{choices}
  </Choices>
</View>
"""


def _check_classes(classes: Sequence[str]) -> None:
    refused = [
        name
        for name in classes
        if fold(name) in ("", NONE) or name.startswith("$") or _NOT_IN_XML.search(name)
    ]
    if refused:
        msg = (
            f"class names for Label Studio: {list_names(refused)} not possible there (blank, the "
            "name of the choice for none of them, a $ at the start, or control characters); "
            "rename the class, or use the contact sheet"
        )
        raise InputError(msg)
