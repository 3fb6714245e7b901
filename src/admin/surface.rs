//! What the admin listener serves: every API over one service, and who is let in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::listener::{Bounds, Door};
use crate::admin::operators::{LoginRefused, Operator, Operators};
use crate::admin::service::Service;
use crate::admin::vendors::Vendors;
use crate::admin::{apig, listener, native, newapi, probes};
use crate::listen::Open;
use crate::tls::InForce;

/// What every API of the admin listener is given.
#[derive(Debug, Clone)]
pub struct Surface {
    /// The one writer of keys.
    pub service: Arc<Service>,
    /// Who may log in.
    pub operators: Arc<Operators>,
    /// What the dialects of other vendors are told.
    pub vendors: Arc<Vendors>,
    /// What its listener shakes hands with.
    pub tls: Arc<InForce>,
}

impl Surface {
    /// Whose token this is; failures are counted.
    ///
    /// # Errors
    /// [`LoginRefused`].
    pub fn log_in(&self, token: Option<&[u8]>, address: IpAddr) -> Result<Arc<Operator>, LoginRefused> {
        let found = self.operators.log_in(token, address, self.service.clock().now());
        if found.is_err() && token.is_some() {
            self.service.program().metrics().admin_failed_logins.inc();
        }
        found
    }

    /// How connections come in.
    fn door(&self) -> Door {
        Door { tls: Arc::clone(&self.tls), edge: self.service.program().metrics().edge.clone() }
    }

    /// Every route. They want to know the peer: serve them with [`serve`], or with connect info of their own.
    pub fn router(&self) -> Router {
        // One after the other: what no route has is answered by the native API's fallback.
        native::router(self.clone())
            .merge(apig::router(self.clone()))
            .merge(newapi::router(self.clone()))
            .merge(probes::router(self.service.program().clone()).layer(middleware::from_fn(no_page)))
            .layer(middleware::from_fn_with_state(self.clone(), count))
    }
}

/// Refuses what a page in a browser sends, where no dialect has words of its own for it: also what needs no token is not for a page that was made to
/// reach this listener (SECURITY 4).
pub(in crate::admin) async fn no_page(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "Requests of web pages are refused\n").into_response();
    }
    next.run(request).await
}

/// Counts what was answered, and lets nobody keep it.
async fn count(State(surface): State<Surface>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    // What operators ask about is for them alone, and true for a moment.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    surface.service.program().metrics().count_admin_answer(response.status().as_u16());
    response
}

/// The peer's address.
pub(in crate::admin) fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical())
}

/// Serves the admin listener until the process ends, but for the time in which `is_open` is `false`.
pub async fn serve(listener: Open, surface: &Surface, is_open: watch::Receiver<bool>) {
    listener::serve(listener, surface.router(), Bounds::default(), surface.door(), is_open).await;
}

/// The same all the time, with other bounds of what connections may cost.
pub async fn serve_within(listener: TcpListener, surface: &Surface, bounds: Bounds) {
    let (_open, is_open) = watch::channel(true);
    listener::serve(Open::Tcp(listener), surface.router(), bounds, surface.door(), is_open).await;
}
