"""A provider written in another language from the protocol's text: it interoperates when it is honest, and gets nowhere when it
is not. Others, and the consumers they serve, never notice."""

import base64
import json

import pytest

from harness import wait_until
from python_provider import PythonProvider, canonical, new_signing_key, stop_joined, wait_quiet, wait_standing
from test_failover import contents, in_background, stream_events

GRANT = 10_000_000


@pytest.fixture
def join():
    """join(node, ...) starts a PythonProvider; all leave at the end, and none may have met something that it did not expect."""
    joined = []

    def start(node, kind=PythonProvider, routable=True, **more):
        made = kind(node, **more).start()
        joined.append(made)
        if routable:
            wait_until(lambda: node.routable(made.model) >= 1, f"{made.serial} to be routable")
        return made
    yield start
    stop_joined(joined)


def served_nothing(node, provider):
    """The provider's model is offered to nobody, and asking for it sends nothing to the provider."""
    asked = len(provider.got("inference_request"))
    assert node.routable(provider.model) == 0
    refused = node.chat(provider.model)
    assert refused.status_code in (404, 503), refused.text
    assert len(provider.got("inference_request")) == asked


# --- honest ---


@pytest.mark.parametrize("generation", ["0.6.17", "0.4.7"])
def test_both_generations_are_attested_and_serve(coordinator, join, generation):
    node = coordinator()
    provider = join(node, generation=generation, answer=("Grüße", " aus", " \"Python\" \n", "😀"))
    shown = node.provider_of(provider.serial)
    assert (shown["trust_level"], shown["status"]) == ("self_signed", "online")
    assert shown["se_public_key"] == provider.se_public
    assert shown["models"] == [provider.model]
    whole = node.chat(provider.model, "what is it?", temperature=0.5, seed=7)
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"] == "".join(provider.answer)
    assert whole.json()["choices"][0]["finish_reason"] == "stop"
    assert whole.json()["usage"] == {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
    request = provider.prompts[0]
    assert request["messages"] == [{"role": "user", "content": "what is it?"}]
    assert (request["model"], request["temperature"], request["seed"]) == (provider.model, 0.5, 7)
    assert request["max_tokens"] > 0
    events = list(stream_events(node.client, provider.model))
    assert contents(events) == "".join(provider.answer)
    assert events[-1] == "[DONE]"
    usage = [json.loads(event)["usage"] for event in events[:-1] if json.loads(event).get("usage")]
    assert [one["completion_tokens"] for one in usage] == [4]
    node.check_books()
    assert [row["completion_tokens"] for row in node.usage()] == [4, 4]


def test_signature_of_the_answer_reaches_the_consumer(coordinator, join):
    node = coordinator()
    provider = join(node)
    answer = node.chat(provider.model)
    assert answer.status_code == 200, answer.text
    job = provider.got("inference_request")[0]["request_id"]
    sent = provider.completion(job)
    assert answer.json()["response_hash"] == sent["response_hash"]
    assert answer.headers["x-attestation-se-public-key"] == provider.se_public
    assert answer.headers["x-attestation-device-serial"] == provider.serial
    assert answer.headers["x-provider-serial"] == provider.serial


def test_each_attempt_is_sealed_with_a_fresh_key(coordinator, join):
    node = coordinator()
    provider = join(node)
    for _ in range(5):
        assert node.chat(provider.model).status_code == 200
    requests = provider.got("inference_request")
    assert len({message["encrypted_body"]["ephemeral_public_key"] for message in requests}) == 5
    assert len({message["request_id"] for message in requests}) == 5
    assert all("body" not in message for message in requests)


def test_challenges_go_on_and_are_never_repeated(coordinator, join):
    node = coordinator({"trust": {"challenge_interval_s": 1}})
    provider = join(node)
    provider.wait_for("attestation_challenge", 3)
    nonces = [message["nonce"] for message in provider.got("attestation_challenge")]
    assert len(set(nonces)) == len(nonces)
    assert all(len(base64.b64decode(nonce, validate=True)) == 32 for nonce in nonces)
    assert node.routable(provider.model) == 1


def test_unattested_provider_serves_only_below_the_trust_floor(coordinator, join):
    class Unattested(PythonProvider):
        def attestation(self):
            return None

    strict = coordinator()
    provider = join(strict, Unattested, routable=False)
    provider.wait_for("attestation_challenge")
    wait_quiet(provider)
    served_nothing(strict, provider)
    open_to_all = coordinator({"trust": {"min_trust": "none"}})
    provider = join(open_to_all, Unattested)
    assert open_to_all.chat(provider.model).status_code == 200


def test_hardware_floor_is_not_reached_by_a_signature(coordinator, join):
    node = coordinator({"trust": {"min_trust": "hardware"}})
    provider = join(node, routable=False)
    wait_until(lambda: node.metrics()['darkbloom_challenges_total{result="passed"}'] == 1, "the challenge to be passed")
    served_nothing(node, provider)


# --- attestation ---

ALTERED = {"authenticatedRootEnabled": False, "binaryHash": "0" * 64, "chipName": "Apple M9", "encryptionPublicKey": "A" * 43 + "=",
           "hardwareModel": "Mac99,9", "osVersion": "99.0.0", "publicKey": new_signing_key()[1], "rdmaDisabled": False, "secureBootEnabled": False,
           "secureEnclaveAvailable": False, "serialNumber": "OTHER", "sipEnabled": False, "timestamp": "2020-01-01T00:00:00Z"}


def altered(field, remove):
    class Altered(PythonProvider):
        def attestation(self):
            blob = self.blob()
            assert field in blob
            signature = self.sign(canonical(blob, escape_slash=True))
            if remove:
                del blob[field]
            else:
                blob[field] = ALTERED[field]
            return '{"attestation":%s,"signature":"%s"}' % (canonical(blob, escape_slash=True), signature)
    return Altered


def test_every_field_of_the_attestation_is_covered_by_the_signature(coordinator, join):
    node = coordinator()
    honest = join(node, serial="HONEST", model="honest")
    assert set(ALTERED) == set(honest.blob()), "every field is tried"
    cases = {}
    for field in ALTERED:
        for remove in (False, True):
            name = f"{'without' if remove else 'other'}-{field}"
            cases[name] = join(node, altered(field, remove), routable=False, serial=name, model=name)
    wait_until(lambda: len(node.providers()) == len(cases) + 1, "all to be registered")
    for name, provider in cases.items():
        shown = [one for one in node.providers() if one["models"] == [name]]
        assert [one["trust_level"] for one in shown] == ["none"], name
        served_nothing(node, provider)
        assert provider.got("trust_status") == [], name
    assert node.chat("honest").status_code == 200


def resigned(changes):
    """A blob that says something else, well signed."""
    class Resigned(PythonProvider):
        def blob(self):
            return super().blob() | changes
    return Resigned


@pytest.mark.parametrize("changes", [{"sipEnabled": False}, {"secureBootEnabled": False}, {"secureEnclaveAvailable": False},
                                     {"encryptionPublicKey": "A" * 43 + "="}, {"timestamp": "yesterday"}, {"publicKey": "AAAA"},
                                     {"platform": "toaster", "sipEnabled": False}])
def test_well_signed_but_unacceptable_attestation_is_refused(coordinator, join, changes):
    node = coordinator()
    provider = join(node, resigned(changes), routable=False)
    wait_until(lambda: [one for one in node.providers() if one["models"] == [provider.model]], "registration")
    assert node.providers()[0]["trust_level"] == "none"
    served_nothing(node, provider)


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", base64.b64encode(b"\x30\x06\x02\x01\x00\x02\x01\x00").decode(),
                                       base64.b64encode(bytes(64)).decode(), base64.b64encode(b"\x30\x82" + b"\xff" * 70).decode()])
