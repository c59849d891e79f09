"""What the docs say of settings, commands and metadata is what the code has."""

import re
from pathlib import Path

from assetgen_pipeline.cli.app import _HIDDEN, _VERBS
from assetgen_pipeline.settings import PREFIX, Settings

DOCS = Path(__file__).parents[2] / "docs"


def documented_settings():
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", text, flags=re.MULTILINE)
    return {name: meaning for name, _default, meaning in rows}


def test_the_settings_table_is_the_settings_model():
    expected = {
        str(field.validation_alias or PREFIX + name.upper()): field.description
        for name, field in Settings.model_fields.items()
    }

    assert documented_settings() == expected


def test_every_verb_stands_in_the_readme():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")

    assert [verb for verb in _VERBS if verb not in _HIDDEN and f"`{verb}" not in readme] == []


def test_every_link_between_the_docs_leads_somewhere():
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    dead = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert dead == []
