//! Websockets as RFC 6455 writes them: the opening handshake, and the frames that follow it. Pure: headers and bytes in, a verdict out.

pub mod frame;
pub mod handshake;

pub use frame::{Closing, Frames, Item, Mask, Masking, Opcode};
pub use handshake::Offer;
