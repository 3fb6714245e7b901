// Where Keyward listens, its keys, and a fetch that notes each answer it gets.

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

/// Uses up the minute's requests of a key: 60, then one a second.
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

/// One refusal at least, then success, and between two answers no less than what the refusal asked for.
export function waitedAndSucceeded(seen) {
  const statuses = seen.map(({ status }) => status);
  if (seen.length < 2 || statuses.pop() !== 200 || statuses.some((status) => status !== 429)) return false;
  return seen.slice(1).every(({ at }, index) => {
    const before = seen[index];
    const asked = Number(before.headers.get("retry-after-ms") ?? 1000 * before.headers.get("retry-after"));
    return asked > 0 && asked <= 2000 && at - before.at >= asked - 50;
  });
}