def test_malformed_attestation_signature_is_refused(coordinator, join, signature):
    class Malformed(PythonProvider):
        def attestation(self):
            return '{"attestation":%s,"signature":"%s"}' % (canonical(self.blob(), escape_slash=True), signature)
    node = coordinator()
    provider = join(node, Malformed, routable=False)
    wait_until(lambda: node.providers(), "registration")
    assert node.providers()[0]["trust_level"] == "none"
    served_nothing(node, provider)


@pytest.mark.parametrize("escape_slash, spaced", [(False, False), (True, True), (False, True)])
def test_attestation_is_verified_over_its_bytes_as_they_came(coordinator, join, escape_slash, spaced):
    class Other(PythonProvider):
        def attestation(self):
            items = list(self.blob().items())[::-1]
            text = json.dumps(dict(items), indent=1 if spaced else None)
            text = text.replace("/", "\\/") if escape_slash else text
            return '{ "signature" : "%s" , "attestation" : %s }' % (self.sign(text), text)
    node = coordinator()
    provider = join(node, Other)
    assert node.provider_of(provider.serial)["trust_level"] == "self_signed"
    assert node.chat(provider.model).status_code == 200


# --- challenges ---


class BadReplies(PythonProvider):
    """Changes its challenge replies by change(reply)."""

    def __init__(self, *arguments, change, **more):
        super().__init__(*arguments, **more)
        self.change = change

    def challenge_reply(self, nonce, timestamp):
        return self.change(self, super().challenge_reply(nonce, timestamp))


