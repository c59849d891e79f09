"""`assetgen loadtest`: a batch of 100 rows (or more) through everything, and bars to pass."""

import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from assetgen_pipeline.cli.load_rehearsal import LoadPlan, rehearse
from assetgen_pipeline.cli.output import Seconds, json_option, print_json, print_table
from assetgen_pipeline.cli.running import Stopped, stop_signals
from assetgen_pipeline.domain.load_test import Bar, LoadFigures, judge


@click.command()
@click.option(
    "--rows",
    type=click.IntRange(10, 10_000),
    default=100,
    show_default=True,
    help="Rows of the large batch, one image each.",
)
@click.option(
    "--latency-s",
    type=Seconds(0.01, 60),
    default=2.0,
    show_default=True,
    help="Seconds that the stand-in for the provider takes per image.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to work, and keep everything; a folder that is removed by default.",
)
@json_option
def loadtest(rows: int, latency_s: float, home: Path | None, *, as_json: bool) -> int:
    """Drive a batch through bucket, sensor, daemon and servers that fail; exit 1 below a bar.

    Works in a HOME of its own, on this machine alone: nothing is billed.
    """
    say = partial(click.echo, err=True)
    with tempfile.TemporaryDirectory(prefix="assetgen-load-", ignore_cleanup_errors=True) as folder:
        plan = LoadPlan(rows=rows, latency_s=latency_s, home=(home or Path(folder)).absolute())
        try:
            with stop_signals():
                figures = rehearse(plan, say=say)
        except Stopped as stopped:
            return 128 + stopped.signum
    bars = judge(figures)
    passed = all(bar.passed for bar in bars)
    if as_json:
        print_json(
            {"passed": passed, "figures": _document(figures), "bars": [asdict(b) for b in bars]}
        )
    else:
        _show(figures, bars)
    return 0 if passed else 1


def _document(figures: LoadFigures) -> dict[str, object]:
    money = {
        f"{name}_usd": getattr(figures, name).usd()
        for name in ("estimate", "spent", "limit", "overrun", "overspend")
    }
    plain = figures.model_dump(exclude={"estimate", "spent", "limit", "overrun"})
    derived = {
        "duplicate_payments": figures.duplicate_payments,
        "unbooked_payments": figures.unbooked_payments,
    }
    return {**plain, **money, **derived}


def _show(figures: LoadFigures, bars: list[Bar]) -> None:
    measured = {
        "time": f"{figures.seconds} s (ideal {figures.ideal_seconds} s,"
        f" {figures.seconds / figures.ideal_seconds:.1f} times)",
        "rows": f"{figures.rows}, {figures.rows / figures.seconds:.1f} a second",
        "money": f"estimated {figures.estimate}, spent {figures.spent}",
        "provider requests": f"{figures.provider_requests}, {figures.provider_failures} failed,"
        f" {figures.provider_refusals} of them as too many",
        "reference requests": str(figures.reference_requests),
        "peak memory": f"{figures.peak_memory_mb:.0f} MB the largest process,"
        f" {figures.peak_memory_all_mb:.0f} MB all",
    }
    print_table([{"measured": name, "value": value} for name, value in measured.items()])
    click.echo("")
    rows = [
        {
            "": "ok" if bar.passed else "FAIL",
            "bar": bar.name,
            "wanted": bar.wanted,
            "measured": bar.measured,
        }
        for bar in bars
    ]
    print_table(rows)
