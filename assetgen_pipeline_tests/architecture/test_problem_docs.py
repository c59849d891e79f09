"""docs/problems.md says of every code what the documents say."""

import ast
import re
from pathlib import Path

from assetgen_pipeline.domain.problems import PROBLEM_CODES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "problems.md"


def test_the_page_lists_every_code_with_its_status_and_title():
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\d+) \| ([^|]+) \| [^|]+ \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert [(code, int(status), title) for code, status, title in rows] == [
        (code, said.status, said.title) for code, said in PROBLEM_CODES.items()
    ]


def codes_of_errors():
    """The code of every class of ours that has one, and of every line that a command reports."""
    for module in (ROOT / "assetgen_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            match node:
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    yield code
                case ast.Call(
                    func=ast.Name(id="_report"), args=[ast.Constant(value=str(code)), *_]
                ):
                    yield code


def test_the_page_lists_the_code_of_every_error():
    text = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \|", text.split("| code |", 1)[1], re.MULTILINE)

    assert len(listed) == len(set(listed))
    assert set(codes_of_errors()) | PROBLEM_CODES.keys() <= set(listed)