def with_fields(**fields):
    return lambda provider, reply: reply | fields


def resigned_status(**fields):
    """The reply says so and signs it."""
    def change(provider, reply):
        timestamp = provider.got("attestation_challenge")[-1]["timestamp"]
        said = {name: value for name, value in (reply | fields).items() if name not in ("type", "signature", "status_signature", "public_key")}
        return reply | fields | {"status_signature": provider.sign(canonical(said | {"timestamp": timestamp}, escape_slash=False))}
    return change


OTHER_SIGNATURE = base64.b64encode(b"\x30\x06\x02\x01\x01\x02\x01\x01").decode()


WRONG_REPLIES = {"signature": with_fields(signature=OTHER_SIGNATURE), "status-signature": with_fields(status_signature=OTHER_SIGNATURE),
                 "no-signature": with_fields(signature=""), "other-key": with_fields(public_key="A" * 43 + "="),
                 "altered-status": with_fields(binary_hash="0" * 64), "no-posture": with_fields(sip_enabled=None)}


def test_three_wrong_replies_lose_all_trust(coordinator, join):
    node = coordinator({"trust": {"challenge_interval_s": 1}})
    providers = [join(node, BadReplies, routable=False, serial=name, model=name, change=change) for name, change in WRONG_REPLIES.items()]
    for provider in providers:
        wait_standing(node, provider.serial, "self_signed", "untrusted")
        served_nothing(node, provider)
        told = provider.wait_for("trust_status", 2)
        assert told["status"] == "untrusted"
        assert told["reason"]
        assert len(provider.got("attestation_challenge")) == 3, "it is not asked again"


@pytest.mark.parametrize("fields", [{"sip_enabled": False}, {"secure_boot_enabled": False}])
def test_signed_bad_posture_loses_all_trust_at_once(coordinator, join, fields):
    node = coordinator()
    provider = join(node, BadReplies, routable=False, change=resigned_status(**fields))
    wait_standing(node, provider.serial, "self_signed", "untrusted")
    served_nothing(node, provider)


def test_resigned_but_good_status_passes(coordinator, join):
    node = coordinator()
    provider = join(node, BadReplies, change=resigned_status(rdma_disabled=False))
    assert node.chat(provider.model).status_code == 200


def test_reply_with_a_strange_nonce_is_ignored(coordinator, join):
    node = coordinator({"trust": {"challenge_timeout_s": 1, "challenge_interval_s": 1}})
    other = join(node, serial="OTHER", model="other")
    strange = [join(node, BadReplies, routable=False, serial=f"STRANGE{number}", model=f"strange{number}", change=with_fields(nonce=nonce))
               for number, nonce in enumerate(["A", "", "AAAA", "x" * 100000, "\x00", "é", None])]
    for provider in strange:
        provider.wait_for("attestation_challenge", 2)
        served_nothing(node, provider)
    node.check_alive()
    wait_until(lambda: node.chat(other.model).status_code == 200, "the honest one, which may have been late itself, to be trusted")


