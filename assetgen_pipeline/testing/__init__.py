"""Public fakes for every port; no test framework, no vendor library."""
