// Where Keyward listens, its keys, and a fetch that notes each answer it gets.

import assert from "node:assert/strict";

export const url = process.env.KEYWARD_TEST_URL;
export const keys = JSON.parse(process.env.KEYWARD_TEST_KEYS);

export const toolSchema = {
  type: "object",
  properties: { city: { type: "string" }, unit: { type: "string", enum: ["celsius", "fahrenheit"] } },
  required: ["city", "unit"],
};

export function noting(seen) {
  return async (target, options) => {
    const response = await fetch(target, options);
    seen.push({ at: performance.now(), status: response.status, headers: response.headers });
    return response;
  };
}

// Uses up the minute's requests of a key: 60, then one a second.
export async function burn(path, key, body) {
  const headers = { authorization: `Bearer ${keys[key]}`, "content-type": "application/json" };
  for (let count = 0; count < 400; count += 1) {
    const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
    await response.arrayBuffer();
    if (response.status === 429) return;
    if (response.status !== 200) throw new Error(`expected 200 or 429, got ${response.status}`);
  }
  throw new Error("400 requests in a moment met no limit of 60 a minute");
}

// The refusal of a call that is over its rate: on a slow machine a request may have become free meanwhile.
export async function firstRefusal(call) {
  for (let count = 0; count < 10; count += 1) {
    try {
      await call();
    } catch (refused) {
      return refused;
    }
  }
  throw new Error("no call was refused");
}

// Calls until it met a refusal, which the client then retried: no earlier than the refusal asked for, and with success.
export async function assertWaits(seen, call) {
  const wasRefused = () => seen.some(({ status }) => status === 429);
  for (let count = 0; count < 10 && !wasRefused(); count += 1) await call();
  assert.ok(wasRefused());
  assert.equal(seen.at(-1).status, 200);
  seen.slice(1).forEach(({ at }, index) => {
    const before = seen[index];
    if (before.status !== 429) return;
    const asked = Number(before.headers.get("retry-after-ms") ?? 1000 * before.headers.get("retry-after"));
    assert.ok(asked > 0 && asked <= 2000, `asked to wait ${asked} ms`);
    assert.ok(at - before.at >= asked - 50, `waited ${at - before.at} ms of ${asked} ms`);
  });
}
