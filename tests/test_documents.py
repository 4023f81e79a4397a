"""The documents: links lead somewhere, named files exist, and the two READMEs say the same."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT

ROOMS = ("docs", "iqa", "tests", "tools")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.md"))])
READMES = ("README.md", "README.zh-CN.md")
TREE = "│├└─ "  # what a folder's tree is drawn with
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
DECIMAL = re.compile(r"\d+(?:\.\d+)+")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def split_code(text: str) -> tuple[list[str], list[str]]:
    """The lines outside and inside fenced code."""
    parts, fenced = ([], []), False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        else:
            parts[fenced].append(line)
    assert not fenced, "a fence is not closed"
    return parts


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def links(path: Path) -> list[str]:
    prose, _ = split_code(path.read_text(encoding="utf-8"))
    return LINK.findall(re.sub(r"`[^`]*`", "", "\n".join(prose)))


def slug(heading: str) -> str:
    """GitHub's: lower case, no punctuation but hyphens and underscores, a hyphen for each space."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Of every heading; the second of the same name gets -1 behind it, and so on."""
    prose, _ = split_code(path.read_text(encoding="utf-8"))
    seen, found = Counter(), set()
    for line in prose:
        if heading := re.match(r"#{1,6} (.*)", line):
            name = slug(heading[1])
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return found


def commands(name: str) -> list[str]:
    """The lines of fenced code, without comments, indentation and what stands behind a file in a tree."""
    _, code = split_code(read(name))
    lines = (re.sub(r"(\s#|(?<=\S)\s{2,}).*", "", line.strip().lstrip(TREE)) for line in code)
    return [line for line in lines if line and not line.startswith("#")]


def table_numbers(name: str) -> Counter:
    prose, _ = split_code(read(name))
    return Counter(number for line in prose if line.startswith("|") for number in NUMBER.findall(line))


def program_files(text: str) -> list[str]:
    """Python and shell files that fenced code and backticks name."""
    prose, code = split_code(text)
    named = re.findall(r"`([^`]*)`", "\n".join(prose)) + code
    return [file for part in named for file in re.findall(r"[\w./-]+\.(?:py|sh)\b", part)]


def exists(file: str, document: Path) -> bool:
    """From the top folder or the document's; a bare name may be that of a file in any room."""
    if (ROOT / file).is_file() or (document.parent / file).is_file():
        return True
    return "/" not in file and any(True for room in ROOMS for _ in (ROOT / room).rglob(file))


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
    missing = {file for file in program_files(document.read_text(encoding="utf-8")) if not exists(file, document)}
    assert not missing


def test_the_slugs_are_githubs():
    assert slug("The demo's results") == "the-demos-results"
    assert slug("Evaluating a checkpoint, also on another `x.py`") == "evaluating-a-checkpoint-also-on-another-xpy"
    assert slug("演示的结果") == "演示的结果"


def test_the_readme_is_one_page():
    assert len(read("README.md").splitlines()) <= 150


@pytest.mark.parametrize(("name", "other"), [READMES, READMES[::-1]])
def test_the_first_line_of_each_readme_links_to_the_other(name, other):
    assert f"({other})" in read(name).splitlines()[0]


def test_both_readmes_name_the_same_commands_and_files():
    english, chinese = map(commands, READMES)
    assert "bash run_resnet_ablation.sh --demo" in english and "bash run_tests.sh" in english
    assert english == chinese


def test_both_readmes_have_the_same_numbers():
    english, chinese = map(table_numbers, READMES)
    assert "25,624,337" in english and english == chinese
    english, chinese = (Counter(DECIMAL.findall(read(name))) for name in READMES)
    assert english == chinese


def test_both_readmes_have_the_same_sections_and_links():
    levels = [re.findall(r"^#+", "\n".join(split_code(read(name))[0]), re.M) for name in READMES]
    assert levels[0] == levels[1]
    english, chinese = (Counter(links(ROOT / name)) - Counter(READMES) for name in READMES)
    assert english == chinese


@pytest.mark.parametrize("name", READMES)
def test_every_page_of_the_documents_is_in_the_table_of_contents(name):
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
