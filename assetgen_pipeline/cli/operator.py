"""Who gives an order: the account that runs the command."""

import getpass
import os
import socket


def operator_name() -> str:
    """The operator as records name them: account and host."""
    return f"{_account()}@{socket.gethostname()}"


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Containers often run as a number that no account has; Python 3.13 raises the latter.
        return f"uid-{os.getuid()}"