def test_silence_is_forgiven_once_but_not_for_ever(coordinator, join):
    class Silent(PythonProvider):
        def challenge_reply(self, nonce, timestamp):
            return None

    class SilentForThree(PythonProvider):
        def challenge_reply(self, nonce, timestamp):
            return super().challenge_reply(nonce, timestamp) if len(self.got("attestation_challenge")) > 3 else None

    node = coordinator({"trust": {"challenge_timeout_s": 1, "challenge_interval_s": 1}})
    recovering = join(node, SilentForThree, routable=False, serial="RECOVERS", model="recovers")
    silent = join(node, Silent, routable=False, serial="SILENT", model="silent")
    told = wait_until(lambda: (said := [one["status"] for one in recovering.got("trust_status")])[-1:] == ["online"] and "untrusted" in said and said,
                      "it to be told that it is trusted again")
    assert told[-2:] == ["untrusted", "online"]
    wait_until(lambda: node.chat("recovers").status_code == 200, "it to serve")
    assert silent.wait_closed() == 1008
    assert silent.got("inference_request") == []


def test_unasked_and_repeated_replies_are_ignored(coordinator, join):
    node = coordinator()
    provider = join(node)
    challenge = provider.got("attestation_challenge")[0]
    reply = provider.challenge_reply(challenge["nonce"], challenge["timestamp"])
    for _ in range(5):
        provider.send(reply)
        provider.send(reply | {"signature": OTHER_SIGNATURE, "nonce": "A"})
    assert node.chat(provider.model).status_code == 200
    assert node.provider_of(provider.serial)["status"] == "online"


def test_newest_holder_of_a_serial_stays(coordinator, join):
    node = coordinator()
    first = join(node, serial="SAME", model="first")
    second = join(node, serial="SAME", model="second")
    first.wait_closed()
    assert node.chat("second").status_code == 200
    assert node.provider_of("SAME")["models"] == ["second"]
    assert not second.closed.is_set()


def test_a_stolen_attestation_does_not_evict_its_owner(coordinator, join):
    node = coordinator()
    owner = join(node, serial="OWNER", model="owner")
    stolen = owner.attestation()

    class Thief(PythonProvider):
        def attestation(self):
            return stolen

        def registration(self):
            return super().registration() | {"public_key": owner.public_key}

    thief = join(node, Thief, routable=False, serial="THIEF", model="thief")
    thief.wait_for("attestation_challenge")
    wait_quiet(thief)
    assert not owner.closed.is_set()
    served_nothing(node, thief)
    assert node.chat("owner").status_code == 200


# --- answers ---


class Misbehaving(PythonProvider):
    """Runs act(provider, request_id, request, box) after the first content of every answer; goes on unless it returns "end"."""

    def __init__(self, *arguments, act, **more):
        super().__init__(*arguments, **more)
        self.act = act

    def serve(self, request_id, request, box):
        self.send({"type": "inference_accepted", "request_id": request_id})
        frames = self.frames(request)
        for frame in frames[:2]:
            self.send_chunk(request_id, box, frame)
        if self.act(self, request_id, request, box) == "end":
            return
        for frame in frames[2:]:
            self.send_chunk(request_id, box, frame)
        self.send(self.completion(request_id))


def chunk(request_id, **fields):
    return {"type": "inference_response_chunk", "request_id": request_id, **fields}


def send_plaintext(provider, request_id, request, box):
    provider.send(chunk(request_id, data="data: {\"choices\":[]}\n\n"))


def send_plaintext_beside_sealed(provider, request_id, request, box):
    provider.send(chunk(request_id, data="data: {}\n\n", encrypted_data=provider.sealed(box, "data: {}\n\n")))


def send_empty(provider, request_id, request, box):
    provider.send(chunk(request_id))


def send_undecryptable(provider, request_id, request, box):
    sealed = provider.sealed(box, "data: {}\n\n")
    flipped = bytearray(base64.b64decode(sealed["ciphertext"]))
    flipped[-1] ^= 1
    provider.send(chunk(request_id, encrypted_data=sealed | {"ciphertext": base64.b64encode(flipped).decode()}))


def send_too_short(provider, request_id, request, box):
    provider.send(chunk(request_id, encrypted_data={"ephemeral_public_key": provider.public_key, "ciphertext": base64.b64encode(bytes(39)).decode()}))


def send_from_another_key(provider, request_id, request, box):
    provider.send(chunk(request_id, encrypted_data=provider.sealed(box, "data: {}\n\n") | {"ephemeral_public_key": "A" * 43 + "="}))


def send_chunk_of_an_earlier_request(provider, request_id, request, box):
    if not hasattr(provider, "earlier"):
        provider.earlier = provider.sealed(box, "data: {}\n\n")
        return None
    provider.send(chunk(request_id, encrypted_data=provider.earlier))


