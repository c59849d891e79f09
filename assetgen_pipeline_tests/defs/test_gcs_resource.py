"""Dagster's GCS resource without the rest of its library, each in a fresh interpreter."""

import subprocess
import sys

import pytest


def said(script):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


LOAD = "from assetgen_pipeline.defs.gcs_resource import GCSResource\nimport sys\n"


def test_our_code_location_loads_neither_bigquery_nor_pandas():
    script = (
        "import assetgen_pipeline.defs.control, sys\n"
        "heavy = ('pandas', 'google.cloud.bigquery', 'googleapiclient', 'openai', 'google.genai')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )

    assert said(script) == []


def test_it_is_the_librarys_own_class():
    script = LOAD + "from dagster_gcp.gcs import GCSResource as own; print(own is GCSResource)"

    assert said(script) == ["True"]


@pytest.mark.parametrize(
    "use",
    ["from dagster_gcp import BigQueryResource", "import dagster_gcp; dagster_gcp.gcs_resource"],
)
def test_whoever_asks_the_library_for_more_gets_all_of_it(use):
    script = LOAD + f"{use}\nimport dagster_gcp\nprint(dagster_gcp.GCSResource is GCSResource)"

    assert said(script) == ["True"]


def test_a_library_that_was_loaded_before_stays_as_it_is():
    script = (
        "import dagster_gcp\n" + LOAD + "print(dagster_gcp.GCSResource is GCSResource,"
        " 'google.cloud.bigquery' in sys.modules)"
    )

    assert said(script) == ["True", "True"]


def test_the_library_is_registered_with_its_version_as_ever():
    script = LOAD + (
        "from dagster_shared.libraries import DagsterLibraryRegistry\n"
        "import importlib.metadata as m\n"
        "print(DagsterLibraryRegistry.get()['dagster-gcp'] == m.version('dagster-gcp'))"
    )

    assert said(script) == ["True"]


def test_a_name_that_the_library_does_not_have_is_an_attribute_error():
    script = LOAD + "import dagster_gcp\nprint(hasattr(dagster_gcp, 'no_such_thing'))"

    assert said(script) == ["False"]
