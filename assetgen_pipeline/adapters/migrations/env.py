"""Runs revisions on the connection that `upgrade_schema` passes; configures no logging."""

from alembic import context

from assetgen_pipeline.adapters.sql_ledger_schema import metadata

# The caller's transaction holds everything, also where the engine's DDL is not known to roll back.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="budget_alembic_version",
    render_as_batch=True,
)
context.run_migrations()
