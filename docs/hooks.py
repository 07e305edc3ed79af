"""What the site has beside docs/*.md: pages from the repository's root, and links to files that are no pages."""

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs import generated

ROOT = Path(__file__).parents[1]
FROM_ROOT = {"ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
ORIGIN = {page: name for name, page in FROM_ROOT.items()}
# Where a reader finds a file that is no page; empty until pyproject.toml has an address: then its links are plain text.
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {}).get("Source", "")
LINK = re.compile(r"(?<=\]\()([^()\s#]+)(?=[)#])")
NO_TARGET = re.compile(r"\[([^\]]*)\]\(\)")
FOREIGN = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    texts = {page: (ROOT / name).read_text() for name, page in FROM_ROOT.items()} | generated.pages()
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links that are written for the repository, where docs/ is one folder of several, into links of the site."""
    here = page.file.src_uri
    folder = PurePosixPath(ORIGIN.get(here, f"docs/{here}")).parent

    def of_site(link: re.Match[str]) -> str:
        target = link[1]
        if ":" in target:
            return target
        path = posixpath.normpath((folder / target).as_posix())
        inside = FROM_ROOT.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is not None:
            return posixpath.relpath(inside, PurePosixPath(here).parent.as_posix())
        if not (ROOT / path).exists():
            raise PluginError(f"{here}: a link to {target}, and there is no {path} in the repository")
        return f"{SOURCE}/{path}" if SOURCE else ""

    return NO_TARGET.sub(r"\1", LINK.sub(of_site, markdown))


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Refuse a page that loads anything from elsewhere: it must read the same offline, and give no reader away."""
    for address in _loaded_from_elsewhere(output):
        raise PluginError(f"{page.file.src_uri}: the page loads {address}, expected nothing from elsewhere")
    return output


def _loaded_from_elsewhere(html: str) -> Iterator[str]:
    for found in FOREIGN.finditer(html):
        if 'rel="canonical"' not in found[0]:
            yield found[1]
