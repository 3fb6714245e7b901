//! What of the bytes that were written to a socket its peer's kernel has not taken.
#![expect(
    unsafe_code,
    reason = "the kernel tells what stands in a socket's queue by an ioctl that no safe crate offers"
)]

use tokio::net::TcpStream;

/// Bytes that were written and that the peer's kernel has not taken; 0 where that cannot be told.
#[cfg(target_os = "linux")]
pub fn untaken(socket: &TcpStream) -> u64 {
    /// `SIOCOUTQ`, which is `TIOCOUTQ` (tcp(7)).
    const OUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: the call writes one C int, which is the output's type, and nothing else.
    let queued = unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<OUTQ, i32>::new()) };
    queued.ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

/// The same, where it cannot be told.
#[cfg(not(target_os = "linux"))]
pub fn untaken(_socket: &TcpStream) -> u64 {
    0
}
