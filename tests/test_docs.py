"""README and docs: short, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]


def anchors(page: Path) -> set[str]:
    """What a link can name behind ``#``: the headings, as GitHub writes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 900


def test_every_page_can_be_found() -> None:
    found = {ROOT / "README.md"}
    while True:
        more = {
            (page.parent / link.partition("#")[0]).resolve()
            for page in found
            if page.suffix == ".md"
            for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
            if not link.startswith("http") and not link.startswith("#")
        }
        if more <= found:
            break
        found |= more
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= found
