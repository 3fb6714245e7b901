// The npm package @anthropic-ai/sdk: what works, what is refused, what is retried.

import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { assertWaits, burn, firstRefusal, keys, noting, toolSchema, url } from "./keyward.mjs";

const model = "claude-haiku-4-5";
const messages = [{ role: "user", content: "Say hello." }];

function client(key, options = {}) {
  return new Anthropic({ baseURL: url, apiKey: keys[key] ?? key, maxRetries: 0, ...options });
}

function say(anthropic, options = {}) {
  return anthropic.messages.create({ model, max_tokens: 64, messages, ...options });
}

test("a message streams the same text as it answers whole", async () => {
  const alice = client("alice");
  const whole = await say(alice);
  assert.match(whole.content[0].text, /Say hello\./);
  const final = await alice.messages.stream({ model, max_tokens: 64, messages }).finalMessage();
  assert.equal(final.content[0].text, whole.content[0].text);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

test("a tool is called whole and streamed", async () => {
  const alice = client("alice");
  const tools = [{ name: "get_weather", input_schema: toolSchema }];
  const whole = await say(alice, { tools });
  assert.equal(whole.stop_reason, "tool_use");
  assert.deepEqual(Object.keys(whole.content[0].input).sort(), ["city", "unit"]);
  const final = await alice.messages.stream({ model, max_tokens: 64, messages, tools }).finalMessage();
  assert.deepEqual(final.content[0].input, whole.content[0].input);
});

test("tokens are counted and the models are those of the key", async () => {
  assert.ok((await client("alice").messages.countTokens({ model, messages })).input_tokens > 0);
  const ids = [];
  for await (const { id } of client("some-models").models.list()) ids.push(id);
  assert.ok(ids.includes(model) && !ids.includes("claude-opus-4-1"));
});

test("refusals are the SDK's own errors", async () => {
  await assert.rejects(say(client("sk-ant-wrong-0123456789")), Anthropic.AuthenticationError);
  await assert.rejects(say(client("expired")), (error) => {
    return error instanceof Anthropic.AuthenticationError && /expired/.test(error.message);
  });
  await assert.rejects(say(client("some-models"), { model: "claude-opus-4-1" }), Anthropic.PermissionDeniedError);
  await assert.rejects(say(client("alice"), { model: "no-such-model" }), Anthropic.NotFoundError);
  await assert.rejects(say(client("alice"), { model: "sandbox-error-500" }), Anthropic.InternalServerError);
});

test("requests over the rate are refused with the time to wait, and waited for", async () => {
  const seen = [];
  const hasty = client("rpm-node-anthropic");
  const patient = client("rpm-node-anthropic", { maxRetries: 2, fetch: noting(seen) });
  await burn("/v1/messages", "rpm-node-anthropic", { model, max_tokens: 1, messages });
  const refused = await firstRefusal(() => say(hasty));
  assert.ok(refused instanceof Anthropic.RateLimitError);
  assert.equal(refused.headers.get("retry-after"), "1");
  await assertWaits(seen, () => say(patient));
});

test("a spent quota is not retried", async () => {
  const seen = [];
  await assert.rejects(say(client("quota-node-anthropic", { maxRetries: 2, fetch: noting(seen) })), Anthropic.RateLimitError);
  assert.deepEqual(seen.map(({ status }) => status), [429]);
});

test("a broken stream rejects after what came", async () => {
  const events = [];
  await assert.rejects(async () => {
    for await (const event of await say(client("alice"), { model: "sandbox-cut", stream: true })) events.push(event);
  });
  assert.ok(events.length > 0);
});
