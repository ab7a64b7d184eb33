"""What strangers, pages of other sites and careless clients get from the real process."""

import contextlib
import json
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from service.support import PATIENCE_S, Service, keys

pytestmark = pytest.mark.model

PROTECTED = (
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/tools"),
    ("GET", "/v1/stats"),
    ("GET", "/metrics"),
    ("POST", "/mcp"),
    ("GET", "/no-such-page"),
)


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes as they are and read until the server closes."""
    parts = urlsplit(service.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_everything_asks_for_a_key(service: Service, method: str, path: str) -> None:
    """At most as many as FAILED_KEYS_PER_MINUTE in this file before the test of that limit."""
    answer = httpx.request(method, service.url + path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_wrong_secret_and_a_revoked_key_are_refused(service: Service) -> None:
    key = service.new_key("short-lived")
    with service.client(key) as client:
        assert client.get("/v1/models").status_code == 200
    with service.client(key[:-1] + ("a" if key[-1] != "a" else "b")) as client:
        assert client.get("/v1/models").status_code == 401
    keys(service.data, "revoke", key.split("-")[1])
    with service.client(key) as client:
        assert client.get("/v1/models").status_code == 401


def test_secrets_lie_nowhere_in_clear_but_in_the_first_keys_file(service: Service) -> None:
    secret = service.key.split("-", 2)[2]
    files = [path for path in service.data.rglob("*") if path.is_file()]
    assert [p.name for p in files if secret.encode() in p.read_bytes()] == ["first-key"]
    assert secret not in service.log.read_text(encoding="utf-8")
    for path in (service.data, service.data / "first-key", service.data / "service.db"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_another_host_name_is_refused(service: Service) -> None:
    with service.client(headers={"Host": "evil.example:80"}) as client:
        for path in ("/", "/v1/models", "/health"):
            answer = client.get(path)
            assert answer.status_code == 421
            assert answer.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_is_refused(service: Service, origin: str) -> None:
    with service.client(headers={"Origin": origin}) as client:
        answer = client.post("/v1/runs", json={"request": "hello"})
        preflight = client.options("/v1/runs", headers={"Access-Control-Request-Method": "POST"})
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in {**answer.headers, **preflight.headers}
    assert preflight.status_code == 403


def test_the_pages_own_origin_passes(service: Service) -> None:
    with service.client(headers={"Origin": service.url}) as client:
        assert client.get("/v1/models").status_code == 200


def test_a_large_body_is_refused_declared_or_not(service: Service) -> None:
    with service.client() as client:
        declared = client.post("/v1/runs", content=b"x" * 1_000_001)
        streamed = client.post("/v1/runs", content=(b"x" * 100_000 for _ in range(11)))
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"


def test_a_slow_body_is_given_up(service: Service) -> None:
    request = (
        f"POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {service.key}\r\n"
        'Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"request": '
    )
    answer = raw(service, request.encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in answer


def drip(service: Service, request: bytes) -> bytes:
    """Send a request and then a byte now and then, until the server closes."""
    parts = urlsplit(service.url)
    pause = threading.Event()
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while not pause.wait(0.2):
                connection.sendall(b"x")
                connection.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    if not (piece := connection.recv(65536)):
                        return answer
                    answer += piece
        except OSError:
            return answer
    return answer


def test_who_does_not_come_to_the_point_is_hung_up_on(service: Service) -> None:
    """No request, half a header, a body that goes on behind a refusal: none holds a connection."""
    half = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    refused = b"POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 999999\r\n\r\n"
    with ThreadPoolExecutor(3) as pool:
        silent = pool.submit(raw, service, b"")
        slow, behind = (pool.submit(drip, service, text) for text in (half, refused))
        assert silent.result() == b""
        assert slow.result() == b""
        assert behind.result().startswith(b"HTTP/1.1 421")
    assert httpx.get(f"{service.url}/health/ready").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/web/../server.py", "/web/%2e%2e/server.py", "/web/..%2fserver.py", "/web//etc/passwd"],
)
def test_no_path_leads_out_of_the_page_folder(service: Service, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status = raw(service, request.encode()).split(b" ", 2)[1]
    assert status in (b"404", b"401")


def test_every_answer_forbids_foreign_content(service: Service) -> None:
    for path in ("/", "/docs", "/web/app.js", "/health", "/v1/models"):
        headers = httpx.get(service.url + path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "uvicorn" not in headers.get("Server", "")


def test_the_pages_name_no_other_host(service: Service) -> None:
    pages = ["/", "/docs", "/web/app.css", "/web/docs.js"]
    pages += [f"/web/{name}.js" for name in ("api", "app", "chart", "dom", "run", "side")]
    for page in pages:
        text = httpx.get(service.url + page).text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, page
        assert "https://" not in text, page


def test_a_guesser_of_keys_is_slowed_and_others_are_not(service: Service) -> None:
    refused = {}
    for _ in range(300):
        answer = httpx.get(f"{service.url}/v1/models")
        refused[answer.status_code] = answer
        if answer.status_code != 401:
            break
    assert set(refused) == {401, 429}
    assert int(refused[429].headers["Retry-After"]) >= 1
    with service.client() as client:
        assert client.get("/v1/models").status_code == 200


def test_random_bodies_get_an_error_of_ours(service: Service) -> None:
    bodies = [b"", b"null", b"[]", b"\xff\xfe", b'{"request":', b"[" * 5000, b"1e999", b'"\\ud800"']
    bodies += [json.dumps({"request": "\ud800"}).encode(), b'{"request": "x", "max_steps": 1e400}']
    with service.client() as client:
        for path in ("/v1/runs", "/v1/chat/completions"):
            for body in bodies:
                answer = client.post(path, content=body)
                assert 400 <= answer.status_code < 500, (path, body, answer.text)
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
