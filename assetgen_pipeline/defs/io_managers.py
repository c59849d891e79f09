"""How one asset hands its artifact to the next: typed JSON beside the batch, never pickle.

Image bytes do not pass through here; artifacts name objects.
https://docs.dagster.io/guides/build/io-managers
"""

from typing import Any

import dagster as dg
from pydantic import TypeAdapter

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.ports.object_store import ObjectStore


class ArtifactIOManager(dg.ConfigurableIOManager):
    """Writes and reads artifacts under `artifacts/<batch_id>/` of the bucket."""

    object_store: dg.ResourceDependency[ObjectStore]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Write an artifact; the newest run's stands."""
        adapter: TypeAdapter[Any] = TypeAdapter(context.dagster_type.typing_type)
        name = _artifact_name(context.partition_key, context)
        self.object_store.write(name, adapter.dump_json(obj), content_type="application/json")

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Read an artifact as the type that was written."""
        upstream = context.upstream_output
        if upstream is None:
            raise AssertionError("unreachable")
        # Of an asset that this run does not make Dagster tells no type but the input's; of an op
        # the upstream's counts: a fan-in input is a list that Dagster loads one by one.
        kind = context.dagster_type if upstream.has_asset_key else upstream.dagster_type
        adapter: TypeAdapter[Any] = TypeAdapter(kind.typing_type)
        name = _artifact_name(context.partition_key, upstream)
        return adapter.validate_json(self.object_store.read(name))


def _artifact_name(batch_id: str, output: dg.OutputContext) -> str:
    folder = BatchFolder(batch_id)
    if output.has_asset_key:
        return folder.artifact(output.asset_key.path[-1])
    return folder.op_artifact(output.run_id, output.step_key, output.mapping_key)
