"""The long description: README.md without what a package index cannot show. Everything else is in setup.cfg."""

import pathlib
import re

import setuptools


def long_description() -> str:
    """Return README.md without its images, its relative links, and its list of pages."""
    text = (pathlib.Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    text = (
        text.split("\n## More\n")[0] + "\nThe source distribution contains the documentation, in the folder `docs`.\n"
    )
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n+(\*[^*]+\*\n+)?", "", text)  # an image and its caption
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


setuptools.setup(long_description=long_description(), long_description_content_type="text/markdown")
