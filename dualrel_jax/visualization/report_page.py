"""Renders the page of a report from report.html.j2, and embeds its pictures."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture or a chart with its caption. All but `chart`, an <svg>, is text, which the template escapes."""

    title: str = ""  # bold, before the caption
    caption: str = ""
    chart: Markup | None = None
    picture: str = ""  # WebP, base64
    size: tuple[int, int] = (0, 0)  # width and height of the picture
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Details:
    """What a reader may unfold: preformatted text or a picture."""

    title: str
    code: str = ""
    figure: Figure | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the page; the parts that are not empty appear in this order."""

    title: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    code: str = ""
    figures: Sequence[Figure] = ()
    style: str = ""  # of the figures: "" for charts, "pictures" for several pictures in a row, "wide" for one a row
    details: Details | None = None


def embed_picture(path: Path, alt: str, title: str = "", caption: str = "") -> Figure:
    """The picture at `path`, at most 1400 x 1800 pixels, as part of the page itself."""
    data = io.BytesIO()
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((1400, 1800))
        image.save(data, "WEBP", quality=80)
    return Figure(title, caption, picture=base64.b64encode(data.getvalue()).decode(), size=image.size, alt=alt)


def render(page: dict[str, Any]) -> str:
    """The page as HTML in ASCII, which reads the same on every system; see report.html.j2 for the keys of `page`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(page)
    return html.encode("ascii", "xmlcharrefreplace").decode()
