"""Turns CSVs of prompts into images on Dagster, safely with money."""
