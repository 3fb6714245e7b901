//! One client connection, from the moment a worker has it to its end.

mod opening;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::proxy::accept::{Accepted, Place};
use crate::proxy::http1::{End, Gone, Serving};
use crate::proxy::http2;
use crate::proxy::plane::{Plane, Worker};
use crate::proxy::realtime::Door;
use crate::proxy::wire::{Paced, Wire, WireNotes, WireTimes};

pub use self::opening::Line;
use self::opening::{Opened, Protocol, open};

/// Serves one connection to its end.
pub(super) async fn connection(worker: Rc<Worker>, accepted: Accepted, mut draining: watch::Receiver<bool>) {
    let Accepted { stream, peer, place, speaks_http1 } = accepted;
    let notes = WireNotes::new(worker.deadlines.register(), wire_times(&worker.plane));
    let socket = Paced::new(stream, Rc::clone(&notes));
    let opened = match speaks_http1 {
        true => Some(Opened { line: Line::Plain(socket), protocol: Protocol::Http1, start: Vec::new() }),
        false => open(&worker, socket, peer, &notes, &mut draining).await,
    };
    let Some(Opened { line, protocol, start }) = opened else { return };
    match protocol {
        Protocol::Http1 => http1(worker, (start, line), (peer, place), &notes, &mut draining).await,
        Protocol::Http2 => {
            let _place = place;
            http2::serve(&worker, (start, line), peer, &notes, &mut draining).await;
        }
    }
}

/// Serves one HTTP/1 connection; `start` was read from `line` already.
async fn http1(
    worker: Rc<Worker>,
    (start, line): (Vec<u8>, Line),
    (peer, place): (SocketAddr, Place),
    notes: &Rc<WireNotes>,
    draining: &mut watch::Receiver<bool>,
) {
    let wire = Wire::after(start, line, Rc::clone(notes));
    let door = Rc::new(Door::default());
    let pool = Rc::clone(&worker.pool);
    let mut serving = Serving::new(worker, wire, Rc::clone(notes), Rc::clone(&door), peer.ip());
    let (mut told, mut listens) = (false, false);
    let seen = draining.clone();
    let outcome = {
        let mut is_draining = pin!(draining.wait_for(|draining| *draining));
        poll_fn(|cx| {
            // Once it listens, a look is enough.
            let is_news = !std::mem::replace(&mut listens, true) || seen.has_changed().unwrap_or(true);
            if !told && is_news && is_draining.as_mut().poll(cx).is_ready() {
                told = true;
                serving.wind_down();
            }
            // What has arrived is read before it is judged to be late.
            let served = serving.poll(cx);
            pool.turn.relieve();
            match served {
                Poll::Pending if notes.poll_cut(cx).is_ready() => Poll::Ready(Err(())),
                Poll::Pending => notes.poll_unheard(cx).map(|()| Err(())),
                Poll::Ready(ended) => Poll::Ready(ended.map_err(|Gone| ())),
            }
        })
        .await
    };
    match outcome {
        Ok(End::Over) => {
            let Some(wire) = serving.into_wire() else { return };
            go_on(wire, &door, notes, draining).await;
        }
        Ok(End::Moves(elsewhere, stream)) => {
            drop(serving);
            elsewhere.take(stream, peer, place);
        }
        Err(()) => tracing::trace!(%peer, "connection cut"),
    }
}

/// What follows on a connection that was asked to become a websocket: that, or, where it was refused, its end.
async fn go_on(mut wire: Wire<Line>, door: &Door, notes: &WireNotes, draining: &mut watch::Receiver<bool>) {
    if let Some(tunnel) = door.take() {
        let (line, early) = wire.into_tunnel();
        // Boxed, or every connection would carry the room for a websocket.
        Box::pin(tunnel.run(line, early, notes, draining)).await;
    } else if wire.is_tunnel() {
        // Its client could miss the answer.
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
