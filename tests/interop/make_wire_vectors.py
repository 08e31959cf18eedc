#!/usr/bin/env python3
"""Writes the golden files of the provider protocol into tests/interop/wire/.

Everything here is made by PyNaCl, cryptography and the standard library, from fixed keys and nonces, so the output is the same
on every run. Needs: pip install pynacl cryptography (43 or later, for deterministic signatures).
"""
import base64
import hashlib
import json
import pathlib

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from nacl.public import Box, PrivateKey

OUT = pathlib.Path(__file__).parent / "wire"
SCALAR = 0x82734BFA2193D794AB7DB7978DF137700B0ED287A751338AAF4C64351821C21B
NONCE = base64.b64encode(bytes(range(32))).decode()
STAMP = "2026-01-02T03:04:06Z"

provider_key = PrivateKey(b"\x11" * 32)
request_key = PrivateKey(b"\x22" * 32)
signing_key = ec.derive_private_key(SCALAR, ec.SECP256R1())


def b64(data):
    return base64.b64encode(data).decode()


def sign(message):
    return b64(signing_key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))


def point():
    """65 bytes: 0x04, X, Y."""
    return signing_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


K_PUB = b64(bytes(provider_key.public_key))
E_PUB = b64(bytes(request_key.public_key))
SE_PUB = b64(point()[1:])


