"""Pages of HTML that are one file: charts, pictures and sounds inside, nothing from the network.

A page is a template that extends `base.html` and draws with the macros of `macros.html`.
"""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from .chart import number, share, spectrogram

TEMPLATES = Path(__file__).with_name("templates")
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
MOST_CHARACTERS = 300
"""The filter `short` cuts text that is longer."""


def render(template: Path, **content: Any) -> str:
    """Fill in a template and return the text; a template of HTML escapes all text of `content`.

    Control characters and lone surrogates become U+FFFD. A page's content policy forbids scripts
    and network access.

    Args:
        template: its file; templates that it extends or imports are beside it or in `TEMPLATES`.
        content: every name that the template uses; a page needs `title` and `subtitle`.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, share=share, spectrogram=spectrogram)
    environment.filters["short"] = lambda text: (
        text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
    )
    return _UNFIT.sub("\ufffd", environment.get_template(template.name).render(content))
