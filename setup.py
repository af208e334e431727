"""The long description: README.md without what a package index cannot show. Everything else is in pyproject.toml."""

import pathlib
import re

import setuptools


def long_description() -> str:
    """Return README.md without images and links that are relative to the repository."""
    text = (pathlib.Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n+(\*[^*]+\*\n+)?", "", text)  # an image and its caption
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


setuptools.setup(long_description=long_description(), long_description_content_type="text/markdown")
