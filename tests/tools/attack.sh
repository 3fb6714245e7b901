#!/usr/bin/env bash
# Attacks a running Keyward with tools anyone can install, beside a good client, and prints a verdict for each; exit code 0 when all hold.
#
#   tests/tools/attack.sh            every program below tests/tools/attack, and tests/tools/tls.sh (h2load, sslyze)
#   tests/tools/attack.sh slow       that one
#   KEYWARD=target/debug/keyward     the binary to attack; without it a release is built
#
# Needs a Rust toolchain and python3 on Linux; the tools are installed with apt-get where they are missing and this is root.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${KEYWARD:-}" ]; then
    cargo build --locked --release
    KEYWARD=target/release/keyward
fi
export KEYWARD

# Each attacker is a connection, and each has two ends on this machine.
ulimit -n "$(ulimit -Hn)"

failed=0
for program in tests/tools/attack/${1:-*}.py; do
    # What a program needs stands in its line "# needs: PACKAGE ...", a tool's name being its Debian package's.
    for tool in $(sed -n 's/^# needs: //p' "$program"); do
        if ! command -v "$tool" >/dev/null; then
            [ "$(id -u)" = 0 ] && apt-get install -y -qq "$tool" >/dev/null || { echo "please install $tool"; exit 2; }
        fi
    done
    echo "== $(basename "$program" .py)"
    python3 "$program" || failed=1
done
if [ $# = 0 ]; then
    echo "== tls"
    tests/tools/tls.sh || failed=1
fi
exit "$failed"
