"""What the docs say of failures is what the code does."""

import re
from pathlib import Path

from assetgen_pipeline.domain.generation import FAILURE_RULES, ErrorKind

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_table_of_failures_is_the_one_in_code():
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, flags=re.MULTILINE)
    documented = {kind: row.split(" | ") for kind, row in rows if kind in set(ErrorKind)}

    assert documented == {
        kind.value: [
            rule.row,
            rule.run or "-",
            "until the run stops" if rule.retries is None else str(rule.retries),
            rule.billing.value,
            f"`{rule.code}`",
        ]
        for kind, rule in FAILURE_RULES.items()
    }
