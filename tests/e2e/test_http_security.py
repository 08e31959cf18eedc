"""Requests that are made to be read differently by two parties, against the coordinator itself: smuggling over HTTP/1.1 and HTTP/2,
the h2c upgrade, header injection. A refused request must have no effect, and no bytes of one may be taken for another."""

import re
import shutil
import socket
import subprocess

import pytest

from harness import PATIENCE, TOP


@pytest.fixture
def node(coordinator):
    return coordinator()


def talk(node, text):
    """All that the server says to these bytes until it closes; we end our side first."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=30 * PATIENCE) as wire:
        wire.sendall(text)
        wire.shutdown(socket.SHUT_WR)
        said = b""
        while more := wire.recv(65536):
            said += more
        return said


def statuses(said):
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3})", said, re.M)]


SMUGGLED = b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n"  # answered with 200 if ever it is seen
BODY = b"0\r\n\r\n" + SMUGGLED
AMBIGUOUS = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: %d\r\n" % len(BODY),
    "a list of lengths": b"Content-Length: 5, %d\r\n" % len(BODY),
    "length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(BODY),
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "a coding that nobody knows": b"Transfer-Encoding: xchunked\r\n",
    "chunked is not the last": b"Transfer-Encoding: chunked, identity\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab in the value": b"Transfer-Encoding:\tchunked\x0b\r\n",
    "a folded line": b"Transfer-Encoding:\r\n chunked\r\n",
    "a signed length": b"Content-Length: +5\r\n",
    "a length in hex": b"Content-Length: 0x5\r\n",
    "a negative length": b"Content-Length: -5\r\n",
    "a huge length": b"Content-Length: 184467440737095516165\r\n",
    "a bare carriage return": b"X: a\rTransfer-Encoding: chunked\r\n",
    "a NUL": b"X: a\0b\r\n",
    "a line without a name": b": chunked\r\n",
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_a_body_of_two_lengths_is_refused_and_nothing_is_read_behind_it(node, headers):
    said = talk(node, b"POST /v1/session/login HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + BODY)
    assert 200 not in statuses(said), said
    assert len(statuses(said)) <= 1, said


BROKEN = {
    "an obsolete version": b"GET /health HTTP/0.9\r\n\r\n",
    "a version of the future": b"GET /health HTTP/3.0\r\nHost: x\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /health /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a line feed in the target": b"GET /hea\nlth HTTP/1.1\r\nHost: x\r\n\r\n",
    "a broken chunk size": b"POST /v1/session/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a chunk size beyond all": b"POST /v1/session/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
    "a chunk that is longer than it says": b"POST /v1/session/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_request_is_refused(node, text):
    assert 200 not in statuses(talk(node, text + SMUGGLED))


def test_the_upgrade_to_clear_text_http2_is_not_taken(node):
    said = talk(node, b"GET /api/version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                      b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
    assert statuses(said) == [200], "it is answered as what it is, an HTTP/1.1 request"
    assert b"upgrade:" not in said.lower()


def test_a_request_id_cannot_carry_a_header(node):
    for value in (b"a\rX-Evil: 1", b"a\nX-Evil: 1", b"\x01", "ä".encode(), b"x" * 500):
        said = talk(node, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: " + value + b"\r\n\r\n")
        head = said.split(b"\r\n\r\n")[0].lower()
        assert not re.search(rb"^x-evil:", head, re.M), said
        if 200 in statuses(said):
            echoed = re.search(rb"^x-request-id: ([^\r\n]*)", head, re.M).group(1)
            assert re.fullmatch(rb"[0-9a-v]{12}", echoed), "an id that cannot stand in a header is replaced"


def test_names_in_paths_come_back_as_text_only(node):
    for path in ("/v1/models/%0d%0aX-Evil:%201", "/v1/keys/%00", "/v1/models/..%2f..%2fhealth", "/v1/keys/%ZZ"):
        answer = node.client.get(path)
        assert answer.status_code in (403, 404)
        assert "x-evil" not in answer.headers


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header field that is never indexed, without Huffman coding (RFC 7541 6.2.3)."""
    assert len(name) < 127 and len(value) < 127
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


POST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/v1/session/login"), (b":authority", b"x")]
HTTP2 = {
    "transfer-encoding": POST + [(b"transfer-encoding", b"chunked")],
    "connection": POST + [(b"connection", b"keep-alive")],
    "an upgrade": POST + [(b"upgrade", b"h2c")],
    "a line feed in a value": POST + [(b"x", b"a\nb: c")],
    "a carriage return in a value": POST + [(b"x", b"a\rb")],
    "a NUL in a value": POST + [(b"x", b"a\0b")],
    "a name with capitals": POST + [(b"X-Up", b"1")],
    "a name with a colon": POST + [(b"x:y", b"1")],
    "two paths": POST + [(b":path", b"/health")],
    "a pseudo-header behind another": [(b"x", b"1"), *POST],
    "no path": [field for field in POST if field[0] != b":path"],
    "a path with a space": [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/health HTTP/1.1\r\nx: y"), (b":authority", b"x")],
    "a length that is wrong": POST + [(b"content-length", b"3")],
}


@pytest.mark.parametrize("fields", HTTP2.values(), ids=HTTP2.keys())
def test_http2_requests_that_would_be_two_in_http1_are_refused(node, fields):
    block = b"".join(literal(name, value) for name, value in fields)
    said = talk(node, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, block) + frame(0, 1, 1, b"hello"))
    kinds, at = [], 0
    while at + 9 <= len(said):
        size = int.from_bytes(said[at:at + 3], "big")
        kinds.append((said[at + 3], int.from_bytes(said[at + 5:at + 9], "big")))
        at += 9 + size
    answered = (1, 1) in kinds  # HEADERS on the stream: then it is a refusal, never what was asked for
    assert (3, 1) in kinds or (7, 0) in kinds or answered, kinds
    assert node.client.get("/health").status_code == 200
    if answered:
        refused = next(entry for entry in node.metrics() if entry.startswith("http_requests_total") and "session/login" in entry)
        assert 'status="4' in refused


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_asking_for_the_upgrade_stays_on_http1(node):
    out = subprocess.run(["curl", "-sS", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", node.url + "/health"],
                         capture_output=True, text=True, timeout=30 * PATIENCE)
    assert out.stdout == "1.1 200", out


def test_keys_are_looked_up_by_hash_and_compared_in_constant_time():
    """Timing itself is too noisy for a test, so this reads how it is done."""
    source = (TOP / "src/coordinator/accounts/accounts.c").read_text()
    body = source[source.index("enum db_err accounts_resolve("):]
    assert body.index("sha256(token.at") < body.index("secret_equal(") < body.index("recall(")
    assert not re.search(r"(memcmp|strcmp|str_eq|str_is)\([^;]*(token|hash)", source), "secrets are compared with secret_equal only"
