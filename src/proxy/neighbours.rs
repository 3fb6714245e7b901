//! The other workers, as one of them sees them: a connection that waits for its next request may go to one that is less busy. What it speaks is
//! known and nothing of it is under way, so that all there is to hand over is the socket; where what a client sends stands in TLS there is more, and
//! it stays.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};

use crate::listen::Loose;
use crate::proxy::accept::{Handed, Place, Seat};
use crate::proxy::plane::Load;
use crate::proxy::seating;

/// All workers. Knowing them keeps none of them: they end when the acceptor hands nothing over any more.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// Which of them this is to.
    own: usize,
    all: Arc<[Neighbour]>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Neighbour {
    hand: WeakUnboundedSender<Handed>,
    load: Arc<Load>,
}

/// Where a connection may go.
#[derive(Debug)]
pub(super) struct Elsewhere {
    hand: UnboundedSender<Handed>,
    load: Arc<Load>,
}

impl Neighbours {
    /// Those in `seats`, as each of them sees them.
    pub(super) fn of(seats: &[Seat]) -> Vec<Self> {
        let all = seats.iter().map(|seat| Neighbour { hand: seat.hand.downgrade(), load: Arc::clone(&seat.load) });
        let all: Arc<[Neighbour]> = all.collect();
        (0..seats.len()).map(|own| Self { own, all: Arc::clone(&all) }).collect()
    }

    /// What this one has to do, for all to see.
    pub(super) fn own_load(&self) -> Option<&Load> {
        self.all.get(self.own).map(|neighbour| &*neighbour.load)
    }

    /// How busy this one, all on average and the least busy are, in cores.
    pub(super) fn busy(&self, now_ns: u64) -> (f64, f64, f64) {
        let busy = |neighbour: &Neighbour| neighbour.load.standing(now_ns).busy();
        let own = self.all.get(self.own).map_or(0.0, busy);
        let (sum, least) = self.all.iter().map(busy).fold((0.0, own), |(sum, least), one| (sum + one, least.min(one)));
        (own, sum / self.all.len().max(1) as f64, least)
    }

    /// The least busy of them, unless that is this one or takes nothing any more.
    pub(super) fn elsewhere(&self, now_ns: u64) -> Option<Elsewhere> {
        let place = seating::least_busy(self.all.iter().map(|neighbour| neighbour.load.standing(now_ns)))?;
        let Neighbour { hand, load } = self.all.get(place).filter(|_| place != self.own)?;
        Some(Elsewhere { hand: hand.upgrade()?, load: Arc::clone(load) })
    }
}

impl Elsewhere {
    /// Hands a connection over, which speaks HTTP/1 and is between two requests.
    pub(super) fn take(self, stream: Loose, peer: SocketAddr, mut place: Place) {
        place.move_to(&self.load);
        // A worker that takes nothing has died, and the program ends: the connection with it.
        let _ = self.hand.send(Handed { stream, peer, place, speaks_http1: true });
    }
}
