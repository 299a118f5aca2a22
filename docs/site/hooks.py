"""Hooks of the documentation site: pages from outside docs/, links to files of the repository, formulas as MathML."""

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files, config):
    """Adds results/ and two files of the root, as if they lay in docs/."""
    paths = [ROOT / name for name in OUTSIDE] + [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    for path in sorted(paths):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links of a file to others of the repository become links of the site; formulas become MathML."""
    source = page.file.src_uri
    folder = (ROOT / source if _is_outside(source) else ROOT / "docs" / source).parent
    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        _math_block(block) if block.startswith("```") else _inline(block, folder, source, config) for block in blocks
    )


def _is_outside(source):
    return source in OUTSIDE or source.startswith("results/")


def _math_block(block):
    if not block.startswith("```math"):
        return block
    formula = block.removeprefix("```math").removesuffix("```").strip()
    return f'<div class="formula">{convert(formula, display="block")}</div>'


def _inline(text, folder, source, config):
    text = re.sub(r"\$`(.+?)`\$", lambda match: convert(match[1]).replace("|", "&#124;"), text, flags=re.DOTALL)
    text = re.sub(r"(\d) ± (\d)|(\d) to ([+−\d])", _together, text)
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)]+)\)", lambda match: _link(match, folder, source, config), text)


def _together(match):
    """A number with its spread, or an interval, on one line of a table's cell."""
    return match[0].replace(" ", "&nbsp;")


def _link(match, folder, source, config):
    """The link as the site needs it; without an address of the repository, a file outside the site is its text."""
    image, text, target = match.groups()
    path, hash_, anchor = target.partition("#")
    if re.match(r"https?://", target) or not path:
        return match[0]
    relative = (folder / path).resolve().relative_to(ROOT).as_posix()
    if relative == "README.md":
        relative = "docs/index.md"
    if not (relative.startswith("docs/") or _is_outside(relative)):
        return f"[{text}]({config.repo_url}/blob/main/{relative})" if config.repo_url else text
    place = relative.removeprefix("docs/")
    up = "../" * source.count("/")
    return f"{image}[{text}]({up}{place}{hash_}{anchor})"
