"""Pieces of an HTML page as text. What is called text is escaped here; content and captions are HTML already."""

import base64
import io
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image


def picture(path: Path, alt: str, box: tuple[int, int] = (1400, 1800)) -> str:
    """An <img> that holds the picture itself."""
    data = io.BytesIO()
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail(box)
        image.save(data, "WEBP", quality=80)
        width, height = image.size
    content = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/webp;base64,{content}">'


def figure(content: str, caption: str, style: str = "") -> str:
    return f'<figure class="{style}">{content}<figcaption>{caption}</figcaption></figure>'


def grid(figures: Sequence[str], style: str = "") -> str:
    return f'<div class="grid {style}">{"".join(figures)}</div>' if figures else ""


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    top = f"<thead><tr>{top}</tr></thead>" if any(names) else ""
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def paragraph(text: str) -> str:
    return f"<p>{text}</p>"


def code(*words: str | Path) -> str:
    return f"<code>{escape(shlex.join(map(str, words)))}</code>"
