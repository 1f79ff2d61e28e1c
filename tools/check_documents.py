"""Check what the Markdown files claim about this repository.

In README.md and every other Markdown file: each relative link and anchor leads
somewhere, each `make TARGET` is a target of the Makefile, each `force-mfa` and `aws`
command exists and has its options, and each code span that reads like a path of this
repository names something that is there. `tests/x.rs::name` is a
test, `force-mfa-x` a name of the templates; the threat model's names stand in the
templates or the code. Addresses of other sites are not fetched.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from document_commands import problems_of_commands

ROOT = Path(__file__).resolve().parent.parent
# A code span with one of these endings is taken for a file even without a folder.
FILE = re.compile(r"[\w.*-]+\.(json|lock|md|mk|py|rs|toml|txt|ya?ml)")
COMMAND = re.compile(r"(?:^|[$;&|])[ \t]*make ([a-z][a-z-]*)", re.MULTILINE)
# Files that a reader writes.
WRITTEN_BY_READERS = {"rollout.json"}
SHELL = ("", "bash", "console", "sh", "shell")


def main() -> int:
    if not (ROOT / "README.md").exists():
        print("README.md is missing.", file=sys.stderr)
        return 1
    documents = {
        path: MarkdownIt().enable("table").parse(path.read_text())
        for path in sorted(ROOT.glob("**/*.md"))
        if not is_ignored(path.relative_to(ROOT))
    }
    targets = make_targets()
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for path, tokens in documents.items()
        for line, problem in check(path, tokens, documents, targets)
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    names = ", ".join(str(path.relative_to(ROOT)) for path in documents)
    print(f"{names}: {len(problems) or 'no'} problem{'s'[: len(problems) != 1]}")
    return 1 if problems else 0


def check(
    path: Path, tokens: list[Token], documents: dict, targets: set[str]
) -> Iterator[tuple[int, str]]:
    """Yield line and description of all that is wrong in one file."""
    for line, token in flattened(tokens):
        if token.type == "link_open":
            problem = problem_of_link(path, token.attrs["href"], documents)
        elif token.type == "image":
            problem = problem_of_link(path, token.attrs["src"], documents)
        elif token.type == "code_inline":
            problem = (
                problem_of_path(path, token.content)
                or problem_of_test(token.content)
                or problem_of_name(path, token.content)
            )
        else:
            problem = ""
        if problem:
            yield line, problem
        is_shell = token.type == "fence" and token.info.split(" ")[0] in SHELL
        if is_shell or token.type == "code_inline":
            for target in COMMAND.findall(token.content):
                if target not in targets:
                    yield line, f"`make {target}` is no target of the Makefile"
            for problem in problems_of_commands(token.content):
                yield line, problem


def flattened(tokens: list[Token]) -> Iterator[tuple[int, Token]]:
    line = 1
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        yield line, token
        for child in token.children or ():
            line += child.type in ("softbreak", "hardbreak")
            yield line, child


def problem_of_link(path: Path, link: str, documents: dict) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return ""
    file, _, anchor = unquote(link).partition("#")
    target = (path.parent / file).resolve() if file else path
    if not target.exists() or is_ignored_target(target):
        return f"the link {link} leads to nothing in this repository"
    if anchor and anchor not in anchors(documents.get(target, [])):
        return f"the link {link} names a heading that is not there"
    return ""


def problem_of_path(path: Path, span: str) -> str:
    """Is a code span that reads like a path of this repository one?"""
    text = span.rstrip("/")
    # Placeholders stand for any name: events/<outcome>/*.json
    pattern = re.sub(r"<[^<>/]+>", "*", text)
    if not re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*", pattern):
        return ""
    first, *rest = pattern.split("/")
    if rest:
        is_ours = (ROOT / first).is_dir() or FILE.fullmatch(rest[-1])
    else:
        is_ours = FILE.fullmatch(pattern)
    if not is_ours or is_ignored(Path(first)) or text in WRITTEN_BY_READERS:
        return ""
    places = (ROOT, path.parent) if rest else (ROOT, path.parent, ROOT / "**")
    if any(any(ROOT.glob(str(p.relative_to(ROOT) / pattern))) for p in places):
        return ""
    return f"`{span}` is not in this repository"


def problem_of_test(span: str) -> str:
    """Is a test there that the span names as `file::test`?"""
    file, separator, test = span.partition("::")
    if not separator or not FILE.fullmatch(Path(file).name):
        return ""
    if (ROOT / file).is_file() and re.search(rf"\b(fn|def) {test}\(", (ROOT / file).read_text()):
        return ""
    return f"`{span}` is no test of this repository"


def problem_of_name(path: Path, span: str) -> str:
    """Are an alarm, a rule or a part of the code there that the span names?"""
    templates, sources, rows = named()
    if re.fullmatch(r"force-mfa-[a-z-]*[a-z]", span):
        # "${NamePrefix}-alarms" in a template, f"{prefix}-scp" in a program.
        is_there = "}" + span.removeprefix("force-mfa") in templates or span in sources
    elif path.name != "threat-model.md":
        return ""
    elif "-" in span and any(row.startswith(span.split("-")[0] + "-") for row in rows):
        is_there = span in rows
    elif re.fullmatch(r"(?:[A-Z][a-z0-9]+){2,}", span):
        fences = "".join(path.read_text().split("```")[1::2])
        is_there = span in templates + sources + fences
    else:
        return ""
    return "" if is_there else f"`{span}` stands neither in the templates nor in the code"


@functools.cache
def named() -> tuple[str, str, set[str]]:
    """Templates with their programs, the Rust code, and the names of the rows of the policy's tests."""
    infra = [file for kind in ("yaml", "py") for file in (ROOT / "infra").glob(f"*.{kind}")]
    templates = "".join(file.read_text() for file in infra)
    sources = "".join(file.read_text() for file in sorted((ROOT / "src").rglob("*.rs")))
    scenarios = json.loads((ROOT / "tests" / "policy" / "scenarios.json").read_text())
    return templates, sources, {row["id"] for row in scenarios["scenarios"]}


def anchors(tokens: list[Token]) -> set[str]:
    """The anchors that GitHub makes of headings."""
    found: set[str] = set()
    for token, inline in pairwise(tokens):
        if token.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE))


def is_ignored(path: Path) -> bool:
    """Does .gitignore name it or a folder it is in? Plain names only, as there."""
    lines = (ROOT / ".gitignore").read_text().split()
    return any(line.strip("/") in path.parts for line in lines)


def is_ignored_target(target: Path) -> bool:
    return not target.is_relative_to(ROOT) or is_ignored(target.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
