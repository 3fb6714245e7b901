//! What is said to a caller that is refused, in FastAPI's shape.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::operators::LoginRefused;
use crate::admin::service::ServiceFault;

/// A call that is refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// With one sentence.
    Said(StatusCode, String),
    /// With every fault of what was sent (422).
    Faults(Vec<Fault>),
    /// Too many failed logins (429).
    Throttled {
        /// Seconds.
        retry_after_s: u64,
    },
}

/// One sentence.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusal)]
pub struct Detail {
    /// What is wrong.
    detail: String,
}

/// Every fault of what was sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HTTPValidationError)]
pub struct Details {
    /// Each of them.
    detail: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ValidationError)]
pub struct Fault {
    /// Where: `body`, `query`, `path` or `header`, then names and places.
    pub loc: Vec<Loc>,
    /// In words.
    pub msg: String,
    /// By name, as pydantic names it.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// A step on the way to what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Loc {
    /// A member.
    Name(String),
    /// A place in a list.
    At(usize),
}

impl From<&str> for Loc {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for Loc {
    fn from(at: usize) -> Self {
        Self::At(at)
    }
}

impl Fault {
    /// Where it is, joined by dots.
    pub fn loc_text(&self) -> String {
        let steps = self.loc.iter().map(|step| match step {
            Loc::Name(name) => name.clone(),
            Loc::At(at) => at.to_string(),
        });
        steps.collect::<Vec<_>>().join(".")
    }
}

impl Refused {
    /// With one sentence.
    pub fn said(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self::Said(status, sentence.into())
    }

    /// For one fault.
    pub fn fault(loc: Vec<Loc>, kind: &'static str, msg: impl Into<String>) -> Self {
        Self::Faults(vec![Fault { loc, msg: msg.into(), kind }])
    }
}

impl From<LoginRefused> for Refused {
    fn from(refused: LoginRefused) -> Self {
        match refused {
            LoginRefused::Unknown => Self::said(StatusCode::UNAUTHORIZED, "Invalid or missing admin token"),
            LoginRefused::Throttled { retry_after_s } => Self::Throttled { retry_after_s },
        }
    }
}

impl From<ServiceFault> for Refused {
    fn from(fault: ServiceFault) -> Self {
        let status = match &fault {
            ServiceFault::NotFound => StatusCode::NOT_FOUND,
            ServiceFault::ReadOnlyToken | ServiceFault::Bound | ServiceFault::Outside { .. } => StatusCode::FORBIDDEN,
            ServiceFault::DeclaredByFile
            | ServiceFault::Overtaken
            | ServiceFault::SecretTaken
            | ServiceFault::TooManySecrets
            | ServiceFault::CallKeyReused => StatusCode::CONFLICT,
            ServiceFault::Stale => StatusCode::PRECONDITION_FAILED,
            ServiceFault::SecretMistyped | ServiceFault::SecretMalformed => {
                return Self::fault(vec!["body".into(), "key".into()], "value_error", fault.to_string());
            }
            ServiceFault::CallKeyMalformed => {
                let loc = vec!["header".into(), "Idempotency-Key".into()];
                return Self::fault(loc, "value_error", fault.to_string());
            }
            ServiceFault::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ServiceFault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::said(status, fault.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Said(status, detail) => {
                let mut response = (status, Json(Detail { detail })).into_response();
                if status == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                response
            }
            Self::Faults(detail) => (StatusCode::UNPROCESSABLE_ENTITY, Json(Details { detail })).into_response(),
            Self::Throttled { retry_after_s } => {
                let detail = format!("Too many failed logins; try again in {retry_after_s} s");
                let after = [(header::RETRY_AFTER, retry_after_s.to_string())];
                (StatusCode::TOO_MANY_REQUESTS, after, Json(Detail { detail })).into_response()
            }
        }
    }
}
