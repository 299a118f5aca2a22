"""Text files that are whole or absent, whenever the process is killed."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes `text` beside `path` and moves it there in one step."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
