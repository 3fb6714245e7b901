# slowhttptest against a real Keyward: slow heads, slow bodies, slow readers, thousands at once.
# needs: slowhttptest
"""For each attack: how long the server held the attacker that it held longest, by the kernel's own table of sockets (one that is closed and
still has bytes in the kernel for its peer is held), and what a good client noticed meanwhile."""

import http.client
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time

ATTACKERS = int(os.environ.get("ATTACKERS", "4000"))
PORT, ADMIN_PORT = 18470, 18471
KEY = "sk-attack-000000000000000000000001"
TOKEN = "attack-admin-000000000001"
GOOD_P99_MS = 100
# The attackers come from 127.0.0.1.
GOOD_ADDRESS = "127.0.0.2"
# Connections that nobody serves any more, or that hold nothing but a timer of the kernel: TIME_WAIT, FIN_WAIT2, CLOSE, LISTEN.
NOT_HELD = {"06", "05", "07", "0A"}


def configure(folder, per_client):
    """A Keyward before its built-in backend; its list of models is an answer of some size."""
    models = ", ".join(f'"sandbox-model-of-some-length-{n:04}"' for n in range(400))
    with open(f"{folder}/keyward.toml", "w") as file:
        file.write(f"""
keys_file = "keys.toml"
[server]
listen = ["127.0.0.1:{PORT}"]
{per_client}
[admin]
listen = "127.0.0.1:{ADMIN_PORT}"
tokens = [{{ name = "ops", token = "{TOKEN}", role = "write" }}]
[[upstreams]]
name = "built-in"
dialect = "sandbox"
models = [{models}]
""")
    with open(f"{folder}/keys.toml", "w") as file:
        file.write(f'[[keys]]\nname = "good"\nkey = "{KEY}"\n')


def good_client(stop, results):
    """Fifty requests a second, every second one on a connection of its own; what each took, in ms, and how many failed."""
    body = json.dumps({"model": "sandbox-model-of-some-length-0000", "messages": [{"role": "user", "content": "hello"}]})
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    took, failed, kept, count = [], 0, None, 0
    while not stop.is_set():
        began = time.perf_counter()
        count += 1
        try:
            if kept is None or count % 2:
                kept = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10, source_address=(GOOD_ADDRESS, 0))
            kept.request("POST", "/v1/chat/completions", body, headers)
            answer = kept.getresponse()
            answer.read()
            failed += answer.status != 200
        except OSError:
            failed, kept = failed + 1, None
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(max(0.0, 0.02 - (time.perf_counter() - began)))
    results.put((sorted(took), failed))


def held():
    """The other ends of the server's sockets, without those of the good client."""
    port, good = f":{PORT:04X}", "".join(f"{int(part):02X}" for part in reversed(GOOD_ADDRESS.split(".")))
    with open("/proc/net/tcp") as table:
        rows = (line.split() for line in table.readlines()[1:])
        return {row[2] for row in rows if row[1].endswith(port) and row[3] not in NOT_HELD and not row[2].startswith(good)}


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024


def watch(attack, pid, seconds):
    """How long the longest attacker was held, how many there were at once, and the most memory."""
    began, first, longest, most, memory = time.monotonic(), {}, 0.0, 0, 0
    while time.monotonic() - began < seconds:
        now, there = time.monotonic(), held()
        for peer in there:
            longest = max(longest, now - first.setdefault(peer, now))
        for gone in set(first) - there:
            del first[gone]
        most, memory = max(most, len(there)), max(memory, resident(pid))
        if most and not there:
            break
        time.sleep(0.25)
    return longest, most, memory


ATTACKS = {
    "slow heads": (["-H", "-i", "5", "-x", "8"], "/v1/chat/completions", 20),
    "slow bodies": (["-B", "-i", "5", "-x", "8", "-s", "100000", "-f", "application/json"], f"/v1/chat/completions?key={KEY}", 20),
    "slow readers": (["-X", "-n", "5", "-z", "32", "-w", "10", "-y", "512", "-k", "3"], f"/v1/models?key={KEY}", 60),
    "readers that trickle": (["-X", "-n", "1", "-z", "256", "-w", "512", "-y", "1024", "-k", "3"], f"/v1/models?key={KEY}", 60),
}


def run(name, folder, pid):
    options, path, limit = ATTACKS[name]
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    good = multiprocessing.Process(target=good_client, args=(stop, results))
    good.start()
    command = ["slowhttptest", *options, "-c", str(ATTACKERS), "-r", "2000", "-l", "110", "-p", "10", "-u", f"http://127.0.0.1:{PORT}{path}"]
    with open(f"{folder}/{name.replace(' ', '-')}.log", "w") as log:
        attack = subprocess.Popen(command, stdout=log, stderr=log)
        longest, most, memory = watch(attack, pid, 100)
        attack.terminate()
        attack.wait()
    stop.set()
    took, failed = results.get()
    good.join()
    p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
    holds = longest <= limit and p99 <= GOOD_P99_MS and not failed and most >= min(ATTACKERS, 900)
    print(f"{name:22} {most:6} {longest:8.1f} s of {limit:2} {p99:9.1f} ms {took[-1]:8.1f} ms {len(took):6} {failed:6} {memory:6} MB   {'holds' if holds else 'DOES NOT HOLD'}", flush=True)
    return holds


def main():
    print(f"{'attack':22} {'most':>6} {'longest held':>16} {'good p99':>12} {'good max':>11} {'asked':>6} {'failed':>6} {'memory':>9}")
    all_hold = True
    # With the cap for a client raised, the time limits alone stand against them; with the defaults it is the cap first.
    for title, per_client in [
        ("one address may have 10,000 connections", "max_connections_per_client = 10000"),
        ("the defaults, by which one address has 1,000", ""),
    ]:
        print(f"-- {title}")
        with tempfile.TemporaryDirectory() as folder:
            configure(folder, per_client)
            with open(f"{folder}/keyward.log", "w") as log:
                server = subprocess.Popen([os.path.abspath(os.environ["KEYWARD"]), "serve", "--config", f"{folder}/keyward.toml"], cwd=folder, stdout=log, stderr=log)
            try:
                ready = [os.path.abspath(os.environ["KEYWARD"]), "healthcheck", "--wait", "10s", "--admin-url", f"http://127.0.0.1:{ADMIN_PORT}"]
                subprocess.run(ready, check=True, cwd=folder, stdout=subprocess.DEVNULL)
                for name in ATTACKS:
                    all_hold &= run(name, folder, server.pid)
            finally:
                server.terminate()
                server.wait()
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
