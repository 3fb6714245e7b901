#!/usr/bin/env bash
# Tools that anyone can install, against the program under TLS: `h2load` (Debian's nghttp2-client) sends 100,000 requests over HTTP/2, of
# which none may fail; `sslyze` (PyPI) looks at the TLS of both listeners, and finds nothing against Mozilla's intermediate profile with the
# defaults, and nothing against its modern one with tls_min_version = "1.3". Installs what is missing: with apt as root, below target/ otherwise. KEYWARD names a program that is built already.
set -euo pipefail
cd "$(dirname "$0")/../.."

keyward=${KEYWARD:-}
if [ -z "$keyward" ]; then
    cargo build --release --locked
    keyward=target/release/keyward
fi
keyward=$(realpath "$keyward")
if ! command -v h2load >/dev/null; then
    [ "$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq nghttp2-client >/dev/null
fi
tools=target/tls-tools
if [ ! -x $tools/bin/sslyze ]; then
    python3 -m venv $tools && $tools/bin/pip install -q 'sslyze>=6,<7'
fi

home=$(mktemp -d)
trap 'kill "${program:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$home"' EXIT
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${ec[@]}" -days 90 -subj '/CN=Test authority' -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$home/ca.key" -out "$home/ca.pem" 2>/dev/null
openssl req "${ec[@]}" -subj /CN=localhost -keyout "$home/key.pem" -out "$home/csr.pem" 2>/dev/null
printf '%s\n' subjectAltName=DNS:localhost basicConstraints=CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=serverAuth \
    authorityKeyIdentifier=keyid >"$home/extensions"
openssl x509 -req -in "$home/csr.pem" -CA "$home/ca.pem" -CAkey "$home/ca.key" -CAcreateserial -days 90 -extfile "$home/extensions" \
    -out "$home/cert.pem" 2>/dev/null

printf '[[keys]]\nname = "load"\nkey = "load-secret-0001"\n' >"$home/keys.toml"

# start VERSION: with that as the oldest that is spoken; sets the ports `data` and `admin`.
start() {
    cat >"$home/keyward.toml" <<TOML
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
tls = { cert = "cert.pem", key = "key.pem" }
tls_min_version = "$1"
[admin]
listen = "127.0.0.1:0"
tls = { cert = "cert.pem", key = "key.pem" }
tls_min_version = "$1"
[[upstreams]]
name = "built-in"
dialect = "sandbox"
models = ["*"]
TOML
    rm -f "$home/ready"
    KEYWARD_LOG=warn "$keyward" serve --config "$home/keyward.toml" --ready-file "$home/ready" >"$home/token" 2>"$home/log" &
    program=$!
    for _ in $(seq 100); do [ -s "$home/ready" ] && break; sleep 0.1; done
    data=$(port data) admin=$(port admin)
}
port() { python3 -c "import json,sys; r=json.load(open('$home/ready')); a=r['$1']; print((a if isinstance(a,str) else a[0]).rsplit(':',1)[1])"; }

# look PROFILE: sslyze at both listeners, by that profile of Mozilla's.
look() {
    for listener in data admin; do
        echo "== sslyze: the $listener listener, by Mozilla's $1 profile"
        $tools/bin/sslyze --mozilla_config="$1" --certinfo_ca_file "$home/ca.pem" "localhost:${!listener}" >"$home/sslyze" 2>&1 || {
            cat "$home/sslyze"
            exit 1
        }
        sed -n '/COMPLIANCE/,$p' "$home/sslyze"
    done
}

start 1.2
echo "== h2load: ${REQUESTS:=100000} requests over TLS and HTTP/2"
printf '{"model":"m","messages":[{"role":"user","content":"Hello"}]}' >"$home/body"
h2load -n "$REQUESTS" -c 20 -m 50 -t 1 -d "$home/body" -H 'authorization: Bearer load-secret-0001' -H 'content-type: application/json' \
    "https://localhost:$data/v1/chat/completions" >"$home/h2load"
grep -E "^(finished|requests|status codes|TLS Protocol|Application protocol|traffic)" "$home/h2load"
grep -q "^requests: $REQUESTS total, $REQUESTS started, $REQUESTS done, $REQUESTS succeeded, 0 failed, 0 errored, 0 timeout" "$home/h2load"
grep -q "^status codes: $REQUESTS 2xx" "$home/h2load"
grep -q "^Application protocol: h2" "$home/h2load"

look intermediate
kill "$program" && wait "$program"
start 1.3
look modern
