"""`results.csv` opened by LibreOffice, with formulas switched on: none of its cells is one."""

import subprocess
import xml.etree.ElementTree as ET

import pytest

from assetgen_pipeline.domain.csv_cells import escape_cell
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.result_files import failed_csv, results_csv
from assetgen_pipeline_tests.builders import BUCKET, a_batch, an_image_request
from assetgen_pipeline_tests.domain.test_csv_cells import HOSTILE
from assetgen_pipeline_tests.installed_programs import require_program
from assetgen_pipeline_tests.processes import DEADLINE_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Comma, double quote, UTF-8, from line 1, ..., and at the end: evaluate formulas.
FILTER = "CSV:44,34,76,1,,0,false,true,false,false,false,-1,true"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What a spreadsheet makes of a CSV: the formulas, and the text of every cell."""
    soffice = require_program("soffice", "libreoffice-calc-nogui")
    folder = tmp_path_factory.mktemp("office")

    def convert(name, data):
        source = folder / f"{name}.csv"
        source.write_bytes(data)
        subprocess.run(
            [
                soffice, f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless",
                f"--infilter={FILTER}", "--convert-to", "fods", "--outdir", str(folder), str(source),
            ],
            check=True,
            capture_output=True,
            timeout=DEADLINE_S,
        )  # fmt: skip
        document = ET.parse(folder / f"{name}.fods")
        cells = list(document.iter(f"{TABLE}table-cell"))
        formulas = [cell.get(f"{TABLE}formula") for cell in cells if cell.get(f"{TABLE}formula")]
        texts = {"\n".join("".join(p.itertext()) for p in cell.iter(f"{TEXT}p")) for cell in cells}
        return formulas, texts

    return convert


def an_outcome():
    """A row for each hostile cell, in the prompt and in a column of the user's own."""
    requests = [
        an_image_request(f"S{n}", row_number=n, prompt=cell, cells=(f"S{n}", cell, cell))
        for n, cell in enumerate(HOSTILE)
    ]
    return batch_outcome(a_batch(*requests, header=("scene_id", "prompt", "notes")), None, [])


def test_a_spreadsheet_would_run_these_cells_if_they_were_not_escaped(opened):
    formulas, _texts = opened("raw", b'a,b\n=1+1,"=HYPERLINK(""http://x"",""y"")"\n')

    assert len(formulas) == 2


@pytest.mark.parametrize("name", ["results", "failed"])
def test_no_cell_of_a_result_file_is_a_formula_and_the_text_is_all_there(opened, name):
    outcome = an_outcome()
    data = results_csv(outcome, {}, bucket=BUCKET) if name == "results" else failed_csv(outcome)

    formulas, texts = opened(name, data)

    assert formulas == []
    assert {escape_cell("=1+1"), escape_cell("@SUM(1)"), escape_cell("＝1+1")} <= texts
