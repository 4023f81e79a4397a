"""The documents: links, anchors and named files exist, and the two READMEs agree."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT

FOLDERS = ("docs", "iqa", "tests", "tools")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
READMES = ("README.md", "README.zh-CN.md")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
DECIMAL = re.compile(r"\d+(?:\.\d+)+")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def split_code(text: str) -> tuple[str, str]:
    """The text outside and inside fenced code."""
    parts = re.split(r"^```.*$", text, flags=re.MULTILINE)
    assert len(parts) % 2, "a fence is not closed"
    return "".join(parts[::2]), "".join(parts[1::2])


def links(path: Path) -> list[str]:
    return LINK.findall(re.sub(r"`[^`]*`", "", split_code(path.read_text(encoding="utf-8"))[0]))


def slug(heading: str) -> str:
    """GitHub's: lower case, no punctuation but hyphens and underscores, a hyphen for each space."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """The anchor of every heading; a second one of the same name ends in -1."""
    prose, _ = split_code(path.read_text(encoding="utf-8"))
    counts = Counter(slug(heading) for heading in re.findall(r"^#{1,6} (.*)", prose, re.MULTILINE))
    return {f"{name}-{i}" if i else name for name, count in counts.items() for i in range(count)}


def commands(name: str) -> list[str]:
    """The lines of fenced code without comments, indentation and the explanations in a tree of files."""
    _, code = split_code(read(name))
    lines = (re.sub(r"(\s#|(?<=\S)\s{2,}).*", "", line.strip().lstrip("│├└─ ")) for line in code.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def table_numbers(name: str) -> Counter:
    prose, _ = split_code(read(name))
    return Counter(number for line in prose.splitlines() if line.startswith("|") for number in NUMBER.findall(line))


def exists(file: str, document: Path) -> bool:
    """From the top folder or the document's; a name without a folder may be anywhere."""
    if (ROOT / file).is_file() or (document.parent / file).is_file():
        return True
    return "/" not in file and any(True for folder in FOLDERS for _ in (ROOT / folder).rglob(file))


@each_document
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(document):
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_document
def test_every_program_that_is_named_exists(document):
    """Python and shell files in fenced code and backticks."""
    prose, code = split_code(document.read_text(encoding="utf-8"))
    files = re.findall(r"[\w./-]+\.(?:py|sh)\b", "\n".join([*re.findall(r"`([^`]*)`", prose), code]))
    assert {file for file in files if not exists(file, document)} == set()


def test_the_slugs_are_githubs():
    assert slug("Evaluating a checkpoint, also on another `x.py`") == "evaluating-a-checkpoint-also-on-another-xpy"
    assert slug("演示的结果") == "演示的结果"


def test_the_readme_is_one_page():
    assert len(read("README.md").splitlines()) <= 130


def test_both_readmes_agree():
    """In their commands, numbers, sections and links; the first line of each links to the other."""
    english, chinese = READMES
    assert f"({chinese})" in read(english).splitlines()[0] and f"({english})" in read(chinese).splitlines()[0]
    assert {"bash run_resnet_ablation.sh --demo", "bash run_tests.sh"} <= set(commands(english))
    assert commands(english) == commands(chinese)
    assert "25,624,337" in table_numbers(english) and table_numbers(english) == table_numbers(chinese)
    assert Counter(DECIMAL.findall(read(english))) == Counter(DECIMAL.findall(read(chinese)))
    levels = [re.findall(r"^#+", split_code(read(name))[0], re.MULTILINE) for name in READMES]
    assert levels[0] == levels[1]
    one, other = (Counter(links(ROOT / name)) - Counter(READMES) for name in READMES)
    assert one == other


@pytest.mark.parametrize("name", READMES)
def test_every_page_of_the_documents_is_linked(name):
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert pages and pages <= set(links(ROOT / name))


def test_the_citation_has_what_the_format_requires():
    text = read("CITATION.cff")
    assert "\t" not in text and all(re.match(r" *(- )?[a-z-]+:( |$)", line) for line in text.splitlines() if line)
    for line in ("cff-version: 1.2.0", 'title: ".+"', 'message: ".+"', "type: software", "license: MIT", "authors:"):
        assert len(re.findall(f"^{line}$", text, re.M)) == 1, line
    holder = re.search(r"^Copyright \(c\) \d+ (.+)$", read("LICENSE"), re.M)[1]
    assert f'authors:\n  - name: "{holder}"\n' in text
    assert len(re.findall(r"^  - type: (?:article|conference-paper)$", text, re.M)) == 2
