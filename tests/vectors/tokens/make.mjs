// Makes the files beside it with Node's own JSON, SHA-256 and Ed25519, so that they do not depend on the code that they test:
//   node tests/vectors/tokens/make.mjs
// The key is a public test key. Scope hashes are over `normalized`, which is written by hand.
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

const here = new URL(".", import.meta.url);
const write = (name, value) => writeFileSync(new URL(name, here), JSON.stringify(value, null, 1) + "\n");
const sha = (text) => createHash("sha256").update(text).digest("base64url");
// an object cannot hold array-index keys in sorted text order, so canonical text is put together by hand
const canonical = (v) =>
  Array.isArray(v) ? `[${v.map(canonical)}]`
  : v && typeof v === "object" ? `{${Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + canonical(v[k]))}}`
  : JSON.stringify(v);

// -- encodings
const documents = [
  '{"z":1,"a":{"y":[true,false,null],"b":"x"}}',
  '{"10":"ten","9":"nine","01":"not an index","b":0,"4294967294":"last index","4294967295":"not one","-1":0,"1.5":0}',
  "[1.0,-0,0.1,1e21,1e20,1.2345678901234568e20,1e-6,1e-7,5e-324,1.7976931348623157e308,100,-2.50,9007199254740991]",
  '{"s":"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\\\/\\u007f\\u2028","\\u00e9":"\\ud83d\\ude00"}',
  '{"\\ufb33":1,"\\ud83d\\ude00":2,"a":3,"\\u0080":4,"A":5}',
  "[]",
  "{}",
  '""',
  "[[],{},[{}]]",
  ' \n{ "a" : [ 1 , 2 ] }\t\r',
];
write("encoding.json", documents.map((json) => {
  const value = JSON.parse(json);
  return { json, wire_order: JSON.stringify(value), jcs: canonical(value) };
}));

// -- scope hashes
const base = { token_version: "1", sub: "did:key:zAda", aud: ["gateway.test"], scope: ["clawproxy:call"] };
const hash43 = (char) => char.repeat(42) + "A";
const scopes = [
  [{ sub: "did:key:zAda", aud: "gateway.test", scope: ["clawproxy:call"] }, base],
  [{ sub: "\u00a0did:key:zAda\ufeff", aud: ["gateway.test", " gateway.test", ""], scope: ["clawproxy:call", " "] }, base],
  [
    { sub: "s", aud: ["b", "a"], scope: ["\uffee", "\u{1f600}", "z", "A"], mission_id: "job-1", iat: 5, exp: 9, jti: "j", nonce: "n" },
    { token_version: "1", sub: "s", aud: ["a", "b"], scope: ["A", "z", "\u{1f600}", "\uffee"], mission_id: "job-1" },
  ],
  [
    {
      ...base, owner_ref: " o ", owner_did: "did:key:zO", controller_did: "did:key:zC", agent_did: "did:key:zAda",
      policy_hash_b64u: hash43("p"), control_plane_policy_hash_b64u: hash43("c"), payment_account_did: "did:key:zP", spend_cap: 12.5,
      mission_id: "job-2", delegation_id: "d", delegator_did: "did:key:zO", delegate_did: "did:key:zAda",
      delegation_policy_hash_b64u: hash43("d"), delegation_spend_cap_minor: "007", delegation_expires_at: 1800000000.75, token_lane: "legacy",
    },
    {
      ...base, owner_ref: "o", owner_did: "did:key:zO", controller_did: "did:key:zC", agent_did: "did:key:zAda",
      policy_hash_b64u: hash43("p"), control_plane_policy_hash_b64u: hash43("c"), payment_account_did: "did:key:zP", spend_cap: 12.5,
      mission_id: "job-2", delegation_id: "d", delegator_did: "did:key:zO", delegate_did: "did:key:zAda",
      delegation_policy_hash_b64u: hash43("d"), delegation_spend_cap_minor: "007", delegation_expires_at: 1800000000,
    },
  ],
  [{ ...base, spend_cap: 0, delegation_expires_at: 0.5, owner_ref: "  " }, { ...base, spend_cap: 0, delegation_expires_at: 0 }],
  [{ ...base, spend_cap: -1, delegation_expires_at: -3, delegation_spend_cap_minor: "1.5" }, base],
  [{ ...base, spend_cap: true, owner_did: 7, mission_id: null }, base],
];
write("scope_hash.json", scopes.map(([input, normalized]) => ({ input, normalized, token_scope_hash_b64u: sha(canonical(normalized)) })));

