"""Text from runs, made harmless for Markdown."""

from __future__ import annotations

import re


def plain(text: object) -> str:
    """Text from a run inside Markdown, with nothing in it that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|$~:&])", r"\\\1", str(text).replace("\n", " "))
