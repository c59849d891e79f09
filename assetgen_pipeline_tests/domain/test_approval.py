"""What an approval stands for: one file at one price."""

import pytest

from assetgen_pipeline.domain.approval import Approval, fingerprint
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.builders import BATCH_ID, NOW

FILE = b"scene_id,prompt\nS1,a kitchen\n"


@pytest.mark.parametrize(
    ("estimate", "file", "covered"),
    [
        (Money(500), FILE, True),
        (Money(499), FILE, True),
        (Money(501), FILE, False),
        (Money(500), FILE + b"S2,one more\n", False),
    ],
)
def test_an_approval_covers_its_file_up_to_its_amount(estimate, file, covered):
    approval = Approval(
        batch_id=BATCH_ID,
        approved_by="ann@desk",
        approved_at=NOW.isoformat(),
        amount_usd=Money(500).usd(),
        request_sha256=fingerprint(FILE),
    )

    assert approval.covers(estimate, file) is covered