VIOLATIONS = [send_plaintext, send_plaintext_beside_sealed, send_empty, send_undecryptable, send_too_short, send_from_another_key]


@pytest.mark.parametrize("act", VIOLATIONS, ids=lambda act: act.__name__)
def test_a_chunk_that_breaks_the_protocol_ends_all_trust(coordinator, join, act):
    node = coordinator()
    other = join(node, serial="OTHER", model="other")
    provider = join(node, Misbehaving, act=act)
    events = list(stream_events(node.client, provider.model))
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["type"] == "provider_error"
    wait_standing(node, provider.serial, "self_signed", "untrusted")
    provider.wait_for("cancel")
    served_nothing(node, provider)
    node.check_books()
    assert node.balance() == GRANT
    assert node.chat(other.model).status_code == 200
    assert not provider.closed.is_set(), "it stays connected, and is told nothing"


def test_a_chunk_of_an_earlier_request_ends_all_trust(coordinator, join):
    node = coordinator()
    provider = join(node, Misbehaving, act=send_chunk_of_an_earlier_request)
    assert node.chat(provider.model).status_code == 200
    assert node.chat(provider.model).status_code == 502
    wait_standing(node, provider.serial, "self_signed", "untrusted")
    served_nothing(node, provider)


def test_untrust_ends_with_the_connection(coordinator, join):
    node = coordinator()
    provider = join(node, Misbehaving, act=send_plaintext)
    assert node.chat(provider.model).status_code == 502
    wait_standing(node, provider.serial, "self_signed", "untrusted")
    provider.stop()
    wait_until(lambda: not node.providers(), "it to leave")
    again = join(node, serial=provider.serial)
    assert node.chat(again.model).status_code == 200


def test_garbage_is_dropped_and_the_answer_goes_on(coordinator, join):
    def garbage(provider, request_id, request, box):
        for text in ("", "x", "{", "[]", "null", "7", '"text"', "{}", '{"type":7}', '{"type":"nonsense"}', '{"type":"inference_response_chunk"}',
                     '{"type":"inference_response_chunk","request_id":7}', '{"type":"inference_complete","request_id":["x"],"usage":1}',
                     '{"type":"inference_complete","request_id":"%s","usage":{"prompt_tokens":1.5,"completion_tokens":1}}' % request_id,
                     '{"type":"heartbeat","status":3}', '{"type":"register","models":7}', "[" * 200000, '{"type":"inference_error","request_id":{}}',
                     '{"type":"attestation_response","nonce":[]}', '{"type":"models_update","models":{}}', '{"type":"load_model_status"}', "\u0000"):
            provider.send_text(text)
        with provider._lock:
            provider.socket.send(b"\xff\xfe\x00 not text")

    node = coordinator()
    provider = join(node, Misbehaving, act=garbage)
    events = list(stream_events(node.client, provider.model))
    assert contents(events) == "Hello there!"
    assert events[-1] == "[DONE]"
    assert node.metrics()["darkbloom_provider_messages_rejected_total"] >= 15
    assert node.provider_of(provider.serial)["status"] == "online"
    node.check_books()


def test_oversize_message_closes_the_connection(coordinator, join):
    def oversize(provider, request_id, request, box):
        provider.send_text(json.dumps({"type": "nonsense", "filling": "x" * (10 * 1024 * 1024)}))
        return "end"

    node = coordinator()
    other = join(node, serial="OTHER", model="other")
    provider = join(node, Misbehaving, act=oversize)
    refused = node.chat(provider.model)
    assert refused.status_code == 502
    assert provider.wait_closed() == 1009
    node.check_books()
    assert node.balance() == GRANT
    assert node.chat(other.model).status_code == 200


def test_message_just_below_the_limit_is_read(coordinator, join):
    def large(provider, request_id, request, box):
        provider.send_text(json.dumps({"type": "nonsense", "filling": "x" * (10 * 1024 * 1024 - 100)}))

    node = coordinator()
    provider = join(node, Misbehaving, act=large)
    assert node.chat(provider.model).status_code == 200


