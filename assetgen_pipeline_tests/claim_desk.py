"""A bucket with one file in its inbox, and runs that claim it."""

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.stages.parse_batch import InboxObject, claim_batch, parse_batch
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER, a_csv

FOLDER = BatchFolder(BATCH_ID)
INBOX = f"inbox/{OWNER}/spring.csv"
DATA = a_csv(["S1", "a kitchen"], ["S2", "a garden"])


class Desk:
    """A bucket with one file in its inbox."""

    def __init__(self, *, dry_run=False, data=DATA):
        self.clock = ManualClock(NOW)
        self.store = InMemoryObjectStore(BUCKET, clock=self.clock)
        self.live = set()
        self.inbox = self.drop(data, dry_run=dry_run)

    def drop(self, data, *, dry_run=False):
        info = self.store.write(INBOX, data, content_type="text/csv")
        return InboxObject(name=INBOX, generation=info.generation, dry_run=dry_run)

    def claim(self, run_id, *, inbox="own", store=None, limits=None):
        return claim_batch(
            BATCH_ID,
            inbox=self.inbox if inbox == "own" else inbox,
            run_id=run_id,
            is_live=self.live.__contains__,
            limits=limits or CsvLimits(),
            store=store or self.store,
            clock=self.clock,
        )

    def parse(self, claimed, **limits):
        return parse_batch(BATCH_ID, claimed=claimed, limits=CsvLimits(**limits), store=self.store)

    def reads(self):
        return [name for verb, name in self.store.calls if verb == "read"]
