"""Who gives an order, as records name them."""

import getpass
import os
import socket

from assetgen_pipeline.cli.operator import operator_name


def test_an_operator_is_the_account_on_its_host():
    assert operator_name() == f"{getpass.getuser()}@{socket.gethostname()}"


def test_a_container_runs_as_a_number_that_no_account_has_and_gives_orders_all_the_same(
    monkeypatch,
):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)

    assert operator_name() == f"uid-987654@{socket.gethostname()}"
