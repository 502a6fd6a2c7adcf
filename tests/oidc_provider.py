"""A small OpenID Connect provider for tests: it signs in whoever is typed, with the claims that a test has set.

Discovery, the authorisation code flow with a form, a token endpoint that checks the client, the code and PKCE and
signs with RS256, the key set, user info and logout. One thread a request, no files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID = "cist-studio"
CLIENT_SECRET = "a secret between the studio and its provider"

_FORM = """<!doctype html><title>Provider</title><h1>Who are you?</h1>
<form method="post"><input name="user" aria-label="User" autofocus><button>Continue</button>
<button name="refuse" value="yes">Refuse</button></form>"""


class Provider:
    """The provider: whom it knows, and what it was asked for.

    Attributes:
        claims: what it says of each user, beside the issuer and the subject.
        codes: handed out and not yet taken.
        signed_out: how often somebody came to sign out.
    """

    def __init__(self, port: int = 0) -> None:
        self.claims: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.signed_out = 0
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def metadata_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def person(self, user: str) -> dict[str, Any]:
        return {"iss": self.issuer, "sub": f"subject-of-{user}", **self.claims.get(user, {})}

    def code_for(self, user: str, query: dict[str, str]) -> str:
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**query, "user": user}
        return code

    def token(self, form: dict[str, str], client: tuple[str, str]) -> dict[str, Any] | None:
        """What a code is exchanged for, once; None if anything about the request is wrong."""
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or client != (CLIENT_ID, CLIENT_SECRET) or form.get("redirect_uri") != asked["redirect_uri"]:
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return None
        now = int(time.time())
        claims = {**self.person(asked["user"]), "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        return {
            "access_token": asked["user"],
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key),
        }


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, query = self._asked()
            if path == "/.well-known/openid-configuration":
                self._json(provider.metadata)
            elif path == "/keys":
                self._json({"keys": [provider.key.as_dict(private=False)]})
            elif path == "/userinfo":
                self._json(provider.person(self.headers["Authorization"].removeprefix("Bearer ")))
            elif path == "/authorize" and query.get("client_id") == CLIENT_ID:
                self._reply(200, _FORM.encode(), {"Content-Type": "text/html"})
            elif path == "/logout":
                provider.signed_out += 1
                self._reply(302, b"", {"Location": query["post_logout_redirect_uri"]})
            else:
                self._reply(404, b"")

        def do_POST(self) -> None:
            path, query = self._asked()
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            if path == "/authorize":
                answer = (
                    {"error": "access_denied"} if "refuse" in form else {"code": provider.code_for(form["user"], query)}
                )
                back = f"{query['redirect_uri']}?{urlencode({**answer, 'state': query['state']})}"
                self._reply(302, b"", {"Location": back})
            elif path == "/token":
                basic = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
                name, _, secret = basic.partition(":")
                token = provider.token(form, (name, secret))
                self._json(token or {"error": "invalid_grant"}, 200 if token else 400)
            else:
                self._reply(404, b"")

        def _asked(self) -> tuple[str, dict[str, str]]:
            parts = urlsplit(self.path)
            return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}

        def _json(self, content: object, status: int = 200) -> None:
            self._reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def provider(port: int = 0) -> Iterator[Provider]:
    """A provider on a port of this machine, a free one by default, until the block ends."""
    there = Provider(port)
    thread = threading.Thread(target=there.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield there
    finally:
        there.server.shutdown()
        there.server.server_close()
        thread.join()
