//! HAProxy and nginx as plain proxies: one thread, connections kept on both sides, no log, no policy.

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

pub fn haproxy_configuration(listen: SocketAddr, backend: SocketAddr) -> String {
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
    default_backend models
backend models
    server one {backend}
",
        most = most_connections()
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
