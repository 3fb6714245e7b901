//! What carries a request: an HTTP/1 connection that is its alone while it runs, or one stream among many of an HTTP/2 connection.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::admission::Caller;
use crate::headers::Headers;
use crate::policy::{DialectName, HeadFlaw};
use crate::proxy::http2::StreamNotes;
use crate::proxy::wire::WireNotes;

/// What a request came by, and its answer leaves by.
#[derive(Debug, Clone)]
pub enum Carrier {
    /// HTTP/1: the whole connection.
    Connection(Rc<WireNotes>),
    /// HTTP/2.
    Stream(Rc<StreamNotes>),
}

impl Carrier {
    /// Why the request with these headers is refused at the edge, and the dialect its path was nearest to.
    pub fn flaw_of(&self, headers: &Headers) -> Option<(HeadFlaw, DialectName)> {
        match self {
            Self::Connection(notes) => notes.flaw_of(headers),
            Self::Stream(stream) => stream.flaw(),
        }
    }

    /// A request has been read whole up to its body: the service's own times apply from here.
    pub fn request_began(&self) {
        match self {
            Self::Connection(notes) => notes.request_began(),
            Self::Stream(stream) => stream.connection().request_began(),
        }
    }

    /// Its answer has ended.
    pub fn request_ended(&self) {
        match self {
            Self::Connection(notes) => notes.request_ended(),
            Self::Stream(stream) => stream.connection().request_ended(),
        }
    }

    /// The answer that runs now ends with the secret it was asked for with, this caller's.
    pub fn watch(&self, caller: Caller) {
        match self {
            Self::Connection(notes) => notes.watch(caller),
            Self::Stream(stream) => stream.watch(caller),
        }
    }

    /// Ready when the peer has taken what it was last offered.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Connection(notes) => notes.poll_room(cx),
            Self::Stream(stream) => stream.connection().poll_room(cx),
        }
    }
}
