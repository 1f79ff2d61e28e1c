#!/usr/bin/env python3
"""Prints the CHANGELOG's section of a version. Fails if the tag is not Cargo.toml's version or has no section.

    tools/release_notes.py v0.2.0
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class NotReady(Exception):
    """The tag cannot become a release."""


def notes(tag, cargo_toml, changelog):
    """The text below the heading `## X.Y.Z`, up to the next one."""
    version = re.search(r'^version = "([^"]+)"$', cargo_toml, re.MULTILINE)[1]
    if tag != f"v{version}":
        raise NotReady(f"The tag is {tag}, and Cargo.toml's version is {version}. Tag v{version}, or correct Cargo.toml.")
    section = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None or not section[1].strip():
        raise NotReady(f"CHANGELOG.md has no section '## {version}'. Write what changed, then tag again.")
    return section[1].strip() + "\n"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(notes(sys.argv[1], (ROOT / "Cargo.toml").read_text(), (ROOT / "CHANGELOG.md").read_text()), end="")
    except NotReady as reason:
        sys.exit(str(reason))


if __name__ == "__main__":
    main()
