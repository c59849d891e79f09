"""The outside world, made real; the only home of vendor libraries."""
