// Ask a model through a Darkbloom coordinator so that nothing between you and the coordinator can read along.
//
//   npm install tweetnacl
//   export DARKBLOOM_URL=https://coordinator.example DARKBLOOM_API_KEY=sk-db-...
//   node sealed.mjs MODEL "What is the capital of France?"
//
// The request is sealed to the coordinator's own key, the answer comes back sealed: docs/reference/sealed-transport.md.

import { createHash, randomBytes } from "node:crypto";
import nacl from "tweetnacl";

const url = (process.env.DARKBLOOM_URL ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
const SEALED = "application/eigeninference-sealed+json";
const b64 = (bytes) => Buffer.from(bytes).toString("base64");
const bytesOf = (text) => new Uint8Array(Buffer.from(text, "base64"));

function fail(message) {
  console.error(message);
  process.exit(1);
}

function call(path, body, type = "application/json") {
  const headers = { Authorization: `Bearer ${process.env.DARKBLOOM_API_KEY}`, "Content-Type": type };
  return fetch(url + path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
}

// The time in the nonce lets the coordinator refuse a copy of this envelope for ever.
function timedNonce() {
  const nonce = Buffer.concat([Buffer.from("dbseal01"), Buffer.alloc(8), randomBytes(8)]);
  nonce.writeBigUInt64BE(BigInt(Date.now()), 8);
  return new Uint8Array(nonce);
}

function open(sealed, shared) {
  const bytes = bytesOf(sealed);
  const plain = nacl.box.open.after(bytes.subarray(24), bytes.subarray(0, 24), shared);
  return plain ? Buffer.from(plain).toString() : fail("a part of the answer does not open: somebody has changed it");
}

async function* lines(response) {
  let rest = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + piece).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

const [model, prompt] = process.argv.slice(2);
const published = await (await call("/v1/encryption-key")).json();
const key = bytesOf(published.public_key ?? "");
if (published.algorithm !== "x25519-nacl-box" || published.kid !== createHash("sha256").update(key).digest("hex").slice(0, 16))
  fail(published.error?.message ?? "the coordinator's key cannot be used");
const mine = nacl.box.keyPair(); // for this one request
const shared = nacl.box.before(key, mine.secretKey);
const body = { model, stream: true, messages: [{ role: "user", content: prompt }] };
const nonce = timedNonce();
const box = nacl.box.after(new Uint8Array(Buffer.from(JSON.stringify(body))), nonce, shared);
const envelope = { kid: published.kid, ephemeral_public_key: b64(mine.publicKey), ciphertext: b64(Buffer.concat([nonce, box])) };

const response = await call("/v1/chat/completions", envelope, SEALED);
if (response.headers.get("x-eigen-sealed") !== "true") fail((await response.json()).error.message);
if (response.headers.get("content-type") === SEALED) fail(JSON.parse(open((await response.json()).ciphertext, shared)).error.message);
for await (const line of lines(response)) {
  if (!line.startsWith("data: ")) continue;
  const data = open(line.slice(6), shared).replace(/^data: /, ""); // each sealed event holds one event
  if (data === "[DONE]") {
    process.stdout.write("\n");
    process.exit(0);
  }
  if (!data.startsWith("{")) continue; // a comment that keeps the connection open
  const said = JSON.parse(data);
  if (said.error) fail(said.error.message);
  for (const choice of said.choices) process.stdout.write(choice.delta.content ?? "");
}
fail("the answer ended before it was complete");
