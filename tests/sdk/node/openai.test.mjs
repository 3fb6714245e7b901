// The npm package openai: what works, what is refused, what is retried.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { assertWaits, burn, firstRefusal, keys, noting, toolSchema, url } from "./keyward.mjs";

const messages = [{ role: "user", content: "Say hello." }];
const small = { model: "text-embedding-3-small", input: "a", dimensions: 1 };

function client(key, options = {}) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: keys[key] ?? key, maxRetries: 0, ...options });
}

function chat(openai, options = {}) {
  return openai.chat.completions.create({ model: "gpt-4o", messages, ...options });
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

test("chat streams the same text as it answers whole, and usage only when asked", async () => {
  const alice = client("alice");
  const whole = await chat(alice);
  assert.match(whole.choices[0].message.content, /Say hello\./);
  assert.ok(whole.usage.total_tokens > whole.usage.completion_tokens);
  const plain = await collect(await chat(alice, { stream: true }));
  assert.equal(textOf(plain), whole.choices[0].message.content);
  // A backend that was asked for usage also writes `"usage": null` into the other chunks; bytes pass as they are.
  assert.ok(plain.every((chunk) => !chunk.usage && chunk.choices.length === 1));
  const asked = await collect(await chat(alice, { stream: true, stream_options: { include_usage: true } }));
  assert.equal(asked.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
  assert.deepEqual(asked.at(-1).choices, []);
});

test("tools are called whole and streamed", async () => {
  const alice = client("alice");
  const tools = [{ type: "function", function: { name: "get_weather", parameters: toolSchema } }];
  const whole = await chat(alice, { tools });
  const call = whole.choices[0].message.tool_calls[0].function;
  assert.equal(call.name, "get_weather");
  assert.deepEqual(Object.keys(JSON.parse(call.arguments)).sort(), ["city", "unit"]);
  const final = await alice.chat.completions.stream({ model: "gpt-4o", messages, tools }).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.arguments);
});

test("responses work whole and streamed", async () => {
  const alice = client("alice");
  const whole = await alice.responses.create({ model: "gpt-4o", input: "Say hello." });
  assert.match(whole.output_text, /Say hello\./);
  const events = await collect(await alice.responses.create({ model: "gpt-4o", input: "Say hello.", stream: true }));
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1).type, "response.completed");
  const deltas = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
  assert.equal(deltas.join(""), whole.output_text);
  assert.equal(events.at(-1).response.usage.output_tokens, whole.usage.output_tokens);
});

test("embeddings, models, a recording, speech and images work", async () => {
  const alice = client("alice");
  const [embedding] = (await alice.embeddings.create({ ...small, dimensions: 16 })).data;
  assert.equal(embedding.embedding.length, 16);
  assert.ok(Math.abs(Math.hypot(...embedding.embedding) - 1) < 1e-4);
  const ids = async (key) => (await collect(await client(key).models.list())).map((model) => model.id);
  assert.ok((await ids("alice")).includes("claude-opus-4-1"));
  const some = await ids("some-models");
  assert.ok(some.includes("gpt-4o-mini") && !some.includes("claude-opus-4-1"));
  const file = await toFile(Buffer.alloc(1234), "a.mp3", { type: "audio/mpeg" });
  const transcript = await alice.audio.transcriptions.create({ model: "whisper-1", file });
  assert.match(transcript.text, /1234 bytes/);
  const speech = await alice.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Hello." });
  assert.equal(Buffer.from(await speech.arrayBuffer()).subarray(0, 4).toString(), "RIFF");
  const images = await alice.images.generate({ model: "gpt-image-1", prompt: "A cat." });
  assert.equal(Buffer.from(images.data[0].b64_json, "base64").subarray(1, 4).toString(), "PNG");
});

test("azure works with the deployment in the path", async () => {
  const azure = new AzureOpenAI({ endpoint: url, apiKey: keys.alice, apiVersion: "2024-10-21", maxRetries: 0 });
  const whole = await chat(azure);
  assert.equal(textOf(await collect(await chat(azure, { stream: true }))), whole.choices[0].message.content);
});

test("refusals are the SDK's own errors", async () => {
  await assert.rejects(chat(client("sk-wrong-0123456789")), (error) => {
    return error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key";
  });
  await assert.rejects(chat(client("expired")), (error) => {
    return error instanceof OpenAI.AuthenticationError && /expired/.test(error.message);
  });
  await assert.rejects(chat(client("some-models"), { model: "claude-opus-4-1" }), (error) => {
    return error instanceof OpenAI.PermissionDeniedError && error.code === "model_not_allowed";
  });
  await assert.rejects(chat(client("elsewhere")), OpenAI.PermissionDeniedError);
  await assert.rejects(client("chat-only").embeddings.create(small), OpenAI.PermissionDeniedError);
  await assert.rejects(chat(client("alice"), { model: "no-such-model" }), OpenAI.NotFoundError);
  await assert.rejects(chat(client("alice"), { model: "sandbox-error-500" }), OpenAI.InternalServerError);
});

test("requests over the rate are refused with the time to wait, and waited for", async () => {
  const seen = [];
  const hasty = client("rpm-node-openai");
  const patient = client("rpm-node-openai", { maxRetries: 2, fetch: noting(seen) });
  await burn("/v1/embeddings", "rpm-node-openai", small);
  const refused = await firstRefusal(() => hasty.embeddings.create(small));
  assert.ok(refused instanceof OpenAI.RateLimitError && refused.code === "rate_limit_exceeded");
  assert.equal(refused.headers.get("retry-after"), "1");
  await assertWaits(seen, () => patient.embeddings.create(small));
});

test("a spent quota is not retried", async () => {
  const seen = [];
  await assert.rejects(chat(client("quota-node-openai", { maxRetries: 2, fetch: noting(seen) })), (error) => {
    return error instanceof OpenAI.RateLimitError && error.code === "insufficient_quota";
  });
  assert.deepEqual(seen.map(({ status }) => status), [429]);
});

test("a broken stream rejects after what came", async () => {
  const chunks = [];
  await assert.rejects(async () => {
    for await (const chunk of await chat(client("alice"), { model: "sandbox-cut", stream: true })) chunks.push(chunk);
  });
  assert.ok(chunks.length > 0);
});

test("a slow backend meets the client's own timeout", async () => {
  await assert.rejects(chat(client("alice", { timeout: 300 }), { model: "sandbox-slow" }), OpenAI.APIConnectionTimeoutError);
});
