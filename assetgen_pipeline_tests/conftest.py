"""Fixtures that every test has: one event loop kind, and an environment of its own."""

import os

import pytest


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No test sees the settings, credentials or proxies of the machine it runs on."""
    ours = ("ASSETGEN_", "GOOGLE_", "GEMINI_", "OPENAI_", "STORAGE_EMULATOR_", "DAGSTER_")
    for name in list(os.environ):
        if name.startswith(ours) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
