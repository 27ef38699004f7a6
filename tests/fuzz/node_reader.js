// Reads framed bodies from standard input, as a provider written in JavaScript would, and tells what it found.
//
// In:  for each body, u32 length of a JSON head {"format","path"}, the head, u32 length of the body, the body (big-endian).
// Out: one JSON line each: {"ok","digest","model","stream","tools"}; digest is SHA-256 of the RFC 8785 form, hex.
"use strict";
const crypto = require("node:crypto");

function canonical(value) {
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  if (value !== null && typeof value === "object") {
    const keys = Object.keys(value).sort();
    return "{" + keys.map((key) => JSON.stringify(key) + ":" + canonical(value[key])).join(",") + "}";
  }
  return JSON.stringify(value);
}

const list = (value) => (Array.isArray(value) ? value : []);
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const declared = {
  openai_chat(body) {
    const names = list(body.tools).map((tool) => (tool[tool.type] || {}).name);
    return names.concat(list(body.functions).map((fn) => fn.name));
  },
  openai_responses(body) {
    const names = [];
    const read = (tools, space) => {
      for (const tool of list(tools)) {
        if (tool.type === "namespace") read(tool.tools, tool.name + ".");
        else if (tool.type === "function" || tool.type === "custom") names.push(space + tool.name);
        else names.push(tool.type);
      }
    };
    read(body.tools, "");
    for (const item of list(body.input)) if (isObject(item) && item.type === "additional_tools") read(item.tools, "");
    return names;
  },
  anthropic_messages(body) {
    return list(body.tools).map((tool) => tool.name);
  },
  gemini(body) {
    const names = [];
    for (const tool of list(body.tools)) {
      for (const fn of list(tool.functionDeclarations || tool.function_declarations)) names.push(fn.name);
    }
    return names;
  },
  bedrock_converse(body) {
    return list((body.toolConfig || {}).tools).filter((t) => t.toolSpec).map((tool) => tool.toolSpec.name);
  },
  bedrock_anthropic(body) {
    return list(body.tools).map((tool) => tool.name);
  },
  ollama_chat(body) {
    return list(body.tools).map((tool) => (tool.function || {}).name);
  },
};

function read(head, raw) {
  try {
    const body = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw));
    const digest = crypto.createHash("sha256").update(canonical(body)).digest("hex");
    const inPath = /\/models?\/([^/:]+(?::[0-9]+)?)[:/]([A-Za-z-]+)/.exec(head.path);
    let model = body.model === undefined ? null : body.model;
    let stream = body.stream === undefined ? head.format === "ollama_chat" : body.stream;
    if (inPath !== null) {
      model = decodeURIComponent(inPath[1]);
      stream = inPath[2].includes("stream");
    }
    return { ok: true, digest, model, stream, tools: [...new Set(declared[head.format](body))] };
  } catch (error) {
    return { ok: false, error: String(error.name) };
  }
}

let buffer = Buffer.alloc(0);
process.stdin.on("data", (chunk) => {
  buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk]);
  let at = 0;
  const lines = [];
  for (;;) {
    if (buffer.length < at + 4) break;
    const headEnd = at + 4 + buffer.readUInt32BE(at);
    if (buffer.length < headEnd + 4) break;
    const end = headEnd + 4 + buffer.readUInt32BE(headEnd);
    if (buffer.length < end) break;
    const head = JSON.parse(buffer.toString("utf8", at + 4, headEnd));
    lines.push(JSON.stringify(head.url === undefined ? read(head, buffer.subarray(headEnd + 4, end)) : split(head.url)));
    at = end;
  }
  buffer = buffer.subarray(at);
  if (lines.length > 0) process.stdout.write(lines.join("\n") + "\n");
});
process.stdin.on("end", () => process.exit(0));

function split(url) {
  try {
    const parts = new URL(url);
    return { ok: true, host: parts.hostname, port: parts.port, path: parts.pathname, query: parts.search };
  } catch (error) {
    return { ok: false, error: String(error.name) };
  }
}
