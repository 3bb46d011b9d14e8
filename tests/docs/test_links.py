"""Links of the documents lead somewhere: to files of the project, and to headings in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
PAGE = 150
"""Lines."""
HTTP = re.compile(r"^https://[a-z0-9.-]+(/[^\s]*)?$")


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(ROOT / line for line in listed.stdout.splitlines())


def prose(text: str) -> str:
    """Without code, which may look like links."""
    return re.sub(r"^ *```.*?^ *```$|^ {4}.*?$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    found = set()
    for heading in HEADING.findall(re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add("".join(each for each in plain if each.isalnum() or each in " _-").replace(" ", "-"))
    return found


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(prose(document.read_text("utf-8"))):
        if "://" in target:
            assert HTTP.match(target), target
            continue
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(found.read_text("utf-8")), f"{target}: no such heading"


def test_every_document_is_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {
            (each.parent / target.partition("#")[0]).resolve()
            for each in new
            for target in LINK.findall(prose(each.read_text("utf-8")))
            if "://" not in target and target.partition("#")[0].endswith(".md")
        } - reached
        new = {each for each in new if each.exists()}  # the test above tells of those that aren't there
    assert {each for each in documents() if each.is_relative_to(ROOT / "docs")} <= reached


def test_nothing_is_found_in_code() -> None:
    assert LINK.findall(prose("[a](b)\n\n```sh\n[c](d)\n```\n\n    [e](f)\n[g](h)\n")) == ["b", "h"]


def test_the_readme_stays_a_page() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= PAGE
