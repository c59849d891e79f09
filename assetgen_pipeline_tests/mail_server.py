"""A mail server of this machine that keeps what it is sent, or refuses it."""

import socketserver
import threading
from contextlib import contextmanager

from assetgen_pipeline.adapters.email_notifier import EmailNotifier
from assetgen_pipeline_tests.processes import DEADLINE_S


class MailServer(socketserver.StreamRequestHandler):
    """Enough of SMTP to take one message, or to refuse the recipient."""

    def handle(self):
        self.wfile.write(b"220 test\r\n")
        body = False
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if body:
                self.server.mail.append(line)
                if line == ".":
                    body = False
                    self.wfile.write(b"250 taken\r\n")
            elif line.upper() == "DATA":
                body = True
                self.wfile.write(b"354 go on\r\n")
            elif line.lower().startswith("rcpt") and self.server.refuses:
                self.wfile.write(b"550 no such person\r\n")
            elif line.lower() == "quit":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


@contextmanager
def a_mail_server():
    """A server at a free port: `mail` is what came, `refuses` whether it takes any more."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        server.mail, server.refuses = [], False
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def mailer(server):
    return EmailNotifier(
        "oncall@shop.test",
        sender="assetgen@shop.test",
        server=f"127.0.0.1:{server.server_address[1]}",
        timeout_s=DEADLINE_S,
    )
