"""An OAuth 2 server that gives tokens for client credentials: unsigned ones, as a broker without keys takes them."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

CLIENT_ID, CLIENT_SECRET = "worker 1", "pass: wörd+%2F"


class TokenServer:
    """requests: the forms that were posted by the client it knows."""

    def __init__(self) -> None:
        self.requests: list[dict[str, list[str]]] = []
        self.lives_s = 3_600.0
        self.answer: bytes | None = None  # instead of a token
        self.redirects = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, body = server._answered(self.headers.get("Authorization", ""), form)
                self.send_response(status)
                if server.redirects:
                    self.send_header("Location", server.url)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/realms/plant/token"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answered(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, bytes]:
        if self.redirects:
            return 302, b""
        scheme, _, encoded = authorization.partition(" ")
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        if (scheme, unquote_plus(name), unquote_plus(secret)) != ("Basic", CLIENT_ID, CLIENT_SECRET):
            return 401, b'{"error": "invalid_client", "error_description": "no"}'
        if form.get("scope") == ["nothing"]:
            return 400, b'{"error": "invalid_scope"}'
        self.requests.append(form)
        if self.answer is not None:
            return 200, self.answer
        return 200, json.dumps({"access_token": self._token(), "expires_in": self.lives_s}).encode()

    def _token(self) -> str:
        now_s = time.time()
        claims = {"sub": "worker", "iat": min(now_s, now_s + self.lives_s - 1), "exp": now_s + self.lives_s}
        return f"{_encoded({'alg': 'none'})}.{_encoded(claims)}."


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
