// A certified OpenID provider on loopback for the tests of the login: prints its port, then serves until it is killed.
// Environment: CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, ALG (RS256 or ES256), FAULT (what to spoil in the tokens it signs).
// Whoever logs in as NAME is the subject NAME; everybody's password is right. POST /test/rotate changes the keys.
import http from "node:http";
import { generateKeyPairSync, createSign, createPrivateKey } from "node:crypto";
import Provider from "oidc-provider";

const { CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, ALG = "RS256" } = process.env;

function newKey(kid) {
  const pair = ALG === "ES256" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...pair.privateKey.export({ format: "jwk" }), kid, use: "sig", alg: ALG };
}

// Signs anew what the provider signed, with something wrong in it.
function spoil(token, fault, key) {
  const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
  const now = Math.floor(Date.now() / 1000);
  const header = { alg: ALG, kid: key.kid, typ: "JWT" };
  if (fault === "nonce") claims.nonce = "another";
  else if (fault === "aud") claims.aud = "another";
  else if (fault === "iss") claims.iss = "https://another.example";
  else if (fault === "expired") { claims.exp = now - 3600; claims.iat = now - 7200; }
  else if (fault === "late") { claims.exp = now - 20; claims.iat = now - 600; } // clocks differ by less than a minute ...
  else if (fault === "early") { claims.iat = now + 20; claims.nbf = now + 20; }
  else if (fault === "too-early") { claims.iat = now + 600; claims.nbf = now + 600; } // ... or by more
  else if (fault === "sub") claims.sub = "";
  else if (fault === "unverified") claims.email_verified = false;
  else if (fault === "signature") claims.sub = "forged";
  const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  if (fault === "none") return [{ alg: "none" }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".") + ".";
  if (fault === "signature") return text + "." + token.split(".")[2];
  const signer = createSign("sha256").update(text);
  return text + "." + signer.sign({ key: createPrivateKey({ key, format: "jwk" }), dsaEncoding: "ieee-p1363" }).toString("base64url");
}

let key = newKey("key-1");
let fault = process.env.FAULT ?? "";
let handle = null;

function makeProvider(issuer) {
  const provider = new Provider(issuer, {
    clients: [{ client_id: CLIENT_ID, client_secret: CLIENT_SECRET, redirect_uris: [REDIRECT_URI], response_types: ["code"], grant_types: ["authorization_code"],
                id_token_signed_response_alg: ALG }],
    jwks: { keys: [key] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@id.example`, email_verified: true, name: `Name of ${id}` }) }),
    cookies: { keys: ["a key of the tests"] },
    pkce: { required: () => true },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256"] },
    features: { devInteractions: { enabled: true } },
  });
  return provider.callback();
}

const server = http.createServer((request, response) => {
  if (request.url === "/test/rotate") {
    key = newKey(`key-${Date.now()}`);
    handle = makeProvider(issuer);
    response.end("rotated");
    return;
  }
  if (request.url.startsWith("/test/fault/")) {
    fault = request.url.slice("/test/fault/".length);
    response.end("set");
    return;
  }
  if (request.url === "/token" && fault) {
    const end = response.end.bind(response);
    response.end = (body, ...rest) => {
      const answer = JSON.parse(body);
      if (answer.id_token) answer.id_token = spoil(answer.id_token, fault, key);
      const text = JSON.stringify(answer);
      response.setHeader("content-length", Buffer.byteLength(text));
      return end(text, ...rest);
    };
  }
  handle(request, response);
});

let issuer;
server.listen(0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  handle = makeProvider(issuer);
  console.log(server.address().port);
});