// -- tokens
const seed = Buffer.alloc(32, 0x51);
const secret = createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]), format: "der", type: "pkcs8" });
const raw = createPublicKey(secret).export({ format: "der", type: "spki" }).subarray(-32);
const kid = createHash("sha256").update(raw).digest("hex").slice(0, 16);
const NOW = 1_900_000_000;
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const b64 = (text) => Buffer.from(text).toString("base64url");
const jws = (header, payload) => {
  const input = `${b64(header)}.${b64(payload)}`;
  return `${input}.${sign(null, Buffer.from(input), secret).toString("base64url")}`;
};
const header = (over = {}) => JSON.stringify({ alg: "EdDSA", typ: "JWT", kid, ...over });
const claims = (over = {}, drop = []) => {
  const given = {
    token_version: "1", sub: "did:key:zAda", aud: "gateway.test", scope: ["clawproxy:call"], iat: NOW - 60, exp: NOW + 540,
    policy_hash_b64u: hash43("p"), token_scope_hash_b64u: "", mission_id: "job-1", jti: "5f1d7a2e-0000-4000-8000-000000000001", ...over,
  };
  for (const name of drop) delete given[name];
  if (given.token_scope_hash_b64u === "") {
    const list = (v) => (Array.isArray(v) ? [...new Set(v.map(String))].sort() : [String(v)]);
    const view = { token_version: "1", sub: given.sub, aud: list(given.aud), scope: list(given.scope) };
    for (const name of ["owner_ref", "owner_did", "controller_did", "agent_did", "policy_hash_b64u", "control_plane_policy_hash_b64u",
      "payment_account_did", "mission_id", "delegation_id", "spend_cap"]) if (name in given) view[name] = given[name];
    given.token_scope_hash_b64u = sha(canonical(view));
  }
  return JSON.stringify(given);
};
const good = jws(header(), claims());
const [goodHeader, goodClaims, goodSignature] = good.split(".");
// the last character of 64 bytes carries four bits that mean nothing
const looseBits = goodSignature.slice(0, -1) + ALPHABET[ALPHABET.indexOf(goodSignature.at(-1)) + 1];
const otherSignature = jws(header(), claims({ jti: "another" })).split(".")[2];
const rows = [
  ["the smallest token", good, "ok"],
  ["every claim that is served", jws(header(), claims({
    aud: ["elsewhere.test", "gateway.test"], owner_ref: "o", owner_did: "did:key:zO", controller_did: "did:web:c.test", agent_did: "did:key:zAda",
    control_plane_policy_hash_b64u: "c".repeat(43), payment_account_did: "did:key:zP", spend_cap: 1.5, token_lane: "canonical", nonce: "n" })), "ok"],
  ["without a contract (the pin step refuses that)", jws(header(), claims({}, ["policy_hash_b64u"])), "ok"],
  ["issued at the edge of the skew", jws(header(), claims({ iat: NOW + 60 })), "ok"],
  ["one part too few", `${goodHeader}.${goodClaims}`, "TOKEN_MALFORMED"],
  ["one part too many", `${good}.`, "TOKEN_MALFORMED"],
  ["padding", `${goodHeader}.${goodClaims}.${goodSignature}==`, "TOKEN_MALFORMED"],
  ["trailing bits in the signature", `${goodHeader}.${goodClaims}.${looseBits}`, "TOKEN_MALFORMED"],
  ["blank in front", ` ${good}`, "TOKEN_MALFORMED"],
  ["a claim twice", jws(header(), claims().replace("{", '{"sub":"did:key:zEve",')), "TOKEN_MALFORMED"],
  ["a header member twice", jws(`{"alg":"none",${header().slice(1)}`, claims()), "TOKEN_MALFORMED"],
  ["text after the claims", jws(header(), claims() + " {}"), "TOKEN_MALFORMED"],
  ["claims that are a list", jws(header(), `[${claims()}]`), "TOKEN_MALFORMED"],
  ["no kid", jws('{"alg":"EdDSA","typ":"JWT"}', claims()), "TOKEN_MALFORMED"],
  ["a kid that is a number", jws(header({ kid: 7 }), claims()), "TOKEN_MALFORMED"],
  ["crit in the header", jws(header({ crit: ["exp"] }), claims()), "TOKEN_MALFORMED"],
  ["jwk in the header", jws(header({ jwk: { kty: "OKP" } }), claims()), "TOKEN_MALFORMED"],
  ["another typ", jws(header({ typ: "at+jwt" }), claims()), "TOKEN_MALFORMED"],
  ["alg none, no signature", `${b64(header({ alg: "none" }))}.${goodClaims}.`, "TOKEN_MALFORMED"],
  ["alg none", `${b64(header({ alg: "none" }))}.${goodClaims}.${goodSignature}`, "TOKEN_UNSUPPORTED_ALG"],
  ["alg HS256", jws(header({ alg: "HS256" }), claims()), "TOKEN_UNSUPPORTED_ALG"],
  ["alg in lower case", jws(header({ alg: "eddsa" }), claims()), "TOKEN_UNSUPPORTED_ALG"],
  ["an unknown kid", jws(header({ kid: "0123456789abcdef" }), claims()), "TOKEN_UNKNOWN_KID"],
  ["the signature of another token", `${goodHeader}.${goodClaims}.${otherSignature}`, "TOKEN_SIGNATURE_INVALID"],
  ["bad claims under a bad signature: the signature comes first", `${goodHeader}.${b64("{}")}.${goodSignature}`, "TOKEN_SIGNATURE_INVALID"],
  ["an unknown claim", jws(header(), claims({ nbf: NOW })), "TOKEN_INVALID_CLAIMS"],
  ["another version", jws(header(), claims({ token_version: "2" })), "TOKEN_INVALID_CLAIMS"],
  ["no jti", jws(header(), claims({}, ["jti"])), "TOKEN_INVALID_CLAIMS"],
  ["iat with a fraction", jws(header(), claims({ iat: NOW - 0.5 })), "TOKEN_INVALID_CLAIMS"],
  ["exp as text", jws(header(), claims({ exp: String(NOW + 9) })), "TOKEN_INVALID_CLAIMS"],
  ["exp before iat", jws(header(), claims({ exp: NOW - 61 })), "TOKEN_INVALID_CLAIMS"],
  ["65 scopes", jws(header(), claims({ scope: Array.from({ length: 65 }, (_, n) => `s${n}`) })), "TOKEN_INVALID_CLAIMS"],
  ["a scope of 129 characters", jws(header(), claims({ scope: ["s".repeat(129)] })), "TOKEN_INVALID_CLAIMS"],
  ["no scope", jws(header(), claims({ scope: [] })), "TOKEN_INVALID_CLAIMS"],
  ["a job id that climbs", jws(header(), claims({ mission_id: "../job-1" })), "TOKEN_INVALID_CLAIMS"],
  ["a contract hash with trailing bits", jws(header(), claims({ policy_hash_b64u: "p".repeat(42) + "B" })), "TOKEN_INVALID_CLAIMS"],
  ["delegated spending", jws(header(), claims({ delegation_id: "d" })), "TOKEN_INVALID_CLAIMS"],
  ["no job", jws(header(), claims({}, ["mission_id"])), "TOKEN_JOB_REQUIRED"],
  ["no scope hash", jws(header(), claims({}, ["token_scope_hash_b64u"])), "TOKEN_SCOPE_HASH_REQUIRED"],
  ["the scope hash of other claims", jws(header(), claims({ token_scope_hash_b64u: sha("other") })), "TOKEN_SCOPE_HASH_MISMATCH"],
  ["another audience", jws(header(), claims({ aud: "elsewhere.test" })), "TOKEN_BAD_AUDIENCE"],
  ["an audience that starts like ours", jws(header(), claims({ aud: "gateway.test.evil" })), "TOKEN_BAD_AUDIENCE"],
  ["our audience in capitals", jws(header(), claims({ aud: "GATEWAY.test" })), "TOKEN_BAD_AUDIENCE"],
  ["issued past the skew", jws(header(), claims({ iat: NOW + 61 })), "TOKEN_NOT_YET_VALID"],
  ["expires this second", jws(header(), claims({ exp: NOW })), "TOKEN_EXPIRED"],
];
write("tokens.json", {
  note: "public test key",
  issuer_seed_b64u: seed.toString("base64url"),
  issuer_public_key_b64u: raw.toString("base64url"),
  kid,
  audience: "gateway.test",
  now_s: NOW,
  tokens: rows.map(([name, token, outcome]) => ({ name, token, outcome })),
});
