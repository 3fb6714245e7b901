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
use crate::admin::service::{Caller, KeyListing, ListQuery};
use crate::admin::surface::Surface;
use crate::store::{KeyFilter, Order, PageFrom};

/// What is sent of it, piece by piece; a fault breaks the answer off, so that it does not look whole.
pub struct Listing(mpsc::Receiver<io::Result<Bytes>>);

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
        let ask = |from| ListQuery { filter: filter.clone(), order: Order::NewestFirst, from, limit: LARGEST_PAGE };
        let first = surface.service.list(&caller, ask(from)).await?;
        if first.keys.len() < LARGEST_PAGE {
            let items = first.keys.iter().map(Key::from).collect();
            return Ok(axum::Json(KeyList { items, total: first.total, next_cursor: None }).into_response());
        }
        let (send, receive) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut page = first;
            let mut opening = "{\"items\":[";
            loop {
                let ended = page.keys.len() < LARGEST_PAGE;
                let total = page.total;
                let next = page
                    .keys
                    .last()
                    .map(|key| PageFrom::After { created_at_ms: key.created_at_ms, number: key.number });
                if send.send(render(opening, &page)).await.is_err() {
                    return;
                }
                let Some(next) = next.filter(|_| !ended) else {
                    let _gone = send.send(Ok(format!("],\"total\":{total}}}").into())).await;
                    return;
                };
                opening = ",";
                let ask =
                    ListQuery { filter: filter.clone(), order: Order::NewestFirst, from: next, limit: LARGEST_PAGE };
                page = match surface.service.list(&caller, ask).await {
                    Ok(page) if page.keys.is_empty() => {
                        let _gone = send.send(Ok(format!("],\"total\":{}}}", page.total).into())).await;
                        return;
                    }
                    Ok(page) => page,
                    Err(fault) => {
                        let _gone = send.send(Err(io::Error::other(fault))).await;
                        return;
                    }
                };
            }
        });
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Ok((kind, Body::new(Self(receive))).into_response())
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