def test_chunks_for_foreign_requests_change_nothing(coordinator, join):
    """A provider cannot speak in another's answer, whatever id it names."""
    node = coordinator()
    honest = join(node, serial="HONEST", model="honest", answer=[f"{number} " for number in range(300)])
    running = []

    def intrude(provider, request_id, request, box):
        for foreign in running + ["00000000-0000-4000-8000-000000000000", "", "x" * 1000]:
            for frame in ("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"INTRUDER\"}}]}\n\n", "data: [DONE]\n\n"):
                provider.send_chunk(foreign, box, frame)
            provider.send({"type": "inference_complete", "request_id": foreign, "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
            provider.send({"type": "inference_error", "request_id": foreign, "error": "intruder", "status_code": 500})

    intruder = join(node, Misbehaving, act=intrude, serial="INTRUDER", model="intruder")
    plain_serve = honest.serve

    def serve(request_id, request, box):
        running.append(request_id)
        frames = honest.frames(request)
        for frame in frames[:5]:
            honest.send_chunk(request_id, box, frame)
        wait_until(lambda: len(intruder.prompts) > 0 and node.metrics()["darkbloom_stray_chunks_total"] > 0, "the intruder to act")
        for frame in frames[5:]:
            honest.send_chunk(request_id, box, frame)
        honest.send(honest.completion(request_id))

    honest.serve = serve
    answer = in_background(lambda: list(stream_events(node.client, "honest")))
    wait_until(lambda: running, "the honest answer to begin")
    assert node.chat("intruder").status_code == 200
    events = answer()
    assert contents(events) == "".join(honest.answer)
    assert events[-1] == "[DONE]"
    honest.serve = plain_serve
    node.check_books()
    assert sorted(row["completion_tokens"] for row in node.usage()) == [3, 300]


def test_late_and_repeated_ends_are_ignored(coordinator, join):
    node = coordinator()

    class Repeating(PythonProvider):
        def serve(self, request_id, request, box):
            super().serve(request_id, request, box)
            for _ in range(3):
                self.send(self.completion(request_id) | {"usage": {"prompt_tokens": 1, "completion_tokens": 1000000}})
                self.send({"type": "inference_error", "request_id": request_id, "error": "late", "status_code": 500})
                self.send_chunk(request_id, box, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"late\"}}]}\n\n")

    provider = join(node, Repeating)
    for _ in range(3):
        assert node.chat(provider.model).json()["choices"][0]["message"]["content"] == "Hello there!"
    assert [row["completion_tokens"] for row in node.usage()] == [3, 3, 3]
    assert node.provider_of(provider.serial)["status"] == "online"
    provider.wait_for("cancel")
    node.check_books()


@pytest.mark.parametrize("change", [{"backend": "toaster"}, {"encrypted_response_chunks": False}, {"public_key": "AAAA"}, {"public_key": ""},
                                    {"privacy_capabilities": None},
                                    {"privacy_capabilities": {"text_backend_inprocess": True, "text_proxy_disabled": True}}])
def test_registration_without_the_privacy_conditions_gets_no_requests(coordinator, join, change):
    class Changed(PythonProvider):
        def registration(self):
            return super().registration() | change

    node = coordinator({"trust": {"min_trust": "none"}})
    provider = join(node, Changed, routable=False)
    provider.wait_for("attestation_challenge")
    wait_quiet(provider)
    served_nothing(node, provider)


def test_low_order_key_gets_no_plaintext(coordinator, join):
    """Sealing to a point of low order would make a key that everybody knows."""
    class LowOrder(PythonProvider):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            self.public_key = base64.b64encode(bytes(32)).decode()

    node = coordinator()
    provider = join(node, LowOrder, routable=False)
    provider.wait_for("attestation_challenge")
    wait_quiet(provider)
    assert node.chat(provider.model).status_code >= 400
    assert provider.got("inference_request") == []


def test_nobody_is_served_by_an_unregistered_connection(coordinator, join):
    node = coordinator()

    class Unregistered(PythonProvider):
        def registration(self):
            return {"type": "nonsense"}

        def attestation(self):
            return None

    provider = join(node, Unregistered, routable=False)
    provider.send({"type": "inference_complete", "request_id": "x", "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    provider.send_text('{"type":"attestation_response","nonce":"A","signature":"A","public_key":"A"}')
    wait_quiet(provider)
    assert node.providers() == []
    assert provider.received == []
    assert node.routable(provider.model) == 0
