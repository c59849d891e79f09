"""The Dagster shell round the stages."""
