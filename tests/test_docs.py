"""README and docs: short and plain, and every link leads somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Pages that have plain sentences; those that are not here yet do not.
PLAIN = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            *("architecture", "checkpoints", "deploy", "frame_store", "labels"),
            *("one_call", "options", "results", "scaling", "troubleshooting", "view", "your_data"),
        )
    ),
)
LONGEST = 25
#: How no sentence begins that asks nothing.
OPENING = re.compile(r"(What|Of|Whatever|That which|Which|Whoever) (?!.*\?$)")
#: Words of our own for what the field has a word for.
INVENTED = re.compile(
    r"\b(film(s|ed)?|mends?|told the|witness(es)?|the (ten|five)(?= (alone|are|is|of|and)\b|[.,;]))", re.I
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("[!.]*/README.md"))]


def anchors(page: Path) -> set[str]:
    """What a link can name behind ``#``: the headings, as GitHub writes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, and the heading in each; without those of the web."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {target}#{anchor}"


def sentences(text: str) -> Iterator[str]:
    """Of a page's prose, without headings, tables, pictures and code."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("|", "#", "![")))
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "CODE", text)
    for block in re.split(r"\n\s*\n|\n(?=[-*] |\d+\. )", text):
        words = re.sub(r"^([-*]|\d+\.) ", "", " ".join(block.split()))
        yield from (each.strip() for each in re.split(r"(?<=[.!?])\s+(?=[A-Z*\[C])", words) if each.strip())


@pytest.mark.parametrize("page", PLAIN)
def test_sentences_are_plain(page: str) -> None:
    for sentence in sentences((ROOT / page).read_text()):
        assert len(sentence.split()) <= LONGEST, f"long: {sentence}"
        assert not OPENING.match(sentence), f"begins with a clause: {sentence}"
        assert not INVENTED.search(sentence), f"not the field's word: {sentence}"


def test_the_checker_finds_what_it_is_for() -> None:
    text = "# Film\n\nWhat it does. What does it do?\n- The ten\n  are told the motion.\n\n```bash\nfilm\n```"
    found = [*sentences(text)]
    assert found == ["What it does.", "What does it do?", "The ten are told the motion."]
    assert [bool(OPENING.match(each)) for each in found] == [True, False, False]
    assert [bool(INVENTED.search(each)) for each in found] == [False, False, True]


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 900


def test_every_page_can_be_found() -> None:
    found = {ROOT / "README.md"}
    while True:
        more = {target for page in found if page.suffix == ".md" for target, _ in links(page)}
        if more <= found:
            break
        found |= more
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= found
