"""A provider written from the protocol's text alone (docs and chapters, none of our code), with other libraries: websockets,
PyNaCl, cryptography. Honest unless a test changes one of its parts; speaks as either generation in the field."""

import base64
import hashlib
import json
import os
import threading
import time
from datetime import datetime, timezone

import nacl.public
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import PATIENCE, wait_until


def b64(data):
    return base64.b64encode(data).decode()


def canonical(value, escape_slash):
    """Compact JSON with sorted keys; the attestation escapes slashes, the status does not."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("/", "\\/") if escape_slash else text


def new_signing_key():
    """A P-256 key and its public half as the attestation names it: base64 of X and Y."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key, b64(point[1:])


class PythonProvider:
    def __init__(self, coordinator, serial="PY0001", model="py-model", generation="0.6.17", answer=("Hello", " there", "!")):
        assert generation in ("0.6.17", "0.4.7")
        self.url = coordinator.ws_url
        self.serial = serial
        self.model = model
        self.old = generation == "0.4.7"
        self.version = generation
        self.answer = answer
        self.box_key = nacl.public.PrivateKey.generate()
        self.public_key = b64(bytes(self.box_key.public_key))
        self.signing_key, self.se_public = new_signing_key()
        self.weight_hash = hashlib.sha256(model.encode()).hexdigest()
        self.received = []  # every message of the coordinator, in order
        self.prompts = []  # opened request bodies
        self.closed = threading.Event()
        self.close_code = None
        self.failure = None  # what went wrong on the reading thread
        self._lock = threading.Lock()
        self._ended = False

    # --- parts that tests change ---

    def blob(self):
        """The facts that are signed."""
        return {"authenticatedRootEnabled": True, "binaryHash": hashlib.sha256(b"binary").hexdigest(), "chipName": "Apple M4 Max",
                "encryptionPublicKey": self.public_key, "hardwareModel": "Mac16,6", "osVersion": "15.3.0", "publicKey": self.se_public,
                "rdmaDisabled": True, "secureBootEnabled": True, "secureEnclaveAvailable": True, "serialNumber": self.serial,
                "sipEnabled": True, "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def attestation(self):
        """The raw text of register.attestation, or None."""
        text = canonical(self.blob(), escape_slash=True)
        return '{"attestation":%s,"signature":"%s"}' % (text, self.sign(text))

    def challenge_reply(self, nonce, timestamp):
        """The attestation_response, or None for silence."""
        status = {"nonce": nonce, "timestamp": timestamp, "rdma_disabled": True, "sip_enabled": True, "secure_boot_enabled": True,
                  "binary_hash": hashlib.sha256(b"binary").hexdigest(), "model_hashes": {self.model: self.weight_hash}}
        if self.old:
            status |= {"python_hash": "1" * 64, "runtime_hash": "2" * 64, "template_hashes": {"qwen3.5": "3" * 64, "gemma4": "4" * 64},
                       "active_model_hash": self.weight_hash, "hypervisor_active": False}
        else:
            status |= {"template_hashes": {"mlx_metallib": "5" * 64}}
        reply = {"type": "attestation_response", "signature": self.sign(nonce + timestamp), "public_key": self.public_key,
                 "status_signature": self.sign(canonical(status, escape_slash=False)), **status}
        del reply["timestamp"]
        return reply

    def serve(self, request_id, request, box):
        """Answers one opened request; box seals for its sender."""
        self.send({"type": "inference_accepted", "request_id": request_id})
        for frame in self.frames(request):
            self.send_chunk(request_id, box, frame)
        self.send(self.completion(request_id))

    # --- signing, sealing, sending ---

    def sign(self, text):
        return b64(self.signing_key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))

    def sealed(self, box, text):
        return {"ephemeral_public_key": self.public_key, "ciphertext": b64(bytes(box.encrypt(text.encode(), os.urandom(24))))}

    def send(self, message):
        self.send_text(json.dumps(message))

    def send_text(self, text):
        with self._lock:
            self.socket.send(text)

    def send_chunk(self, request_id, box, frame):
        self.send({"type": "inference_response_chunk", "request_id": request_id, "encrypted_data": self.sealed(box, frame)})

    def completion(self, request_id):
        count = len(self.answer)
        digest = hashlib.sha256(f"{request_id}:{count}:{''.join(self.answer)}".encode()).hexdigest()
        usage = {"prompt_tokens": 11, "completion_tokens": count}
        if not self.old:
            usage["reasoning_tokens"] = 0
        return {"type": "inference_complete", "request_id": request_id, "usage": usage, "se_signature": self.sign(digest), "response_hash": digest}

    def frames(self, request):
        """Plain SSE frames of an answer. The older generation leaves out line ends, role and usage, and answers a request that
        is not streamed with one whole object."""
        head = {"id": "chatcmpl-py", "created": 1767225600, "model": self.model}
        usage = {"prompt_tokens": 11, "completion_tokens": len(self.answer), "total_tokens": 11 + len(self.answer)}

        def chunk(choices, **more):
            return {**head, "object": "chat.completion.chunk", "choices": choices, **more}

        if self.old and not request.get("stream"):
            message = {"role": "assistant", "content": "".join(self.answer)}
            whole = {**head, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
            return ["data: " + json.dumps(whole)]
        said = [chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in self.answer]
        end = chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if self.old:
            return ["data: " + json.dumps(frame) for frame in [*said, end]] + ["data: [DONE]"]
        role = chunk([{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}])
        frames = [role, *said, end, chunk([], usage=usage)]
        return [f"data: {json.dumps(frame, separators=(',', ':'))}\n\n" for frame in frames] + ["data: [DONE]\n\n"]

    # --- the session ---

    def registration(self):
        model = {"id": self.model, "size_bytes": 1 << 30, "model_type": "llama", "quantization": "4bit", "estimated_memory_gb": 1.5,
                 "parameters": 135000000, "weight_hash": self.weight_hash, "template_render_ok": True}
        message = {"type": "register",
                   "hardware": {"machine_model": "Mac16,6", "chip_name": "Apple M4 Max", "chip_family": "M4", "chip_tier": "Max", "memory_gb": 64,
                                "memory_available_gb": 41.5, "cpu_cores": {"total": 16, "performance": 12, "efficiency": 4}, "gpu_cores": 40,
                                "memory_bandwidth_gbs": 546.0},
                   "models": [model], "backend": "mlx-swift", "version": self.version, "public_key": self.public_key,
                   "encrypted_response_chunks": True, "prefill_tps": 900.0, "decode_tps": 80.5,
                   "template_hashes": {"mlx_metallib": "5" * 64}, "apns_device_token": "ab" * 32, "apns_environment": "production",
                   "privacy_capabilities": {"text_backend_inprocess": True, "text_proxy_disabled": True, "python_runtime_locked": False,
                                            "dangerous_modules_blocked": False, "sip_enabled": True, "anti_debug_enabled": True,
                                            "core_dumps_disabled": True, "env_scrubbed": True, "hypervisor_active": False}}
        if self.old:
            for name in ("prefill_tps", "decode_tps", "apns_device_token", "apns_environment"):
                del message[name]
            for name in ("weight_hash", "template_render_ok"):
                del model[name]
            model |= {"model_type": None, "quantization": None, "parameters": None}
            message |= {"backend": "inprocess-mlx", "wallet_address": None, "python_hash": "1" * 64, "runtime_hash": "2" * 64,
                        "template_hashes": {"qwen3.5": "3" * 64, "gemma4": "4" * 64}}
            message["hardware"] |= {"memory_available_gb": 41, "memory_bandwidth_gbs": 546}
        return message

    def heartbeat(self):
        message = {"type": "heartbeat", "status": "idle", "active_model": self.model, "warm_models": [self.model],
                   "stats": {"requests_served": len(self.prompts), "tokens_generated": 0},
                   "system_metrics": {"memory_pressure": 0.3, "cpu_usage": 0.1, "thermal_state": "nominal"}}
        if not self.old:
            slot = {"model": self.model, "state": "idle", "num_running": 0, "num_waiting": 0, "active_tokens": 0, "max_tokens_potential": 0}
            message["backend_capacity"] = {"slots": [slot], "gpu_memory_active_gb": 2.5, "gpu_memory_peak_gb": 3, "gpu_memory_cache_gb": 0.2,
                                           "total_memory_gb": 64, "free_for_load_gb": 38.5}
        return message

    def start(self):
        self._connection = connect(self.url, compression=None, max_size=32 << 20, ping_interval=10, ping_timeout=60 * PATIENCE, open_timeout=60 * PATIENCE)
        self.socket = self._connection.__enter__()
        registration = json.dumps(self.registration())
        attestation = self.attestation()
        if attestation is not None:
            # spliced in, so that the signed bytes travel as they are
            registration = registration[:-1] + ',"attestation":' + attestation + "}"
        self.send_text(registration)
        self.send(self.heartbeat())
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        try:
            for text in self.socket:
                self._take(json.loads(text))
        except ConnectionClosed:
            pass
        except Exception as error:  # a test must see it, whatever it is
            if not self._ended:
                self.failure = error
        self.close_code = self.socket.protocol.close_code
        self.closed.set()

    def _take(self, message):
        self.received.append(message)
        if message["type"] == "attestation_challenge":
            reply = self.challenge_reply(message["nonce"], message["timestamp"])
            if reply is not None:
                self.send(reply)
        elif message["type"] == "inference_request":
            threading.Thread(target=self._request, args=(message,), daemon=True).start()

    def _request(self, message):
        try:
            body = message["encrypted_body"]
            box = nacl.public.Box(self.box_key, nacl.public.PublicKey(base64.b64decode(body["ephemeral_public_key"], validate=True)))
            request = json.loads(box.decrypt(base64.b64decode(body["ciphertext"], validate=True)))
            self.prompts.append(request)
            self.serve(message["request_id"], request, box)
        except ConnectionClosed:
            pass
        except Exception as error:
            if not self._ended:
                self.failure = error

    def got(self, kind):
        return [message for message in list(self.received) if message["type"] == kind]

    def wait_for(self, kind, count=1, seconds=60):
        """The count-th message of a kind."""
        wait_until(lambda: len(self.got(kind)) >= count, f"{kind} number {count} at {self.serial}", seconds)
        return self.got(kind)[count - 1]

    def wait_closed(self, seconds=60):
        wait_until(self.closed.is_set, f"the connection of {self.serial} to end", seconds)
        return self.close_code

    def stop(self):
        self._ended = True
        self.socket.close()


def wait_standing(coordinator, serial, trust, status):
    """Until the coordinator shows this serial with this trust level and status."""
    def check():
        found = coordinator.provider_of(serial)
        return found and found["trust_level"] == trust and found["status"] == status
    wait_until(check, f"{serial} to be {trust}, {status}")


def wait_quiet(provider, seconds=0.3):
    """Until the provider has heard nothing for a moment."""
    count = -1
    while count != len(provider.received):
        count = len(provider.received)
        time.sleep(seconds)


def stop_joined(joined):
    """The end of a fixture that joined providers: whatever one of them met that it did not expect fails the test."""
    for one in joined:
        one.stop()
    wrong = [f"{one.serial}: {one.failure!r}" for one in joined if one.failure]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
