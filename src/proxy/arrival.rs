//! A connection's arrival at its worker: who it is from, where a proxy in front tells that with the PROXY protocol.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::listen::Stream;
use crate::proxy::accept::{Accepted, Handed};
use crate::proxy::plane::Worker;
use crate::proxy::proxy_protocol::{self, Origin, Step};
use crate::telemetry::metrics::Reason;

/// Bytes asked for at once; most headers are shorter.
const PIECE: usize = 256;

/// Takes a connection in; `None` when it is not to be served, which is counted.
pub(super) async fn arrive(worker: &Worker, handed: Handed) -> Option<Accepted> {
    let Handed { stream, peer, mut place, speaks_http1 } = handed;
    let mut stream = stream.settle().ok()?;
    let (is_told, patience) = {
        let settings = &worker.plane.live.load().settings;
        (settings.proxy_protocol, settings.header_timeout)
    };
    if speaks_http1 || !is_told {
        return Some(Accepted { stream, peer, place, speaks_http1 });
    }
    let refuse = |reason| worker.plane.metrics.connections_refused.get_or_create(&Reason { reason }).inc();
    let origin = match timeout(patience, origin(&mut stream)).await {
        Ok(Ok(origin)) => origin,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no PROXY protocol header");
            refuse("proxy_protocol");
            return None;
        }
        Err(_) => {
            refuse("proxy_protocol_too_slow");
            return None;
        }
    };
    let peer = match origin {
        Origin::Address(address) => SocketAddr::new(address.ip().to_canonical(), address.port()),
        Origin::Peer => peer,
    };
    if !place.count_for(peer.ip()) {
        refuse("max_connections_per_client");
        return None;
    }
    Some(Accepted { stream, peer, place, speaks_http1 })
}

/// Reads the header, and leaves what comes after it to the next reader.
async fn origin(stream: &mut Stream) -> io::Result<Origin> {
    let mut bytes = Vec::with_capacity(PIECE);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy_protocol::read(&bytes) {
            Step::Partial => {}
            Step::Whole { length, origin } => {
                stream.unread(bytes.split_off(length));
                return Ok(origin);
            }
            Step::Refused => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
