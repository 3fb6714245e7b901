//! HAProxy and nginx as plain proxies: one thread, connections kept on both sides, no log, no policy. And HAProxy with what of our policies it has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::guard::descriptor_limit;

/// What gives both.
pub const INSTALL: &str = "apt-get install haproxy nginx-light";

/// Where a program is, if it is.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Daemons may be where only an administrator's PATH leads.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Proxied connections that the descriptors are enough for.
fn most_connections() -> usize {
    descriptor_limit().saturating_sub(200) / 2
}

/// What HAProxy can be told of a key's policy: digests of keys that are let in, models, addresses, and requests a minute of each key. It
/// needs the whole body for that, and counts no tokens. `keys` is a map of digests to names.
fn rules(keys: &Path) -> String {
    format!(
        "    option http-buffer-request
    stick-table type string len 64 size 200k expire 10m store http_req_rate(60s)
    http-request set-var(txn.key) http_auth_bearer,sha2(256),hex,lower,map_str({keys})
    http-request deny deny_status 401 unless {{ var(txn.key) -m found }}
    http-request deny deny_status 403 unless {{ src 10.0.0.0/8 192.168.0.0/16 127.0.0.0/8 ::1 }}
    http-request set-var(txn.model) req.body,json_query('$.model')
    http-request deny deny_status 403 unless {{ var(txn.model) -m str o3-mini }} || {{ var(txn.model) -m beg text-embedding-3- gpt-4o }}
    http-request track-sc0 var(txn.key)
    http-request deny deny_status 429 if {{ sc0_http_req_rate gt 1000000000 }}
    http-request set-header authorization \"Bearer upstream-credential-of-the-bench\"
",
        keys = keys.display()
    )
}

/// A plain proxy, or one with [`rules`] for `keys`.
pub fn haproxy_configuration(listen: SocketAddr, backend: SocketAddr, keys: Option<&Path>) -> String {
    format!(
        "global
    nbthread 1
    maxconn {most}
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
frontend clients
    bind {listen} backlog 4096
{rules}    default_backend models
backend models
    server one {backend}
",
        most = most_connections(),
        rules = keys.map_or_else(String::new, rules)
    )
}

/// `folder` takes what nginx wants to write. Answers are buffered unless they are streams, requests always: both as nginx does
/// when nothing is said.
pub fn nginx_configuration(listen: SocketAddr, backend: SocketAddr, folder: &Path, is_streaming: bool) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = kinds.map(|kind| format!("    {kind}_temp_path {}/{kind};\n", folder.display())).concat();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
{temporary}    client_max_body_size 64m;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream models {{
        server {backend};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass http://models;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_read_timeout 600s;
            proxy_buffering {buffering};
        }}
    }}
}}
",
        folder = folder.display(),
        connections = most_connections() * 2,
        buffering = if is_streaming { "off" } else { "on" },
    )
}
