//! The line between two processes: words, each whole, some with a socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// The version of what is spoken here.
pub const VERSION: u32 = 1;

/// The longest word, bytes.
const LONGEST: usize = 64 * 1024;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The new process: its configuration is in order.
    Hello(u32),
    /// The old one: a socket that listens goes with this, and this is its label.
    Socket(String),
    /// The old one: that were all.
    Sockets,
    /// The new one: it has what it can have without the store.
    LetGo,
    /// The old one: units it holds of keys' quotas.
    Held(Vec<(uuid::Uuid, u64)>),
    /// The old one: store and folder are nobody's.
    Gone,
    /// The new one: it is about to accept.
    Serving,
}

/// One end of it.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl Line {
    /// A line, and its other end for a process that is to be started.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The line that this process has been started with.
    ///
    /// # Errors
    /// Its standard input is none.
    pub fn of_stdin() -> io::Result<Self> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        if socket_type(&end).ok() != Some(SocketType::SEQPACKET) {
            let what = "standard input is no line to another keyward";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self(end))
    }

    /// Says a word, perhaps with a socket.
    ///
    /// # Errors
    /// Nobody hears it.
    pub fn say(&self, word: &Word, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let sockets = socket.map(|socket| [socket]);
        if let Some(sockets) = &sockets {
            beside.push(SendAncillaryMessage::ScmRights(sockets));
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next word, with its socket if it has one.
    ///
    /// # Errors
    /// None within `patience`, or the other end is gone, or it is no word.
    pub fn hear(&self, patience: Duration) -> io::Result<(Word, Option<OwnedFd>)> {
        match self.receive(Some(patience))? {
            Some((text, socket)) => {
                let word = serde_json::from_slice(&text)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("an unknown word: {error}")))?;
                Ok((word, socket))
            }
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has ended")),
        }
    }

    /// Waits until the other process is gone.
    pub fn until_gone(&self) {
        while let Ok(Some(_)) = self.receive(None) {}
    }

    fn receive(&self, patience: Option<Duration>) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        set_socket_timeout(&self.0, Timeout::Recv, patience)?;
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                other => break other?,
            }
        };
        text.truncate(received.bytes);
        let sockets = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let socket = sockets.flatten().next();
        Ok((received.bytes > 0).then_some((text, socket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn words_come_whole_and_in_order_and_a_socket_with_its_own() {
        let (ours, theirs) = Line::new().unwrap();
        let theirs = Line(theirs);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        ours.say(&Word::Hello(VERSION), None).unwrap();
        ours.say(&Word::Socket("a".to_owned()), Some(listener.as_fd())).unwrap();
        ours.say(&Word::Gone, None).unwrap();
        assert!(matches!(theirs.hear(SOON).unwrap(), (Word::Hello(VERSION), None)));
        let (word, socket) = theirs.hear(SOON).unwrap();
        assert_eq!(word, Word::Socket("a".to_owned()));
        let found = std::net::TcpListener::from(socket.unwrap());
        assert_eq!(found.local_addr().unwrap(), listener.local_addr().unwrap());
        assert!(matches!(theirs.hear(SOON).unwrap(), (Word::Gone, None)));
        let late = theirs.hear(Duration::from_millis(10)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        drop(ours);
        assert_eq!(theirs.hear(SOON).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        theirs.until_gone();
    }

    #[test]
    fn what_is_no_word_is_an_error() {
        let (ours, theirs) = Line::new().unwrap();
        sendmsg(&theirs, &[IoSlice::new(b"shutdown")], &mut SendAncillaryBuffer::default(), SendFlags::empty())
            .unwrap();
        assert_eq!(ours.hear(SOON).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
