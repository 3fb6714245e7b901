//! One client connection, from the moment a worker has it to its end.

mod opening;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::proxy::accept::Accepted;
use crate::proxy::carrier::Carrier;
use crate::proxy::handle::handle;
use crate::proxy::http2;
use crate::proxy::plane::{Plane, Worker};
use crate::proxy::realtime::Door;
use crate::proxy::wire::head::{MAX_HEADERS, MAX_HEADERS_BYTES};
use crate::proxy::wire::{Paced, Wire, WireNotes, WireTimes};

use self::opening::{Line, Opened, Protocol, open};

/// Serves one connection to its end.
pub(super) async fn connection(worker: Rc<Worker>, accepted: Accepted, mut draining: watch::Receiver<bool>) {
    let Accepted { stream, peer, _place } = accepted;
    let notes = WireNotes::new(worker.deadlines.register(), wire_times(&worker.plane));
    let socket = Paced::new(stream, Rc::clone(&notes));
    let Some(opened) = open(&worker, socket, peer, &notes, &mut draining).await else { return };
    let Opened { line, protocol, start } = opened;
    match protocol {
        Protocol::Http1 => http1(worker, (start, line), peer, &notes, &mut draining).await,
        Protocol::Http2 => http2::serve(&worker, (start, line), peer, &notes, &mut draining).await,
    }
}

/// Serves one HTTP/1 connection; `start` was read from `line` already.
async fn http1(
    worker: Rc<Worker>,
    (start, line): (Vec<u8>, Line),
    peer: SocketAddr,
    notes: &Rc<WireNotes>,
    draining: &mut watch::Receiver<bool>,
) {
    let io = TokioIo::new(Wire::after(start, line, Rc::clone(notes)));
    let door = Rc::new(Door::default());
    let service = service_fn(|request| {
        let carrier = Carrier::Connection(Rc::clone(notes));
        let answering = handle(Rc::clone(&worker), carrier, peer.ip(), Some(Rc::clone(&door)), request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut builder = Builder::new();
    // The wire has checked the limits already; hyper's own must not be the tighter ones. No `pipeline_flush`: it buffers answers
    // without bound, and holds back the first bytes of one while the next request waits.
    builder.half_close(false).max_headers(MAX_HEADERS + 1).max_buf_size(MAX_HEADERS_BYTES * 2);
    let mut serving = builder.serve_connection(io, service);
    let mut told = false;
    let outcome = {
        let mut is_draining = pin!(draining.wait_for(|draining| *draining));
        poll_fn(|cx| {
            if !told && is_draining.as_mut().poll(cx).is_ready() {
                told = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
            // What has arrived is read before it is judged to be late.
            match Pin::new(&mut serving).poll(cx) {
                Poll::Pending if notes.poll_cut(cx).is_ready() => Poll::Ready(Err(())),
                Poll::Pending => notes.poll_unheard(cx).map(|()| Err(())),
                // A client that had not taken even the 101 will never have it: hyper does not keep what it could not write.
                Poll::Ready(Ok(())) if door.is_open() && notes.is_stalled() => Poll::Ready(Err(())),
                Poll::Ready(ended) => {
                    Poll::Ready(ended.map_err(|error| tracing::debug!(%error, "client connection ended")))
                }
            }
        })
        .await
    };
    if outcome.is_err() {
        tracing::trace!(%peer, "connection cut");
        return;
    }
    go_on(serving.into_parts().io.into_inner(), &door, notes, draining).await;
}

/// What follows on a connection that was asked to become a websocket: that, or, where it was refused, its end.
async fn go_on(mut wire: Wire<Line>, door: &Door, notes: &WireNotes, draining: &mut watch::Receiver<bool>) {
    if let Some(tunnel) = door.take() {
        let (line, early) = wire.into_tunnel();
        // Boxed, or every connection would carry the room for a websocket.
        Box::pin(tunnel.run(line, early, notes, draining)).await;
    } else if wire.is_tunnel() {
        // hyper leaves such a connection as it is, and its client could miss the answer.
        let mut closing = pin!(wire.shutdown());
        let _ = poll_fn(|cx| match notes.poll_cut(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => closing.as_mut().poll(cx),
        })
        .await;
    }
}

fn wire_times(plane: &Plane) -> WireTimes {
    let settings = &plane.live.load().settings;
    let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    WireTimes {
        head_ns: ns(settings.header_timeout),
        keep_alive_ns: ns(settings.keep_alive_timeout),
        write_stall_ns: ns(settings.write_stall_timeout),
    }
}
