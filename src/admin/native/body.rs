//! A list of every key, sent as it is read: with a million keys it never stands in memory whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use tokio::sync::mpsc;

use crate::admin::native::key::{Key, KeyList};
use crate::admin::native::keys::LARGEST_PAGE;
use crate::admin::native::refused::Refused;
use crate::admin::service::{Caller, KeyListing, ListQuery, ServiceFault};
use crate::admin::surface::Surface;
use crate::store::{KeyFilter, Order, PageFrom};

/// What is sent of it, piece by piece; a fault breaks the answer off, so that it does not look whole.
pub struct Listing(mpsc::Receiver<io::Result<Bytes>>);

/// Whose list it is, and of what.
struct Asked {
    surface: Surface,
    caller: Caller,
    filter: KeyFilter,
}

impl Listing {
    /// Answers with every key that `filter` lets through.
    ///
    /// # Errors
    /// When the first page cannot be read.
    pub async fn start(
        surface: Surface,
        caller: Caller,
        filter: KeyFilter,
        from: PageFrom,
    ) -> Result<Response, Refused> {
        let asked = Asked { surface, caller, filter };
        let first = asked.page(from).await?;
        if first.keys.len() < LARGEST_PAGE {
            let items = first.keys.iter().map(Key::from).collect();
            return Ok(axum::Json(KeyList { items, total: first.total, next_cursor: None }).into_response());
        }
        let (send, receive) = mpsc::channel(2);
        tokio::spawn(async move {
            if let Err(fault) = asked.send_all(first, &send).await {
                // Nobody is told when nobody listens any more.
                let _gone = send.send(Err(fault)).await;
            }
        });
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Ok((kind, Body::new(Self(receive))).into_response())
    }
}

impl Asked {
    async fn page(&self, from: PageFrom) -> Result<KeyListing, ServiceFault> {
        let filter = self.filter.clone();
        let query = ListQuery { filter, order: Order::NewestFirst, from, limit: LARGEST_PAGE };
        self.surface.service.list(&self.caller, query).await
    }

    /// Sends `page` and those after it.
    async fn send_all(&self, mut page: KeyListing, send: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let mut opening = "{\"items\":[";
        while let Some(last) = page.keys.last() {
            let next = PageFrom::After { created_at_ms: last.created_at_ms, number: last.number };
            let is_last = page.keys.len() < LARGEST_PAGE;
            send.send(Ok(render(opening, &page)?)).await.map_err(gone)?;
            opening = ",";
            if is_last {
                break;
            }
            page = self.page(next).await.map_err(io::Error::other)?;
        }
        send.send(Ok(format!("],\"total\":{}}}", page.total).into())).await.map_err(gone)
    }
}

fn render(opening: &str, page: &KeyListing) -> io::Result<Bytes> {
    let mut text = opening.as_bytes().to_vec();
    for (at, key) in page.keys.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &Key::from(key)).map_err(io::Error::other)?;
    }
    Ok(text.into())
}

impl http_body::Body for Listing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(task).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
