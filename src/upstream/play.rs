//! Plays what the built-in backend decided: waits where it waits, breaks where it breaks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use tokio::time::{Sleep, sleep};

use crate::headers::AnswerHead;
use crate::policy::Fault;
use crate::upstream::answer::{Answered, BodyBroke, UpstreamBody};
use crate::upstream::sandbox::{self, Ask, End, Frame};

/// The rest of an answer that is being played.
#[derive(Debug)]
pub struct Playing {
    frames: VecDeque<Frame>,
    end: End,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Asks the built-in backend and waits for the first byte of its answer.
///
/// # Errors
/// What an upstream that broke off or never answered gives.
pub async fn send(ask: &Ask<'_>, first_byte_timeout: Duration) -> Result<Answered, (Fault, String)> {
    let play = sandbox::answer(ask);
    let mut frames = VecDeque::from(play.frames);
    match frames.front_mut() {
        Some(first) if first.after > first_byte_timeout => {
            sleep(first_byte_timeout).await;
            return Err((Fault::UpstreamTimeout, "the sandbox is slow".to_owned()));
        }
        Some(first) if !first.after.is_zero() => sleep(std::mem::take(&mut first.after)).await,
        Some(_) => {}
        None if play.end == End::Hang => {
            sleep(first_byte_timeout).await;
            return Err((Fault::UpstreamTimeout, "the sandbox hangs".to_owned()));
        }
        None if play.end == End::Cut => return Err((Fault::UpstreamBroken, "the sandbox broke off".to_owned())),
        None => {}
    }
    let mut head = AnswerHead { status: play.status, headers: play.headers };
    if let (1, End::Clean, Some(only)) = (frames.len(), play.end, frames.front()) {
        head.headers.insert_number(CONTENT_LENGTH, only.bytes.len() as u64);
    }
    Ok(Answered { head, body: UpstreamBody::Sandbox(Box::new(Playing { frames, end: play.end, waiting: None })) })
}

impl Playing {
    /// The next frame, when its time has come.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroke>>> {
        if let Some(first) = self.frames.front_mut()
            && !first.after.is_zero()
        {
            self.waiting = Some(Box::pin(sleep(std::mem::take(&mut first.after))));
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame.bytes))),
            None => match self.end {
                End::Clean => Poll::Ready(None),
                End::Cut => Poll::Ready(Some(Err(BodyBroke("the sandbox broke off".to_owned())))),
                End::Hang => Poll::Pending,
            },
        }
    }

    /// Whether everything was played and the end is clean.
    pub fn is_ended(&self) -> bool {
        self.frames.is_empty() && self.end == End::Clean
    }
}
