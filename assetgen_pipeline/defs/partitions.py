"""Partitions: one per batch, added when its run is requested.

https://docs.dagster.io/guides/build/partitions-and-backfills
"""

import dagster as dg

batches = dg.DynamicPartitionsDefinition(name="batches")