def write(name, value):
    (OUT / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


# --- boxes ---------------------------------------------------------------------------------------

def pattern(size):
    return bytes(i * 31 % 251 for i in range(size))


def boxes():
    cases = []
    for number, plain in enumerate([
            b'{"model":"demo","messages":[{"role":"user","content":"ping"}],"stream":true}',
            b'data: {"choices":[{"delta":{"content":"pong"}}]}\n\n',
            b"", b"x", "grüße, 世界 \U0001f600".encode(), pattern(1000)]):
        nonce = bytes((0x40 + 0x20 * number + i) % 256 for i in range(24))
        sealed = Box(request_key, provider_key.public_key).encrypt(plain, nonce)
        cases.append({"plain": b64(plain), "nonce": b64(nonce), "ciphertext": b64(bytes(sealed))})
    nonce = b"\x07" * 24
    sealed = bytes(Box(request_key, provider_key.public_key).encrypt(pattern(1 << 20), nonce))
    return {
        "provider_secret": (b"\x11" * 32).hex(), "provider_public": K_PUB,
        "request_secret": (b"\x22" * 32).hex(), "request_public": E_PUB,
        "cases": cases,
        "large": {"size": 1 << 20, "nonce": b64(nonce), "ciphertext_sha256": hashlib.sha256(b64(sealed).encode()).hexdigest()},
    }


# --- attestations --------------------------------------------------------------------------------

def blob(**changes):
    fields = {
        "authenticatedRootEnabled": True, "binaryHash": "ab" * 32, "chipName": "Apple M4 Max", "encryptionPublicKey": K_PUB,
        "hardwareModel": "Mac16,6", "osVersion": "15.3.0", "publicKey": SE_PUB, "rdmaDisabled": True,
        "secureBootEnabled": True, "secureEnclaveAvailable": True, "serialNumber": "TESTSERIAL01", "sipEnabled": True,
        "systemVolumeHash": "CD" * 32, "timestamp": "2026-01-02T03:04:05Z",
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not None}


def canonical(fields):
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace("/", "\\/")


def wrap(raw, signature=None):
    return '{"attestation":%s,"signature":"%s"}' % (raw, signature or sign(raw.encode()))


def attestation_cases():
    good = canonical(blob())
    der = base64.b64decode(sign(good.encode()))
    off_curve = bytearray(point()[1:])
    off_curve[63] ^= 1
    linux = {"platform": "linux", "keyProtection": "software", "secureEnclaveAvailable": False, "sipEnabled": False,
             "secureBootEnabled": False, "authenticatedRootEnabled": False, "serialNumber": None, "systemVolumeHash": None}
    cases = []

    def case(name, text, verdict="valid", trust="hardware", key=K_PUB, protection="secure_enclave", is_linux=False):
        cases.append({"name": name, "signed": text, "registered_key": key, "verdict": verdict,
                      "max_trust": trust if verdict == "valid" else "none", "protection": protection, "linux": is_linux})

    case("the reference's canonical form", wrap(good))
    case("key of 65 bytes", wrap(canonical(blob(publicKey=b64(point())))))
    case("unescaped slashes", wrap(good.replace("\\/", "/")))
    case("unsorted keys", wrap(json.dumps(dict(reversed(list(blob().items()))), separators=(",", ":"))))
    case("white space inside", wrap(json.dumps(blob(), indent=2)))
    case("white space around", " {\n\"signature\" : \"%s\" , \"attestation\" :  %s } " % (sign(good.encode()), good))
    case("hypervisorActive present", wrap(canonical(blob(hypervisorActive=True))))
    case("hypervisorActive false", wrap(canonical(blob(hypervisorActive=False))))
    case("no serial number", wrap(canonical(blob(serialNumber=None))))
    case("null serial number", wrap(canonical({**blob(), "serialNumber": None})))
    case("unknown key", wrap(canonical(blob(futureField={"a": [1, 2]}))))
    case("fractional seconds", wrap(canonical(blob(timestamp="2026-01-02T03:04:05.678Z"))))
    case("numeric offset", wrap(canonical(blob(timestamp="2026-01-02T05:04:05+02:00"))))
    case("a year old", wrap(canonical(blob(timestamp="2025-01-02T03:04:05Z"))))
    case("nothing registered", wrap(canonical(blob(encryptionPublicKey=None))), key="")
    case("non-ASCII chip name", wrap(canonical(blob(chipName="Größe M4"))))
    case("older generation: 13 keys", wrap(canonical(blob(systemVolumeHash=None))))

    case("absent", "", "absent")
    case("not JSON", "{", "unparsable")
    case("not an object", '"text"', "unparsable")
    case("no attestation inside", '{"signature":"AA=="}', "unparsable")
    case("attestation is a string", '{"attestation":"x","signature":"AA=="}', "unparsable")
    case("attestation given twice", '{"attestation":%s,"attestation":%s,"signature":"%s"}' % (good, good, sign(good.encode())),
         "unparsable")
    case("a number where a bool belongs", wrap(canonical(blob(sipEnabled=1))), "unparsable")
    case("a number where a text belongs", wrap(canonical(blob(serialNumber=12))), "unparsable")
    case("no timestamp", wrap(canonical(blob(timestamp=None))), "bad_timestamp")
    case("a date for a timestamp", wrap(canonical(blob(timestamp="2026-01-02"))), "bad_timestamp")
    case("public key not base64", wrap(canonical(blob(publicKey="*" * 88))), "bad_public_key")
    case("public key too short", wrap(canonical(blob(publicKey=b64(point()[1:63])))), "bad_public_key")
    case("compressed public key", wrap(canonical(blob(publicKey=b64(b"\x02" + point()[1:33])))), "bad_public_key")
    case("65 bytes without 0x04", wrap(canonical(blob(publicKey=b64(b"\x05" + point()[1:])))), "bad_public_key")
    case("public key off the curve", wrap(canonical(blob(publicKey=b64(bytes(off_curve))))), "bad_public_key")
    case("no public key", wrap(canonical(blob(publicKey=None))), "bad_public_key")
    case("signature not base64", wrap(good, "not base64!"), "bad_base64")
    case("signature far too long", wrap(good, "A" * 400), "bad_base64")
    case("truncated DER", wrap(good, b64(der[:-3])), "bad_der")
    case("bytes behind the DER", wrap(good, b64(der + b"\x00")), "bad_der")
    case("no signature", '{"attestation":%s}' % good, "bad_der")
    case("raw r and s", wrap(good, b64(b"\x01" * 64)), "bad_der")
    case("r of zero", wrap(good, b64(bytes.fromhex("3006020100020101"))), "bad_signature")
    case("signature of other bytes", wrap(good, sign(good.encode() + b" ")), "bad_signature")
    case("re-serialised after signing", wrap(good.replace("\\/", "/"), sign(good.encode())), "bad_signature")
    case("white space added after signing", wrap(good.replace(",", ", "), sign(good.encode())), "bad_signature")
    case("no Secure Enclave", wrap(canonical(blob(secureEnclaveAvailable=False))), "no_enclave")
    case("SIP off", wrap(canonical(blob(sipEnabled=False))), "sip_off")
    case("Secure Boot off", wrap(canonical(blob(secureBootEnabled=False))), "secure_boot_off")
    case("no enclave and SIP off: SIP is named",
         wrap(canonical(blob(secureEnclaveAvailable=False, sipEnabled=False))), "sip_off")
    case("all three off: Secure Boot is named",
         wrap(canonical(blob(secureEnclaveAvailable=False, sipEnabled=False, secureBootEnabled=False))), "secure_boot_off")
    case("SIP not said", wrap(canonical(blob(sipEnabled=None))), "sip_off")
    case("other K registered", wrap(good), "key_mismatch", key=E_PUB)
    case("malformed key registered", wrap(good), "key_mismatch", key="AAAA")
    case("K missing from the blob", wrap(canonical(blob(encryptionPublicKey=None))), "key_mismatch")
    case("bad signature wins over bad posture", wrap(canonical(blob(sipEnabled=False)), sign(b"x")), "bad_signature")

    soft = {"trust": "self_signed", "protection": "software"}
    case("Linux, software key, nothing enabled", wrap(canonical(blob(**linux))), is_linux=True, **soft)
    case("Linux, protection not said", wrap(canonical(blob(**{**linux, "keyProtection": None}))), is_linux=True, **soft)
    case("Linux, protection unknown", wrap(canonical(blob(**{**linux, "keyProtection": "magic"}))), is_linux=True, **soft)
    case("Linux with a TPM", wrap(canonical(blob(**{**linux, "keyProtection": "tpm"}))), trust="self_signed",
         protection="tpm", is_linux=True)
    case("Linux that claims an enclave", wrap(canonical(blob(**{**linux, "keyProtection": "secure_enclave"}))),
         trust="self_signed", is_linux=True)
    case("Mac that says so", wrap(canonical(blob(platform="macos", keyProtection="secure_enclave"))))
    case("Mac with a software key", wrap(canonical(blob(platform="macos", keyProtection="software"))), **soft)
    case("Mac that says macos with SIP off", wrap(canonical(blob(platform="macos", sipEnabled=False))), "sip_off")
    case("software key without a platform", wrap(canonical(blob(keyProtection="software"))), **soft)
    case("other platform, posture good", wrap(canonical(blob(platform="plan9"))), **soft)
    case("other platform, SIP off", wrap(canonical(blob(platform="plan9", sipEnabled=False))), "sip_off", protection="software")
    case("Linux, altered after signing",
         wrap(canonical(blob(**linux)), sign(canonical(blob(**{**linux, "binaryHash": "00" * 32})).encode())),
         "bad_signature", is_linux=True, protection="software")
    return {"scalar": "%064x" % SCALAR, "canonical": good, "fields": blob(), "cases": cases}


# --- challenge replies ---------------------------------------------------------------------------

def status_cases():
    sets = {
        "minimal": {},
        "the reference's usual set": {
            "binary_hash": "ab" * 32, "model_hashes": {"a/b": "00"}, "rdma_disabled": True, "secure_boot_enabled": True,
            "sip_enabled": True, "template_hashes": {"mlx_metallib": "ef" * 32}},
        "explicit false": {"hypervisor_active": False, "rdma_disabled": False, "secure_boot_enabled": False,
                           "sip_enabled": False},
        "all fields": {
            "active_model_hash": "01" * 32, "binary_hash": "02" * 32, "hypervisor_active": True,
            "model_hashes": {"z/last": "03" * 32, "a/first": "04" * 32, "a": "05" * 32}, "python_hash": "06" * 32,
            "rdma_disabled": True, "runtime_hash": "07" * 32, "secure_boot_enabled": True, "sip_enabled": True,
            "template_hashes": {"qwen3.5": "08" * 32, "gemma4": "09" * 32, "Trinity": "0a" * 32}},
        "angle brackets, ampersand and slash": {"binary_hash": "<a>&/b/", "model_hashes": {"<x>/&": "/<&>"},
                                                "sip_enabled": True},
        "UTF-8": {"model_hashes": {"größe/世界": "\U0001f600", "grob": "é"}, "runtime_hash": "naïve"},
        "older generation": {
            "active_model_hash": "11" * 32, "binary_hash": "12" * 32, "hypervisor_active": False,
            "model_hashes": {"mlx-community/Qwen3.5-4B-4bit": "11" * 32}, "python_hash": "13" * 32, "rdma_disabled": True,
            "runtime_hash": "14" * 32, "secure_boot_enabled": True, "sip_enabled": True,
            "template_hashes": {"qwen3.5": "15" * 32, "trinity": "16" * 32, "gemma4": "17" * 32, "minimax": "18" * 32}},
    }
    cases = []
    for name, fields in sets.items():
        text = json.dumps({**fields, "nonce": NONCE, "timestamp": STAMP}, sort_keys=True, separators=(",", ":"),
                          ensure_ascii=False)
        reply = {"type": "attestation_response", "nonce": NONCE, "signature": sign((NONCE + STAMP).encode()),
                 "status_signature": sign(text.encode()), "public_key": K_PUB, **fields}
        cases.append({"name": name, "reply": json.dumps(reply, ensure_ascii=False), "canonical": text})
    return {"nonce": NONCE, "timestamp": STAMP, "signing_key": SE_PUB, "cases": cases}


# --- response hashes -----------------------------------------------------------------------------

def tool_call_text(call):
    return "\x1ftool_call:" + json.dumps(call, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\x1f"


def response_text(frames):
    text = ""
    for frame in frames:
        deltas = [choice["delta"] for choice in frame["choices"]]
        text += "".join(d.get("content") or "" for d in deltas)
        text += "".join(d.get("reasoning_content") or "" for d in deltas)
        text += "".join(tool_call_text(c) for d in deltas for c in d.get("tool_calls", []))
    return text


def response_cases():
    call = {"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "weather", "arguments": "{\"city\":\"a/b\",\"ü\":1}"}}
    sets = {
        "one token": ("req-1", 1, [{"choices": [{"delta": {"content": "pong"}}]}]),
        "nothing at all": ("req-2", 0, []),
        "several frames": ("3f0e", 3, [{"choices": [{"delta": {"role": "assistant"}}]},
                                       {"choices": [{"delta": {"content": "Hé"}}]},
                                       {"choices": [{"delta": {"content": "llo"}}]}, {"choices": []}]),
        "contents stand before reasonings within a frame": ("r", 9, [
            {"choices": [{"delta": {"reasoning_content": "think", "content": "say"}},
                         {"delta": {"content": "more", "reasoning_content": "deep"}}]},
            {"choices": [{"delta": {"reasoning_content": "again"}}]}]),
        "tool calls": ("r", 12, [{"choices": [{"delta": {"content": "x", "tool_calls": [
            call, {"index": 1, "z": [1, {"b": 2, "a": None}], "a": True}]}}]}]),
        "nulls": ("r", 2, [{"choices": [{"delta": {"content": None, "reasoning_content": None}}]}]),
    }
    cases = []
    for name, (request_id, tokens, frames) in sets.items():
        digest = hashlib.sha256(f"{request_id}:{tokens}:{response_text(frames)}".encode()).hexdigest()
        cases.append({"name": name, "request_id": request_id, "completion_tokens": tokens,
                      "frames": [json.dumps(f, ensure_ascii=False) for f in frames], "hash": digest,
                      "signature": sign(digest.encode())})
    return {"signing_key": SE_PUB, "cases": cases}


# --- whole messages of the two existing provider generations -------------------------------------

def lines(name, messages):
    (OUT / name).write_text("".join(m + "\n" for m in messages))


def splice(message, attestation):
    """The attestation goes in byte for byte, as the reference does it."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).replace('"@attestation@"', attestation)


def sealed_chunk(request_id, frame, number):
    sealed = Box(provider_key, request_key.public_key).encrypt(frame.encode(), bytes([number]) * 24)
    return {"type": "inference_response_chunk", "request_id": request_id,
            "encrypted_data": {"ephemeral_public_key": K_PUB, "ciphertext": b64(bytes(sealed))}}


def older_generation():
    hardware = {"machine_model": "Mac15,12", "chip_name": "Apple M3", "chip_family": "M3", "chip_tier": "Base", "memory_gb": 16,
                "memory_available_gb": 9, "cpu_cores": {"total": 8, "performance": 4, "efficiency": 4}, "gpu_cores": 10,
                "memory_bandwidth_gbs": 100}
    model = "mlx-community/Qwen3.5-4B-4bit"
    templates = {"qwen3.5": "15" * 32, "trinity": "16" * 32, "gemma4": "17" * 32, "minimax": "18" * 32}
    attestation = wrap(canonical(blob(chipName="Apple M3", hardwareModel="Mac15,12", osVersion="15.1.1",
                                      binaryHash="12" * 32, systemVolumeHash=None)))
    register = {
        "type": "register", "hardware": hardware,
        "models": [{"id": model, "size_bytes": 2500000000, "model_type": None, "parameters": None, "quantization": None,
                    "estimated_memory_gb": 2.8},
                   {"id": "mlx-community/gemma-4-e4b-it-8bit", "size_bytes": 4800000000, "model_type": "gemma",
                    "parameters": 4000000000, "quantization": "8bit", "estimated_memory_gb": 5}],
        "backend": "inprocess-mlx", "version": "0.4.7", "public_key": K_PUB, "encrypted_response_chunks": True,
        "wallet_address": "", "attestation": "@attestation@", "auth_token": "eigeninference-pt-" + "c3" * 32,
        "python_hash": "13" * 32, "runtime_hash": "14" * 32, "template_hashes": templates,
        "privacy_capabilities": {
            "text_backend_inprocess": True, "text_proxy_disabled": True, "python_runtime_locked": True,
            "dangerous_modules_blocked": True, "sip_enabled": True, "anti_debug_enabled": True, "core_dumps_disabled": True,
            "env_scrubbed": True, "hypervisor_active": False}}
    heartbeat = {"type": "heartbeat", "status": "idle", "active_model": model, "stats": {"requests_served": 0,
                 "tokens_generated": 0}, "warm_models": [model],
                 "system_metrics": {"memory_pressure": 0.31, "cpu_usage": 0.04, "thermal_state": "nominal"}}
    status = {"active_model_hash": "11" * 32, "binary_hash": "12" * 32, "hypervisor_active": False,
              "model_hashes": {model: "11" * 32}, "python_hash": "13" * 32, "rdma_disabled": True, "runtime_hash": "14" * 32,
              "secure_boot_enabled": True, "sip_enabled": True, "template_hashes": templates}
    text = json.dumps({**status, "nonce": NONCE, "timestamp": STAMP}, sort_keys=True, separators=(",", ":"))
    reply = {"type": "attestation_response", "nonce": NONCE, "signature": sign((NONCE + STAMP).encode()),
             "status_signature": sign(text.encode()), "public_key": K_PUB, **status}
    frame = 'data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": ' \
            '"gr\\u00fc\\u00dfe"}, "finish_reason": null}]}'
    complete = {"type": "inference_complete", "request_id": "3f0e5b0a-0000-4000-8000-000000000001",
                "usage": {"prompt_tokens": 12, "completion_tokens": 9}, "se_signature": None, "response_hash": None}
    compact = [json.dumps(m, separators=(",", ":"), ensure_ascii=False) for m in (
        heartbeat, reply, {"type": "inference_accepted", "request_id": complete["request_id"]},
        sealed_chunk(complete["request_id"], frame, 1), sealed_chunk(complete["request_id"], "data: [DONE]", 2), complete)]
    return [splice(register, attestation)] + compact


def current_generation():
    hash_a, hash_b = "5a" * 32, "6b" * 32
    register = {
        "type": "register",
        "hardware": {"machine_model": "Mac16,6", "chip_name": "Apple M4 Max", "chip_family": "M4", "chip_tier": "Max",
                     "memory_gb": 64, "memory_available_gb": 41, "cpu_cores": {"total": 16, "performance": 12, "efficiency": 4},
                     "gpu_cores": 40, "memory_bandwidth_gbs": 546},
        "models": [{"id": "acme/tiny-4bit", "size_bytes": 2147483648, "model_type": "llama", "quantization": "4bit",
                    "weight_hash": hash_a, "template_render_ok": True}],
        "backend": "mlx-swift", "version": "0.6.17", "public_key": K_PUB, "encrypted_response_chunks": True,
        "attestation": "@attestation@", "auth_token": "eigeninference-pt-" + "d4" * 32,
        "template_hashes": {"mlx_metallib": hash_b},
        "privacy_capabilities": {
            "text_backend_inprocess": True, "text_proxy_disabled": True, "python_runtime_locked": False,
            "dangerous_modules_blocked": False, "sip_enabled": True, "anti_debug_enabled": True, "core_dumps_disabled": True,
            "env_scrubbed": True, "hypervisor_active": False},
        "apns_device_token": "0f" * 32, "apns_environment": "production"}
    request_id = "3f0e5b0a-0000-4000-8000-000000000002"
    heartbeat = {
        "type": "heartbeat", "status": "serving", "active_model": "acme/tiny-4bit", "warm_models": ["acme/tiny-4bit"],
        "stats": {"requests_served": 3, "tokens_generated": 900},
        "system_metrics": {"memory_pressure": 0.4, "cpu_usage": 0.1, "thermal_state": "nominal"},
        "backend_capacity": {
            "slots": [{"model": "acme/tiny-4bit", "state": "running", "num_running": 1, "num_waiting": 0, "active_tokens": 210,
                       "max_tokens_potential": 512}],
            "gpu_memory_active_gb": 2.5, "gpu_memory_peak_gb": 3, "gpu_memory_cache_gb": 0.2, "total_memory_gb": 64,
            "free_for_load_gb": 38.5}}
    digest = hashlib.sha256(f"{request_id}:48:pong".encode()).hexdigest()
    status = {"rdma_disabled": True, "sip_enabled": True, "secure_boot_enabled": True, "binary_hash": "ab" * 32,
              "template_hashes": {"mlx_metallib": hash_b}, "model_hashes": {"acme/tiny-4bit": hash_a}}
    text = json.dumps({**status, "nonce": NONCE, "timestamp": STAMP}, sort_keys=True, separators=(",", ":"))
    rest = [
        heartbeat,
        sealed_chunk(request_id, 'data: {"choices":[{"delta":{"content":"pong"}}]}\n\n', 3),
        {"type": "inference_complete", "request_id": request_id,
         "usage": {"prompt_tokens": 12, "completion_tokens": 48, "reasoning_tokens": 0},
         "se_signature": sign(digest.encode()), "response_hash": digest},
        {"type": "inference_error", "request_id": request_id, "error": "request cancelled", "status_code": 499},
        {"type": "attestation_response", "nonce": NONCE, "signature": sign((NONCE + STAMP).encode()),
         "status_signature": sign(text.encode()), "public_key": K_PUB, **status},
        {"type": "desired_models", "models": [{"model_name": "tiny", "desired_build": "acme/tiny-8bit",
                                               "previous_build": "acme/tiny-4bit"}]},
        {"type": "trust_status", "trust_level": "hardware", "status": "online", "reason": "free text"},
        {"type": "runtime_status", "verified": False,
         "mismatches": [{"component": "template:mlx_metallib", "expected": hash_b, "got": "(missing)"}]}]
    return [splice(register, wrap(canonical(blob())))] + [json.dumps(m, separators=(",", ":")) for m in rest]


def seeds(target, texts):
    """Where the fuzz targets start from."""
    folder = OUT.parent.parent / "fuzz" / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"golden-{number:02}").write_text(text)


def main():
    OUT.mkdir(exist_ok=True)
    attestations, statuses, responses = attestation_cases(), status_cases(), response_cases()
    older, current = older_generation(), current_generation()
    write("boxes.json", boxes())
    write("attestations.json", attestations)
    write("statuses.json", statuses)
    write("response_hashes.json", responses)
    lines("generation-0.4.7.jsonl", older)
    lines("generation-0.6.17.jsonl", current)
    seeds("fuzz_wire_message", older + current)
    seeds("fuzz_attestation", [case["signed"] for case in attestations["cases"][::4]])
    seeds("fuzz_status", [case["reply"] for case in statuses["cases"]] +
          [frame for case in responses["cases"] for frame in case["frames"]])


if __name__ == "__main__":
    main()
