"""deploy/nginx.conf in front of real web servers: who gets in, and what a foreign page cannot do.

The first test keeps the exposure known: where it fails, Dagster has mended it.
"""

import contextlib
import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

from assetgen_pipeline_tests.installed_programs import require_program
from assetgen_pipeline_tests.ports import free_port
from assetgen_pipeline_tests.processes import DEADLINE_S, until

ROOT = Path(__file__).parents[2]
MUTATION = (
    "mutation { addDynamicPartition("
    'repositorySelector: {repositoryName: "__repository__",'
    ' repositoryLocationName: "assetgen_pipeline"},'
    ' partitionsDefName: "batches", partitionKey: "%s") { __typename } }'
)
LOGGED_IN = {"Cookie": "session=ok"}
OWN = {"Host": "assetgen.example.org", **LOGGED_IN}
VIEW = {"Host": "assetgen-view.example.org", **LOGGED_IN}
JSON = {"Content-Type": "application/json"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("proxy")]


def ask(port, method, path, *, headers=None, body=None):
    """Status and text of an answer; status 0 where the connection was closed without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return 0, ""
    finally:
        connection.close()


def get_mutation(port, key, **options):
    query = urllib.parse.urlencode({"query": MUTATION % key})
    return ask(port, "GET", f"/graphql?{query}", **options)


def post_mutation(port, key, *, headers):
    body = json.dumps({"query": MUTATION % key})
    return ask(port, "POST", "/graphql", headers=headers, body=body)


@contextlib.contextmanager
def process(command, *, port, environment, log):
    """A server of ours, from its first answer until it is ended by its own id."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def listens():
        assert child.poll() is None, f"{command[0]} ended: {log.read_text()[-2000:]}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60):
            return True

    try:
        until(listens)
        yield
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Login(http.server.BaseHTTPRequestHandler):
    """Stands for the authenticating service: 202 with a session, else 401."""

    def do_GET(self):
        self.send_response(202 if "session=ok" in self.headers.get("Cookie", "") else 401)
        self.end_headers()

    def log_message(self, *_arguments):
        """Keep quiet."""


@contextlib.contextmanager
def login_service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Login)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """The ports of the raw web server, of the read-only one, and of the proxy."""
    nginx = require_program("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "dagster").mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder / "dagster" / "dagster.yaml")
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251
        "ASSETGEN_HOME": str(folder / "home"),
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    webserver = [
        str(Path(sys.executable).parent / "dagster-webserver"),
        *("-h", "127.0.0.1", "-w", str(ROOT / "workspace.yaml")),
    ]
    raw, view, proxy = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        for port, options in ((raw, []), (view, ["--read-only"])):
            stack.enter_context(
                process(
                    [*webserver, "-p", str(port), *options],
                    port=port,
                    environment=environment,
                    log=folder / f"webserver-{port}.log",
                )
            )
        login = stack.enter_context(login_service())
        site = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
        for public, ours in ((8080, proxy), (3000, raw), (3001, view), (4180, login)):
            site = site.replace(f":{public}", f":{ours}")
            site = site.replace(f"listen {public}", f"listen 127.0.0.1:{ours}")
        paths = "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{paths}{site}\n}}\n",
            encoding="utf-8",
        )
        stack.enter_context(
            process(
                [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)],
                port=proxy,
                environment=environment,
                log=folder / "nginx.log",
            )
        )
        yield raw, view, proxy


def test_a_bare_web_server_obeys_a_foreign_page_that_only_makes_the_browser_get_an_address(ports):
    raw, _view, _proxy = ports
    foreign = {"Origin": "https://evil.example", "Host": "evil.example", "Accept": "image/*"}

    status, text = get_mutation(raw, "ada.exposed.00000001", headers=foreign)

    assert status == 200
    assert "AddDynamicPartitionSuccess" in text


def test_a_read_only_web_server_refuses_to_write(ports):
    _raw, view, proxy = ports

    assert "UnauthorizedError" in get_mutation(view, "ada.view.00000001")[1]
    assert "UnauthorizedError" in post_mutation(proxy, "ada.v.00000002", headers=VIEW | JSON)[1]
    assert ask(proxy, "GET", "/runs", headers=VIEW)[0] == 200


@pytest.mark.parametrize("host", ["assetgen.example.org", "assetgen-view.example.org"])
@pytest.mark.parametrize("path", ["/", "/runs", "/graphql?query={__typename}"])
def test_nobody_gets_in_without_a_login(ports, host, path):
    assert ask(ports[2], "GET", path, headers={"Host": host})[0] in {401, 405}
    body = '{"query": "{__typename}"}'
    assert ask(ports[2], "POST", "/graphql", headers={"Host": host} | JSON, body=body)[0] == 401


def test_an_operator_works_as_before(ports):
    proxy = ports[2]
    headers = OWN | JSON | {"Origin": "https://assetgen.example.org"}

    assert ask(proxy, "GET", "/runs", headers=OWN)[0] == 200
    status, text = post_mutation(proxy, "ada.mine.00000001", headers=headers)

    assert (status, "AddDynamicPartitionSuccess" in text) == (200, True)


def test_a_foreign_page_writes_nothing_with_an_operators_session(ports):
    proxy = ports[2]
    foreign = OWN | {"Origin": "https://evil.example"}

    assert get_mutation(proxy, "ada.a.00000001", headers=OWN)[0] == 405
    assert get_mutation(proxy, "ada.b.00000001", headers=foreign)[0] == 403
    assert post_mutation(proxy, "ada.c.00000001", headers=foreign | JSON)[0] == 403
    plain = OWN | {"Content-Type": "text/plain"}
    assert post_mutation(proxy, "ada.d.00000001", headers=plain)[0] == 405
    form = OWN | {"Content-Type": "application/x-www-form-urlencoded"}
    assert post_mutation(proxy, "ada.e.00000001", headers=form)[0] == 405


@pytest.mark.parametrize("host", [OWN, VIEW], ids=["operators", "viewers"])
def test_a_foreign_page_opens_no_socket_with_anybodys_session(ports, host):
    upgrade = host | {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "graphql-ws",
    }
    own = {"Origin": f"https://{host['Host']}"}
    foreign = {"Origin": "https://evil.example"}

    assert ask(ports[2], "GET", "/graphql", headers=upgrade | own)[0] == 101
    assert ask(ports[2], "GET", "/graphql", headers=upgrade | foreign)[0] == 403
    assert ask(ports[2], "GET", "/graphql", headers=upgrade | {"Origin": "null"})[0] == 403


def test_a_name_that_was_rebound_to_our_address_gets_nothing(ports):
    rebound = {"Host": "evil.example", **LOGGED_IN}

    assert ask(ports[2], "GET", "/", headers=rebound) == (0, "")
    assert post_mutation(ports[2], "ada.f.00000001", headers=rebound | JSON) == (0, "")


def test_other_ways_to_write_are_closed(ports):
    status, _text = ask(
        ports[2], "POST", "/report_asset_materialization/batch_costs", headers=OWN | JSON, body="{}"
    )

    assert status == 403
