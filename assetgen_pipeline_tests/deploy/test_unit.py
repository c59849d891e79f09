"""The unit for systemd: it starts `up` again, and leaves calls that are paid for the time they have."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from assetgen_pipeline.cli import stack

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "assetgen.service"


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(UNIT, encoding="utf-8")
    return parser


def test_it_starts_up_again_whatever_ends_it_and_never_gives_up(unit):
    assert "/bin/assetgen up " in unit["Service"]["ExecStart"]
    assert unit["Service"]["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_a_stop_reaches_up_alone_and_waits_until_its_calls_in_flight_are_over(unit):
    assert unit["Service"]["KillMode"] == "mixed"
    assert float(unit["Service"]["TimeoutStopSec"]) >= stack._STOP_S + 20


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_it(tmp_path):
    # There is no such program here, and an absent one is the only thing that may be wrong.
    there = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/srv/assetgen/venv/bin/assetgen", "/bin/true")
    there.write_text(text, encoding="utf-8")

    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(there)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (said.returncode, said.stderr) == (0, "")
