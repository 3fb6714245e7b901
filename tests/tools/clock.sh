#!/usr/bin/env bash
# The program itself under a wall clock that is stepped by an hour and a day, either way, with libfaketime (Debian: faketime).
#
# Its time has to come by way of the C library, as that of a usual build does not:
#
#   cargo build --features rustix/use-libc && tests/tools/clock.sh [target/debug/keyward]
set -euo pipefail
keyward=$(realpath "${1:-target/debug/keyward}")
library=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1)
home=$(mktemp -d)
cd "$home"
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$home"' EXIT

now=$(date +%s)
at() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }
cat > keyward.toml <<TOML
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
TOML
cat > keys.toml <<TOML
[[keys]]
name = "short"
key = "clock-secret-short"
expires_at = "$(at $((now + 4)))"
[[keys]]
name = "long"
key = "clock-secret-long"
expires_at = "$(at $((now + 1800)))"
rpm_limit = 2
[[keys]]
name = "daily"
key = "clock-secret-daily"
quota_limit = 400
quota_reset = "daily"
TOML

# Starts it with its wall clock so many seconds off; libfaketime reads the file anew each second.
start() {
    rm -f ready
    set_clock "$1"
    LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$home/offset FAKETIME_CACHE_DURATION=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
        "$keyward" serve --config keyward.toml --ready-file ready >/dev/null 2>>log &
    pid=$!
    for _ in $(seq 200); do [ -f ready ] && break; sleep 0.05; done
    data=$(sed 's/.*"data":\["\([^"]*\)".*/\1/' ready)
}
set_clock() { printf '%+d\n' "$1" > offset; }
stop() { kill "$pid"; wait "$pid" || true; }
crash() { kill -KILL "$pid"; wait "$pid" 2>/dev/null || true; }
# Asks with a key, and expects this status.
ask() {
    local got
    got=$(curl -s -o answer -w '%{http_code}' "http://$data/v1/chat/completions" -H "authorization: Bearer $1" \
        -H 'content-type: application/json' -d '{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":20}')
    [ "$got" = "$2" ] || { echo "FAILED: $3: $got instead of $2: $(cat answer)"; grep -v '"request"' log | tail -5; exit 1; }
    echo "ok: $3"
}

start 0
ask clock-secret-short 200 "before its end"
sleep 5
ask clock-secret-short 401 "after its end"
for step in -3600 -86400; do
    set_clock $step; sleep 3
    ask clock-secret-short 401 "set back by $step s while it runs"
done
stop
for step in -3600 -86400; do
    start $step
    ask clock-secret-short 401 "started with a clock that is $step s off"
    ask clock-secret-long 200 "and what has not expired works"
    stop
done
for step in -3600 -86400; do
    start 0
    ask clock-secret-short 401 "started with a clock that is right"
    set_clock $step; sleep 2
    crash
    start $step
    ask clock-secret-short 401 "set back by $step s, killed and started"
    crash
done
start 0
spend() {
    local got=200
    for _ in $(seq 200); do
        [ "$got" = 200 ] || break
        got=$(curl -s -o answer -w '%{http_code}' "http://$data/v1/chat/completions" -H 'authorization: Bearer clock-secret-daily' \
            -H 'content-type: application/json' -d '{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":20}')
    done
}
spend
ask clock-secret-daily 429 "its quota is spent"
for step in 86400 172800; do
    set_clock $step; sleep 3
    ask clock-secret-daily 429 "set forward by $step s it is not given again"
    crash
    start $step
    ask clock-secret-daily 429 "nor after a kill and a start while it is ahead"
    stop
    start $step
    ask clock-secret-daily 429 "nor after an end in order"
    set_clock 0; sleep 3
    ask clock-secret-long 200 "set right, what had expired by it works"
done
stop
start 0
for step in 3600 86400; do
    set_clock $step; sleep 3
    ask clock-secret-long 401 "set forward by $step s it has expired"
    set_clock 0; sleep 3
    ask clock-secret-long 200 "set right, it has not"
done
ask clock-secret-long 429 "its rate has gone on meanwhile, and nothing was free"
sleep 31
ask clock-secret-long 200 "nor is it frozen"
