"""The site: the pages of docs/, the texts at the top of the checkout, and the API reference from the docstrings.

Run: make docs
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import levelhead

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

project = "levelhead"
author = "the levelhead developers"
copyright = author
version = release = levelhead.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["Thumbs.db"]
html_theme = "furo"
html_favicon = "images/icon.svg"
html_title = f"levelhead {release}"
html_show_sourcelink = html_copy_source = html_show_sphinx = False
html_math_renderer = "mathml"
highlight_language = "python"
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a page may go from its title to a third level
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100

#: Pages that are texts of the checkout: the page in docs/ holds what the site adds, a table of contents if anything.
TEXTS = {
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "findings": "findings/README.md",
}
PAGES = {ROOT / text: HERE / f"{page}.md" for page, text in TEXTS.items()}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s:]+?)(#[^)\s]*)?\)")
IMAGE = re.compile(r"(!\[[^\]]*\]\()([^)\s:]+)\)")


def _text(app: Any, page: str, source: list[str]) -> None:
    """A page's text, with the links and pictures of the checkout turned into those of the site."""
    home = HERE / f"{page}.md"
    text = ROOT / TEXTS[page] if page in TEXTS else home
    if text != home:
        app.env.note_dependency(str(text), docname=page)  # so that a second build sees its changes
        source[0] = f"{text.read_text(encoding='utf-8')}\n{source[0]}"
    if not home.is_file():
        return  # a page of the API

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        path = (text.parent / target).resolve()
        if not path.exists():  # code, or a mistake: the build tells
            return found[0]
        path = PAGES.get(path, path)
        if HERE not in path.parents or path.is_dir():  # programs: named, not part of the site
            return words
        return f"[{words}]({os.path.relpath(path, home.parent)}{anchor})"

    def image(found: re.Match[str]) -> str:
        return f"{found[1]}{os.path.relpath((text.parent / found[2]).resolve(), home.parent)})"

    source[0] = IMAGE.sub(image, LINK.sub(link, source[0]))


FIELD = re.compile(r"\s*:\w+( [^:]*)?:")
LITERAL = re.compile(r"(``.+?``)")
#: In plain docstrings, what reStructuredText takes for markup: a lone star, a name that ends in _, a letter after ``.
LONE = re.compile(r"(?<![\\*\w])\*(?=\w+(?![\w*]))|(?<=\w)_(?=[\s,.:;)]|$)")


def _docstring(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    for place, line in enumerate(lines):
        if not line.lstrip().startswith(".. "):
            field = FIELD.match(line)
            start = field.end() if field else 0
            parts = LITERAL.split(line[start:])
            parts[::2] = [LONE.sub(lambda found: "\\" + found[0], part) for part in parts[::2]]
            parts[2::2] = ["\\ " + part if part[:1].isalpha() else part for part in parts[2::2]]
            lines[place] = line[:start] + "".join(parts)


def _mathml(formula: str, block: bool) -> str:
    return tex2mathml(formula.replace(r"\Big(", r"\left(").replace(r"\Big)", r"\right)"), as_block=block)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """MathML needs no script and no network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _text)
    app.connect("autodoc-process-docstring", _docstring, priority=900)  # after napoleon
