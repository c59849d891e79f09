"""The invariants of the books; their SQL is the view `v_ledger_check`, their words are here."""

from sqlalchemy import Connection, text

from assetgen_pipeline.domain.budget import InvariantCheck

SENTENCES = {
    "I1": "No day holds and has spent more than its limit and its recorded overrun.",
    "I2": "A day's held amount is what its holds have neither drawn nor released.",
    "I3": "A day's settled amount is the cost of its captured and assumed attempts.",
    "I4": "Every figure of a day is the sum of its journal.",
    "I5": "The journal of a day has no gap: its version counts its entries.",
    "I6": "A hold's in-flight and drawn amounts are those of its attempts.",
    "I7": "Every journal entry states the balances that follow from those before it.",
    "I9": "Every overrun is explained by an attempt and was alarmed.",
}


def run_checks(connection: Connection) -> list[InvariantCheck]:
    """Every invariant with what breaks it."""
    found: dict[str, list[str]] = {name: [] for name in SENTENCES}
    rows = connection.execute(
        text("SELECT invariant, subject FROM v_ledger_check ORDER BY invariant, subject")
    )
    for row in rows:
        found.setdefault(row.invariant, []).append(row.subject)
    return [
        InvariantCheck(name=name, sentence=SENTENCES.get(name, ""), violations=tuple(subjects))
        for name, subjects in found.items()
    ]
