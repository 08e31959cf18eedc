"""RFC 6455 in both roles, in the manner of the Autobahn test suite: raw frames from a peer written here, and the independent
implementations `websockets` and `wsproto`. Programs under test: ws_echo (server) and ws_echo_client."""

import base64
import hashlib
import os
import queue
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server
import wsproto
import wsproto.events as events

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DARKBLOOM_BUILD", TOP / "build/release")).resolve()
if not BUILD.is_absolute():
    BUILD = TOP / BUILD
TIMEOUT = 60
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Program:
    """A running test program whose lines of output can be waited for."""

    def __init__(self, name, *arguments):
        self.process = subprocess.Popen([BUILD / "testbin" / name, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self):
        return self.lines.get(timeout=TIMEOUT)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(TIMEOUT) == 0
        self.reader.join()


class Peer:
    """The other end, frame by frame. As a client it masks, and expects bare frames; as a server the reverse."""

    def __init__(self, sock, is_client, program, buffered=b""):
        self.sock, self.is_client, self.program, self.buffer = sock, is_client, program, buffered
        sock.settimeout(TIMEOUT)

    def frame(self, opcode, payload=b"", fin=True, rsv=0, masked=None):
        masked = self.is_client if masked is None else masked
        head = bytes([fin << 7 | rsv << 4 | opcode])
        bit, size = masked << 7, len(payload)
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += bytes([bit | 126]) + struct.pack("!H", size)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", size)
        if not masked:
            return head + payload
        mask = os.urandom(4)
        stream = (mask * (size // 4 + 1))[:size]
        return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")

    def send(self, *arguments, **options):
        self.sock.sendall(self.frame(*arguments, **options))

    def take(self, size):
        while len(self.buffer) < size:
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise EOFError
            self.buffer += piece
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def receive(self):
        first, second = self.take(2)
        assert first & 0x80 and not first & 0x70, "we send whole frames without extensions"
        assert bool(second & 0x80) != self.is_client, "a client masks, a server does not"
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self.take(2))
            assert size > 125
        elif size == 127:
            size, = struct.unpack("!Q", self.take(8))
            assert size > 65535
        mask = self.take(4) if second & 0x80 else bytes(4)
        payload = self.take(size)
        stream = (mask * (size // 4 + 1))[:size]
        return first & 15, (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")

    def expect_close(self, code, outcome=None):
        """The program says close with `code`, ends the connection, and reports `outcome` (its own code if not given)."""
        opcode, payload = self.receive()
        assert opcode == CLOSE
        assert payload[:2] == (b"" if code is None else struct.pack("!H", code))
        self.expect_end()
        assert self.program.line().startswith(f"closed {outcome if outcome else code} ")
        return payload[2:]

    def expect_end(self):
        if not self.is_client:
            self.sock.shutdown(socket.SHUT_WR)  # the server's side ends the TCP connection
        with pytest.raises((EOFError, ConnectionResetError)):
            self.take(1)
        self.sock.close()


def accept_key(key):
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def read_head(sock):
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(65536)
        assert piece, "ended inside the head"
        head += piece
    head, rest = head.split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    return lines[0], {name.strip().lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines[1:])}, rest


@pytest.fixture(scope="module")
def server():
    program = Program("ws_echo", 8 << 20)
    program.port = int(program.line())
    yield program
    program.stop()


def handshake(key=b"dGhlIHNhbXBsZSBub25jZQ==", method=b"GET", version=b"HTTP/1.1", upgrade=b"websocket", connection=b"Upgrade", ws_version=b"13", extra=b""):
    lines = [method + b" /ws/provider " + version, b"Host: localhost"]
    for name, value in ((b"Upgrade", upgrade), (b"Connection", connection), (b"Sec-WebSocket-Key", key), (b"Sec-WebSocket-Version", ws_version)):
        if value is not None:
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n" + extra + b"\r\n"


def connect_to(server, early=b"", **options):
    sock = socket.create_connection(("127.0.0.1", server.port), TIMEOUT)
    sock.sendall(handshake(**options) + early)
    status, headers, rest = read_head(sock)
    return sock, status, headers, rest


class Listener:
    """Where ws_echo_client connects to."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.settimeout(TIMEOUT)
        self.url = f"ws://127.0.0.1:{self.sock.getsockname()[1]}/path?query=1"
        self.program = Program("ws_echo_client", self.url)

    def accept(self):
        sock, _ = self.sock.accept()
        sock.settimeout(TIMEOUT)
        status, headers, rest = read_head(sock)
        assert rest == b""
        return sock, status, headers

    def close(self):
        self.sock.close()
        assert self.program.process.wait(TIMEOUT) == 0


@pytest.fixture
def listener():
    one = Listener()
    yield one
    one.close()


@pytest.fixture(params=["our_server", "our_client"])
def peer(request):
    """An open connection to the program under test, in each of its roles."""
    if request.param == "our_server":
        program = request.getfixturevalue("server")
        sock, status, headers, rest = connect_to(program)
        assert status == b"HTTP/1.1 101 Switching Protocols"
        yield Peer(sock, True, program, rest)
        sock.close()
    else:
        listener = request.getfixturevalue("listener")
        sock, status, headers = listener.accept()
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                     + accept_key(headers[b"sec-websocket-key"]) + b"\r\n\r\n")
        yield Peer(sock, False, listener.program)
        sock.close()


def close_normally(peer):
    peer.send(CLOSE, struct.pack("!H", 1000))
    peer.expect_close(1000)


# --- messages ---

@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20, 5 << 20])
def test_messages_of_every_length_form_are_echoed(peer, opcode, size):
    payload = (b"*" * size) if opcode == TEXT else os.urandom(size)
    peer.send(opcode, payload)
    assert peer.receive() == (opcode, payload)
    close_normally(peer)


@pytest.mark.parametrize("size, piece", [(5, 1), (300, 1), (65536, 997), (1 << 20, 65537)])
def test_messages_may_arrive_in_any_pieces(peer, size, piece):
    payload = os.urandom(size)
    wire = peer.frame(BINARY, payload) + peer.frame(TEXT, "Καλημέρα κόσμε".encode())
    for at in range(0, len(wire), piece):
        peer.sock.sendall(wire[at:at + piece])
    assert peer.receive() == (BINARY, payload)
    assert peer.receive() == (TEXT, "Καλημέρα κόσμε".encode())
    close_normally(peer)


def test_many_messages_in_one_segment_are_echoed_in_order(peer):
    wire = b"".join(peer.frame(TEXT, b"message %d" % i) for i in range(2000))
    sender = threading.Thread(target=peer.sock.sendall, args=(wire,))
    sender.start()
    for i in range(2000):
        assert peer.receive() == (TEXT, b"message %d" % i)
    sender.join()
    close_normally(peer)


@pytest.mark.parametrize("parts", [[b"frag", b"ment"], [b"", b"", b""], [b"a"] * 500, [b"x" * 65536] * 20])
def test_fragments_are_joined(peer, parts):
    for number, part in enumerate(parts):
        peer.send(CONT if number else TEXT, part, fin=number == len(parts) - 1)
    assert peer.receive() == (TEXT, b"".join(parts))
    close_normally(peer)


def test_control_frames_may_stand_between_fragments(peer):
    peer.send(TEXT, b"one ", fin=False)
    peer.send(PING, b"now?")
    assert peer.receive() == (PONG, b"now?")
    peer.send(PONG, b"unasked")
    peer.send(CONT, b"two ", fin=False)
    peer.send(PING)
    assert peer.receive() == (PONG, b"")
    peer.send(CONT, b"three", fin=True)
    assert peer.receive() == (TEXT, b"one two three")
    close_normally(peer)


def test_a_close_between_fragments_closes(peer):
    peer.send(TEXT, b"never finished", fin=False)
    close_normally(peer)


# --- ping and pong ---

@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(0, 250, 2)), b"\x00\xff\xfe\xfd\xfc"])
def test_pings_are_answered_with_their_payload(peer, payload):
    peer.send(PING, payload)
    assert peer.receive() == (PONG, payload)
    close_normally(peer)


def test_a_ping_may_arrive_byte_by_byte(peer):
    for byte in peer.frame(PING, b"slowly"):
        peer.sock.sendall(bytes([byte]))
    assert peer.receive() == (PONG, b"slowly")
    close_normally(peer)


def test_of_pings_that_arrive_together_at_least_the_last_is_answered(peer):
    peer.sock.sendall(b"".join(peer.frame(PING, b"%d" % i) for i in range(10)))
    opcode, payload = peer.receive()
    while payload != b"9":
        assert opcode == PONG
        opcode, payload = peer.receive()
    close_normally(peer)


def test_unasked_pongs_are_ignored(peer):
    for payload in (b"", b"who asked?"):
        peer.send(PONG, payload)
    peer.send(PING, b"still there?")
    assert peer.receive() == (PONG, b"still there?")
    close_normally(peer)


# --- broken frames ---

BROKEN = {
    **{f"rsv {rsv}": [dict(opcode=TEXT, payload=b"x", rsv=rsv)] for rsv in range(1, 8)},
    **{f"rsv {rsv} on a ping": [dict(opcode=PING, rsv=rsv)] for rsv in (1, 4)},
    **{f"opcode {opcode}": [dict(opcode=opcode, payload=b"x")] for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126 bytes": [dict(opcode=PING, payload=bytes(126))],
    "pong of 65536 bytes": [dict(opcode=PONG, payload=bytes(65536))],
    "close of 126 bytes": [dict(opcode=CLOSE, payload=b"\x03\xe8" + b"r" * 124)],
    "fragmented ping": [dict(opcode=PING, fin=False)],
    "fragmented pong": [dict(opcode=PONG, fin=False), dict(opcode=CONT)],
    "fragmented close": [dict(opcode=CLOSE, fin=False)],
    "continuation of nothing": [dict(opcode=CONT, payload=b"x")],
    "open continuation of nothing": [dict(opcode=CONT, payload=b"x", fin=False)],
    "continuation after a whole message": [dict(opcode=TEXT, payload=b"whole"), dict(opcode=CONT, payload=b"x")],
    "text inside a text": [dict(opcode=TEXT, payload=b"x", fin=False), dict(opcode=TEXT, payload=b"y")],
    "binary inside a text": [dict(opcode=TEXT, payload=b"x", fin=False), dict(opcode=BINARY, payload=b"y")],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_close_with_1002(peer, name):
    frames = BROKEN[name]
    peer.send(TEXT, b"good")
    peer.sock.sendall(b"".join(peer.frame(**frame) for frame in frames))
    assert peer.receive() == (TEXT, b"good")
    if len(frames) > 1 and frames[0].get("fin", True):
        assert peer.receive()[0] == frames[0]["opcode"]
    peer.expect_close(1002)


def test_masking_of_the_wrong_side_closes_with_1002(peer):
    peer.send(TEXT, b"x", masked=not peer.is_client)
    peer.expect_close(1002)


@pytest.mark.parametrize("form", [struct.pack("!BH", 126, 125), struct.pack("!BQ", 127, 65535), struct.pack("!BQ", 127, 1 << 63)])
def test_wrong_length_forms_close_with_1002(peer, form):
    head = bytes([0x82, form[0] | (0x80 if peer.is_client else 0)]) + form[1:] + (bytes(4) if peer.is_client else b"")
    peer.sock.sendall(head)
    peer.expect_close(1002)


def test_the_close_code_arrives_even_when_much_stands_behind_the_broken_frame(peer):
    peer.sock.sendall(peer.frame(3, b"") + peer.frame(BINARY, bytes(4 << 20))[:300000])
    peer.expect_close(1002)


def test_messages_above_the_maximum_close_with_1009(server):
    for frames in ([dict(opcode=BINARY, payload=bytes((8 << 20) + 1))], [dict(opcode=BINARY, payload=bytes(5 << 20), fin=False), dict(opcode=CONT, payload=bytes(5 << 20))]):
        sock, _, _, rest = connect_to(server)
        peer = Peer(sock, True, server, rest)

        def send():
            try:
                peer.sock.sendall(b"".join(peer.frame(**frame) for frame in frames))
            except OSError:
                pass  # the server need not read it all

        sender = threading.Thread(target=send)
        sender.start()
        peer.expect_close(1009)
        sender.join()
        sock.close()


# --- UTF-8 ---

VALID = ["", "a", "κόσμε", "\u07ff\u0800\uffff", "\ud7ff\ue000\ufffd", "\U00010000\U0010ffff", "\ufeff", "\x00"]
INVALID = [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80",
           b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff", b"\xc2", b"\xe2\x82", b"\xf0\x9f\x98", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"]


@pytest.mark.parametrize("text", VALID)
def test_valid_text_is_echoed_however_it_is_fragmented(peer, text):
    raw = text.encode("utf-8")
    peer.send(TEXT, raw)
    assert peer.receive() == (TEXT, raw)
    pieces = [raw[at:at + 1] for at in range(len(raw))] or [b""]
    for number, piece in enumerate(pieces):
        peer.send(CONT if number else TEXT, piece, fin=number == len(pieces) - 1)
    assert peer.receive() == (TEXT, raw)
    close_normally(peer)


@pytest.mark.parametrize("raw", INVALID, ids=lambda raw: raw.hex())
@pytest.mark.parametrize("fragmented", [False, True])
def test_invalid_text_closes_with_1007(peer, raw, fragmented):
    raw = b"start " + raw
    if fragmented:
        for number in range(len(raw)):
            peer.sock.sendall(peer.frame(CONT if number else TEXT, raw[number:number + 1], fin=number == len(raw) - 1))
    else:
        peer.send(TEXT, raw)
    peer.expect_close(1007)


def test_invalid_text_is_found_before_the_message_ends(peer):
    peer.send(TEXT, b"fine so far", fin=False)
    peer.send(CONT, b"\xff and more to come", fin=False)
    peer.expect_close(1007)


def test_binary_messages_may_hold_anything(peer):
    peer.send(BINARY, b"".join(INVALID))
    assert peer.receive() == (BINARY, b"".join(INVALID))
    close_normally(peer)


# --- closing ---

@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
def test_valid_close_codes_are_answered_in_kind(peer, code):
    peer.send(CLOSE, struct.pack("!H", code) + "the reason: ✓".encode())
    peer.expect_close(code)


def test_a_close_without_a_code_is_answered_in_kind(peer):
    peer.send(CLOSE)
    peer.expect_close(None, outcome=1005)


def test_a_close_may_have_a_reason_of_123_bytes(peer):
    peer.send(CLOSE, struct.pack("!H", 1000) + b"r" * 123)
    peer.expect_close(1000)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_invalid_close_codes_are_answered_with_1002(peer, code):
    peer.send(CLOSE, struct.pack("!H", code))
    peer.expect_close(1002)


def test_a_close_of_one_byte_is_answered_with_1002(peer):
    peer.send(CLOSE, b"\x03")
    peer.expect_close(1002)


def test_a_close_reason_that_is_no_text_is_answered_with_1007(peer):
    peer.send(CLOSE, struct.pack("!H", 1000) + b"\xff\xfe")
    peer.expect_close(1007)


def test_what_follows_a_close_is_ignored(peer):
    peer.sock.sendall(peer.frame(CLOSE, struct.pack("!H", 1000)) + peer.frame(TEXT, b"late") + peer.frame(PING, b"late") + b"\xff\xff\xff")
    peer.expect_close(1000)


def test_our_close_is_confirmed_by_the_peer(peer):
    peer.send(TEXT, "!close 4321 see you ✓".encode())
    assert peer.receive() == (CLOSE, struct.pack("!H", 4321) + "see you ✓".encode())
    peer.send(TEXT, b"still on its way when the close was sent")
    peer.send(CLOSE, struct.pack("!H", 4321))
    peer.expect_end()
    assert peer.program.line() == "closed 4321 "


def test_a_peer_that_never_confirms_our_close_is_cut_off(peer):
    peer.send(TEXT, b"!close 1000 bye")
    assert peer.receive() == (CLOSE, struct.pack("!H", 1000) + b"bye")
    with pytest.raises((EOFError, ConnectionResetError)):
        peer.take(1)
    assert peer.program.line().startswith("closed 1006 ")


def test_a_connection_that_ends_without_a_close_is_reported_as_1006(peer):
    peer.sock.close()
    assert peer.program.line().startswith("closed 1006 ")


def test_a_connection_that_ends_inside_a_frame_is_reported_as_1006(peer):
    peer.sock.sendall(peer.frame(TEXT, b"half of it")[:7])
    peer.sock.close()
    assert peer.program.line().startswith("closed 1006 ")


# --- the opening handshake of the server ---

def test_the_server_accepts_any_origin_and_header_spelling(server):
    for options in (dict(extra=b"Origin: https://elsewhere.example\r\n"), dict(upgrade=b"WebSocket", connection=b"keep-alive, Upgrade"),
                    dict(extra=b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")):
        sock, status, headers, rest = connect_to(server, **options)
        assert status == b"HTTP/1.1 101 Switching Protocols"
        assert headers[b"sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert headers[b"upgrade"].lower() == b"websocket" and headers[b"connection"].lower() == b"upgrade"
        assert b"sec-websocket-protocol" not in headers and b"sec-websocket-extensions" not in headers
        close_normally(Peer(sock, True, server, rest))
        sock.close()


def test_frames_sent_together_with_the_handshake_are_read(server):
    early = Peer(socket.socket(), True, server).frame(TEXT, b"early")
    for cut in (len(early), 3):
        sock, status, _, rest = connect_to(server, early=early[:cut])
        assert status.startswith(b"HTTP/1.1 101")
        peer = Peer(sock, True, server, rest)
        sock.sendall(early[cut:])
        assert peer.receive() == (TEXT, b"early")
        close_normally(peer)
        sock.close()


@pytest.mark.parametrize("options, status, header", [
    (dict(upgrade=None, connection=None), 426, b"upgrade"),
    (dict(upgrade=b"h2c"), 426, b"upgrade"),
    (dict(connection=b"keep-alive"), 426, b"upgrade"),
    (dict(ws_version=b"8"), 426, b"sec-websocket-version"),
    (dict(ws_version=None), 426, b"sec-websocket-version"),
    (dict(key=None), 400, None),
    (dict(key=b""), 400, None),
    (dict(key=b"dG9vIHNob3J0"), 400, None),
    (dict(key=b"not base64 at all!!!!!!!"), 400, None),
    (dict(method=b"PUT", extra=b"Content-Length: 0\r\n"), 405, b"allow"),
])
def test_what_is_no_handshake_gets_an_http_error(server, options, status, header):
    sock, line, headers, _ = connect_to(server, **options)
    assert int(line.split()[1]) == status
    if header:
        assert headers[header]
    sock.close()


def test_a_handshake_over_http_1_0_is_refused(server):
    sock, line, _, _ = connect_to(server, version=b"HTTP/1.0")
    assert line.split()[1] in (b"400", b"426")
    sock.close()


# --- the opening handshake of the client ---

def test_the_client_asks_as_the_rfc_says(listener):
    sock, line, headers = listener.accept()
    assert line == b"GET /path?query=1 HTTP/1.1"
    assert headers[b"host"].startswith(b"127.0.0.1:")
    assert headers[b"upgrade"] == b"websocket" and headers[b"connection"] == b"Upgrade" and headers[b"sec-websocket-version"] == b"13"
    assert len(base64.b64decode(headers[b"sec-websocket-key"], validate=True)) == 16
    assert headers[b"x-echo-client"] == b"yes"
    assert b"sec-websocket-extensions" not in headers
    sock.close()
    assert listener.program.line().startswith("failed ")


GOOD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"


@pytest.mark.parametrize("answer, words", [
    (GOOD.replace(b"%s", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455"),
    (GOOD.replace(b"Upgrade: websocket\r\n", b""), "RFC 6455"),
    (GOOD.replace(b"Connection: Upgrade\r\n", b""), "RFC 6455"),
    (GOOD.replace(b"Sec-WebSocket-Accept: %s\r\n", b""), "RFC 6455"),
    (GOOD.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "RFC 6455"),
    (GOOD.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"), "RFC 6455"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
    (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "401"),
    (b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "301"),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
    (b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 40000, "too long"),
    (b"HTTP/1.1 101 Switching", "closed the connection"),
    (b"", "closed the connection"),
])
def test_the_client_refuses_what_is_no_handshake(listener, answer, words):
    sock, _, headers = listener.accept()
    sock.sendall(answer.replace(b"%s", accept_key(headers[b"sec-websocket-key"])))
    sock.shutdown(socket.SHUT_WR)
    line = listener.program.line()
    assert line.startswith("failed ") and words in line
    sock.close()


def test_the_client_reads_frames_sent_together_with_the_answer(listener):
    sock, _, headers = listener.accept()
    peer = Peer(sock, False, listener.program)
    answer = GOOD.replace(b"%s", accept_key(headers[b"sec-websocket-key"])) + peer.frame(TEXT, b"early") + peer.frame(TEXT, b"bird")[:4]
    for at in range(0, len(answer), 50):
        sock.sendall(answer[at:at + 50])
    sock.sendall(peer.frame(TEXT, b"bird")[4:])
    assert peer.receive() == (TEXT, b"early")
    assert peer.receive() == (TEXT, b"bird")
    close_normally(peer)
    sock.close()


def test_the_client_reports_an_address_where_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    program = Program("ws_echo_client", f"ws://127.0.0.1:{port}/")
    assert program.line().startswith("failed ")
    assert program.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("url", ["", "http://127.0.0.1/", "ws://", "ws:///path", "ws://user@127.0.0.1/", "ws://127.0.0.1:0/", "ws://127.0.0.1:65536/",
                                 "ws://127.0.0.1:x/", "ws://[::1/", "ws://127.0.0.1/a b", "ws://127.0.0.1/#fragment", "wss://127.0.0.1/"])
def test_the_client_refuses_bad_addresses(url):
    program = Program("ws_echo_client", url)
    assert program.line().startswith("failed A ")
    assert program.process.wait(TIMEOUT) == 0


# --- other implementations ---

MESSAGES = ["", "a", "ünïcödé ✓ 🙂", "x" * 125, "x" * 126, "x" * 65536, b"", b"\x00\xff", os.urandom(127), os.urandom(65535), os.urandom(3 << 20)]


def test_the_websockets_client_talks_to_our_server(server):
    with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/", max_size=None, compression="deflate", origin="https://example.org") as ws:
        for message in MESSAGES:
            ws.send(message)
            assert ws.recv(TIMEOUT) == message
        ws.send(["frag", "men", "ts ✓", ""])
        assert ws.recv(TIMEOUT) == "fragments ✓"
        assert ws.ping("are you there?").wait(TIMEOUT)
        ws.send("!close 4001 over")
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            ws.recv(TIMEOUT)
        assert closed.value.rcvd.code == 4001 and closed.value.rcvd.reason == "over"
    assert server.line() == "closed 4001 over"


def test_our_client_talks_to_the_websockets_server():
    seen = queue.Queue()

    def handler(ws):
        try:
            for message in MESSAGES:
                ws.send(message)
                assert ws.recv(TIMEOUT) == message
            ws.send([b"frag", b"ments", b""])
            assert ws.recv(TIMEOUT) == b"fragments"
            assert ws.ping("are you there?").wait(TIMEOUT)
            ws.close(4002, "enough")
            seen.put("good")
        except BaseException as error:
            seen.put(repr(error))

    with websockets.sync.server.serve(handler, "127.0.0.1", 0, max_size=None, compression="deflate") as ws_server:
        thread = threading.Thread(target=ws_server.serve_forever)
        thread.start()
        program = Program("ws_echo_client", f"ws://127.0.0.1:{ws_server.socket.getsockname()[1]}/", 2)
        for _ in range(2):
            assert seen.get(timeout=TIMEOUT) == "good"
            assert program.line() == "closed 4002 enough"
        assert program.process.wait(TIMEOUT) == 0
        ws_server.shutdown()
        thread.join()


class Wsproto:
    def __init__(self, sock, kind, data=b""):
        self.sock, self.connection = sock, wsproto.WSConnection(kind)
        sock.settimeout(TIMEOUT)
        if data:
            self.connection.receive_data(data)

    def send(self, event):
        self.sock.sendall(self.connection.send(event))

    def receive(self):
        """The next event; messages come whole."""
        whole = None
        while True:
            for event in self.connection.events():
                if isinstance(event, (events.TextMessage, events.BytesMessage)):
                    whole = event.data if whole is None else whole + event.data
                    if event.message_finished:
                        return whole
                else:
                    return event
            data = self.sock.recv(65536)
            self.connection.receive_data(data or None)

    def talk(self):
        for message in MESSAGES:
            kind = events.TextMessage if isinstance(message, str) else events.BytesMessage
            middle = len(message) // 2
            self.send(kind(message[:middle], message_finished=False))
            self.send(events.Ping(b"between"))
            assert self.receive() == events.Pong(b"between")
            self.send(kind(message[middle:], message_finished=True))
            assert self.receive() == message
        self.send(events.CloseConnection(4003, "done"))
        answer = self.receive()
        assert isinstance(answer, events.CloseConnection) and answer.code == 4003


def test_the_wsproto_client_talks_to_our_server(server):
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as sock:
        peer = Wsproto(sock, wsproto.ConnectionType.CLIENT)
        peer.send(events.Request(host="127.0.0.1", target="/"))
        assert isinstance(peer.receive(), events.AcceptConnection)
        peer.talk()
    assert server.line() == "closed 4003 done"


def test_our_client_talks_to_the_wsproto_server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = Program("ws_echo_client", f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        listening.settimeout(TIMEOUT)
        with listening.accept()[0] as sock:
            peer = Wsproto(sock, wsproto.ConnectionType.SERVER)
            assert isinstance(peer.receive(), events.Request)
            peer.send(events.AcceptConnection())
            peer.talk()
    assert program.line() == "closed 4003 done"
    assert program.process.wait(TIMEOUT) == 0
