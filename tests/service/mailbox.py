"""Somebody who gets mail: as much of SMTP as a sender without a login needs (RFC 5321)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer

WITHIN_S = 120.0


class Mailbox:
    """On a port of its own."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._changed = threading.Condition()
        mailbox = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 mailbox\r\n")
                for line in self.rfile:
                    word = line.split()[0].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 end with a dot\r\n")
                        mailbox.take(b"".join(iter(self.rfile.readline, b".\r\n")))
                    if word == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    self.wfile.write(b"250 ok\r\n")

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def take(self, text: bytes) -> None:
        with self._changed:
            self.mails.append(message_from_bytes(text, policy=policy.default))
            self._changed.notify_all()

    def until_there_are(self, mails: int) -> list[EmailMessage]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.mails) >= mails, WITHIN_S)
            return list(self.mails)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def getting_mail() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    try:
        yield mailbox
    finally:
        mailbox.close()
