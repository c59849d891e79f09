"""The command shell, one module per group of verbs."""
