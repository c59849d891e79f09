"""The rows of a batch's results, as a spreadsheet reads them."""

import csv
import io

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline_tests.builders import BATCH_ID


def read_results(store, batch_id=BATCH_ID):
    text = store.read(BatchFolder(batch_id).results).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))
