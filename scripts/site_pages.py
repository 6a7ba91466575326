"""The pages of the site that are no file in docs, and links that lead out of it (`hooks` in mkdocs.yml).

README is the first page. A notebook becomes a page of its text, programs and outputs. A link to a file that
has no page, such as deploy/Dockerfile, becomes plain words.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made of files outside docs, and those of notebooks."""
    from mkdocs.structure.files import File

    made = {page: (ROOT / name).read_text(encoding="utf-8") for page, name in PAGES.items()}
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        made[f"notebooks/{path.stem}.md"] = page_of(json.loads(path.read_text(encoding="utf-8")))
        files.remove(files.get_file_from_path(f"notebooks/{path.name}"))
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point a page's links at pages of the site."""
    return with_links(markdown, page.file.src_uri)


def with_links(text: str, page: str) -> str:
    """Return a page's text with its links as the site has them; what is in code is left alone."""
    parts = FENCED.split(text)
    parts[::2] = [LINK.sub(lambda found: _link(found, page), part) for part in parts[::2]]
    return "".join(parts)


def _link(found: re.Match[str], page: str) -> str:
    picture, words, target = found.groups()
    if target.startswith(("http", "#")):
        return found[0]
    source = ROOT / PAGES.get(page, f"docs/{page}")
    path, mark, part = target.partition("#")
    place = Path(os.path.normpath(source.parent / path)).relative_to(ROOT).as_posix()
    own = {name: made for made, name in PAGES.items()}.get(place)
    if own is None and not place.startswith("docs/"):
        return words
    inside = (own or place.removeprefix("docs/")).replace(".ipynb", ".md")
    return f"{picture}[{words}]({os.path.relpath(inside, os.path.dirname(page) or '.')}{mark}{part})"


def page_of(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: its words, its programs, and what they printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).strip()})")
            else:
                told = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{told.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
