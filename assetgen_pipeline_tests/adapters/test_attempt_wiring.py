"""No provider can be sent a paid request that the ledger does not know of already."""

import ast
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from assetgen_pipeline.adapters import providers
from assetgen_pipeline.domain.budget import AttemptState, AttemptToken
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.stub_gemini import GEMINI_ANSWERS
from assetgen_pipeline.testing.stub_openai import OPENAI_ANSWERS
from assetgen_pipeline_tests.builders import BATCH_ID, NOW
from assetgen_pipeline_tests.hosted_providers import HOSTED, planned
from assetgen_pipeline_tests.ledger_helpers import open_real
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

PACKAGE = Path(providers.__file__).parent
# The renderer draws on this machine: it has nothing to send and nobody to pay.
MODULES = sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "local_renderer"})


@pytest.mark.parametrize("kind", HOSTED)
async def test_the_intent_is_committed_when_the_request_arrives(kind, stub, tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    arrived = []
    answers = OPENAI_ANSWERS if kind == "openai" else GEMINI_ANSWERS
    with closing(open_real(url, 10**9)) as ledger, closing(open_real(url, 10**9)) as onlooker:

        def look(request):
            # Another connection sees what is committed, and nothing else.
            arrived.append(onlooker.attempt_states([request.attempt_id]))
            return answers["ok"](request)

        stub.always(look)
        bench = Bench(ledger=ledger)
        async with aclosing(HOSTED[kind].at(stub)) as provider:
            await bench.generate(bench.open(*some_requests(3)), provider)
        attempts = {one.attempt_id: one.state for one in ledger.attempts(BATCH_ID)}

    assert len(arrived) == 3
    assert [list(seen.values()) for seen in arrived] == [[AttemptState.INTENT]] * 3
    assert attempts.keys() == {name for seen in arrived for name in seen}


class NoLedger(InMemoryLedger):
    """Holds money, and is gone when the intent should be written."""

    def intent(self, hold, request):
        raise LedgerUnavailable("no answer")


@pytest.mark.parametrize("kind", HOSTED)
async def test_without_a_ledger_nothing_is_sent(kind, stub):
    bench = Bench(ledger=NoLedger(clock=ManualClock(NOW), default_limit=Money.from_usd("10")))

    async with aclosing(HOSTED[kind].at(stub)) as provider:
        with pytest.raises(LedgerUnavailable):
            await bench.generate(bench.open(*some_requests(3)), provider)

    assert stub.counts["requests"] == 0


@pytest.mark.parametrize("forged", [None, "attempt-1", object()])
@pytest.mark.parametrize("kind", HOSTED)
async def test_without_a_token_nothing_is_sent(kind, stub, forged):
    async with aclosing(HOSTED[kind].at(stub)) as provider:
        with pytest.raises(TypeError, match="token"):
            await provider.generate(planned(model="gpt-image-2"), [], forged)

    assert stub.counts["requests"] == 0


def test_nobody_can_make_a_token_of_their_own():
    with pytest.raises(TypeError, match="ledger"):
        AttemptToken("attempt-1", 1, Money(1))


@pytest.mark.parametrize("name", MODULES)
def test_every_hosted_provider_sends_through_the_paid_wire_and_is_tried_here(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("paid_wire")
        for alias in node.names
    }

    assert imported & {"open_wire", "PaidWire"}
    assert any(kind in name for kind in HOSTED)
