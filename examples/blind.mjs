// Ask a model so that not even the coordinator can read along: the request is sealed to one attested provider.
//
//   npm install tweetnacl
//   export DARKBLOOM_URL=https://coordinator.example DARKBLOOM_API_KEY=sk-db-...
//   node blind.mjs MODEL "What is the capital of France?" [SE_PUBLIC_KEY]
//
// SE_PUBLIC_KEY: talk to the provider with this signing key and no other. docs/reference/blind-mode.md says what is checked here
// and what it is worth.

import { createHash, createPublicKey, randomBytes, verify } from "node:crypto";
import nacl from "tweetnacl";

const url = (process.env.DARKBLOOM_URL ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
const b64 = (bytes) => Buffer.from(bytes).toString("base64");
const bytesOf = (text) => new Uint8Array(Buffer.from(text, "base64"));

function fail(message) {
  console.error(message);
  process.exit(1);
}

async function post(path, body) {
  const headers = { Authorization: `Bearer ${process.env.DARKBLOOM_API_KEY}`, "Content-Type": "application/json" };
  const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  return response.ok ? response : fail((await response.json()).error.message);
}

function timedNonce() {
  const nonce = Buffer.concat([Buffer.from("dbseal01"), Buffer.alloc(8), randomBytes(8)]);
  nonce.writeBigUInt64BE(BigInt(Date.now()), 8);
  return new Uint8Array(nonce);
}

// Whether the P-256 key (base64 of X and Y) has signed the message.
function isSigned(publicKey, signature, message) {
  const point = Buffer.from(publicKey, "base64").subarray(-64);
  const [x, y] = [point.subarray(0, 32), point.subarray(32)].map((half) => half.toString("base64url"));
  const key = createPublicKey({ key: { kty: "EC", crv: "P-256", x, y }, format: "jwk" });
  return verify("sha256", Buffer.from(message), key, Buffer.from(signature, "base64"));
}

// The provider's encryption key, from the statement that its own signing key has signed: over the bytes as they stand.
function attestedKey(candidate) {
  const text = candidate.attestation;
  const { attestation: blob, signature } = JSON.parse(text);
  const start = text.indexOf("{", 1);
  const signed = text.slice(start, text.indexOf("}", start) + 1); // the statement is flat
  if (!isSigned(candidate.se_public_key, signature, signed)) fail("the provider's attestation is not good");
  if (blob.publicKey !== candidate.se_public_key || blob.encryptionPublicKey !== candidate.encryption_public_key)
    fail("the attestation is about other keys");
  return bytesOf(blob.encryptionPublicKey);
}

const [model, prompt, trusted] = process.argv.slice(2);
const limits = { max_prompt_tokens: Buffer.byteLength(prompt) + 1024, max_tokens: 1024 }; // never more tokens than bytes
const offer = await (await post("/v1/blind/offer", { model, prompt_tokens: Math.ceil(prompt.length / 4), ...limits })).json();
const provider = offer.candidates.find((one) => !trusted || one.se_public_key === trusted) ?? fail("no provider with this key is offered");
const mine = nacl.box.keyPair();
const shared = nacl.box.before(attestedKey(provider), mine.secretKey);
const body = { model, messages: [{ role: "user", content: prompt }], blind: limits };
const nonce = timedNonce();
const box = nacl.box.after(new Uint8Array(Buffer.from(JSON.stringify(body))), nonce, shared);
const response = await post("/v1/blind/completions", { offer_id: offer.id, provider_id: provider.provider_id, stream: true,
  ephemeral_public_key: b64(mine.publicKey), ciphertext: b64(Buffer.concat([nonce, box])) });

const transcript = createHash("sha256");
let rest = "";
for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
  const events = (rest + piece).split("\n\n");
  rest = events.pop();
  for (const event of events) {
    const [, kind, data] = event.match(/^(?:event: (\w+)\n)?data: (.*)$/) ?? []; // or a comment that keeps the connection open
    if (kind === "error") fail(JSON.parse(data).error.message);
    if (kind === "receipt") { // the provider's word about exactly the chunks that came
      const { request_id, usage, usage_signature } = JSON.parse(data);
      const lines = ["darkbloom-blind-usage-v1", request_id, b64(mine.publicKey), model, usage.prompt_tokens, usage.completion_tokens,
        usage.reasoning_tokens, transcript.digest("hex")];
      process.stdout.write("\n");
      if (isSigned(provider.se_public_key, usage_signature, lines.join("\n"))) process.exit(0);
      fail("the provider has not signed for what came");
    } else if (data) {
      transcript.update(data + "\n");
      const sealed = bytesOf(data);
      const frame = nacl.box.open.after(sealed.subarray(24), sealed.subarray(0, 24), shared) ?? fail("a part of the answer does not open");
      const text = Buffer.from(frame).toString().trim().slice("data: ".length);
      if (text !== "[DONE]") for (const choice of JSON.parse(text).choices) process.stdout.write(choice.delta.content ?? "");
    }
  }
}
fail("the answer ended before its provider had signed for it");
