//! A refusal in the vendor's words.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::admin::operators::LoginRefused;
use crate::admin::service::ServiceFault;
use crate::admin::vendors::BodyFault;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A parameter, by its name.
    Parameter(String),
    /// No token, or one of nobody.
    Token,
    /// Too many failures; when to come again, seconds.
    Throttled(u64),
    /// The caller may not do this.
    Forbidden,
    /// There is no such application, or the caller may not see it.
    NoApp(String),
    /// There is no such key in the application.
    NoKey(String),
    /// No call has this method.
    NotOffered,
    /// The body is too large.
    TooLarge,
    /// Ours.
    System,
}

impl Refused {
    /// A parameter, by its name.
    pub fn parameter(name: &str) -> Self {
        Self::Parameter(name.to_owned())
    }

    /// The same about the key that the path names.
    pub fn about(self, id: &str) -> Self {
        match self {
            Self::NoKey(_) => Self::NoKey(id.to_owned()),
            other => other,
        }
    }
}

impl From<LoginRefused> for Refused {
    fn from(refused: LoginRefused) -> Self {
        match refused {
            LoginRefused::Unknown => Self::Token,
            LoginRefused::Throttled { retry_after_s } => Self::Throttled(retry_after_s),
        }
    }
}

impl From<BodyFault> for Refused {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::NotJson => Self::parameter("Content-Type"),
            BodyFault::TooLarge => Self::TooLarge,
            BodyFault::Broken => Self::parameter("body"),
        }
    }
}

impl From<ServiceFault> for Refused {
    fn from(fault: ServiceFault) -> Self {
        match fault {
            ServiceFault::NotFound => Self::NoKey(String::new()),
            ServiceFault::ReadOnlyToken
            | ServiceFault::Bound
            | ServiceFault::Outside { .. }
            | ServiceFault::DeclaredByFile => Self::Forbidden,
            ServiceFault::SecretMistyped | ServiceFault::SecretMalformed | ServiceFault::SecretTaken => {
                Self::parameter("ai_api_key")
            }
            // No call here has a condition or an Idempotency-Key, nor rotates.
            ServiceFault::Stale
            | ServiceFault::Overtaken
            | ServiceFault::TooManySecrets
            | ServiceFault::CallKeyMalformed
            | ServiceFault::CallKeyReused
            | ServiceFault::Unavailable(_)
            | ServiceFault::Internal => Self::System,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let see = "Please refer to the support documentation";
        let (status, code, message) = match &self {
            Self::Parameter(name) => {
                let message = format!("Invalid parameter value,parameterName:{name}. {see}");
                (StatusCode::BAD_REQUEST, "APIG.2012", message)
            }
            Self::Token => {
                (StatusCode::UNAUTHORIZED, "APIG.1002", "Incorrect token or token resolution failed".to_owned())
            }
            Self::Throttled(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "APIG.0308", "The throttling threshold has been reached".to_owned())
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "APIG.1005", "No permissions to request this method".to_owned()),
            Self::NotOffered => {
                (StatusCode::METHOD_NOT_ALLOWED, "APIG.1005", "No permissions to request this method".to_owned())
            }
            Self::NoApp(id) => (StatusCode::NOT_FOUND, "APIG.3004", format!("App {id} does not exist")),
            Self::NoKey(id) => (StatusCode::NOT_FOUND, "APIG.3004", format!("AI API key {id} does not exist")),
            Self::TooLarge => {
                let message = format!("Invalid parameter value,parameterName:body. {see}");
                (StatusCode::PAYLOAD_TOO_LARGE, "APIG.2012", message)
            }
            Self::System => (StatusCode::INTERNAL_SERVER_ERROR, "APIG.9999", "System error".to_owned()),
        };
        let mut response = (status, Json(json!({ "error_code": code, "error_msg": message }))).into_response();
        if let Self::Throttled(seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_printed_errors_are_said_as_printed() {
        let app = "9ed8b7fe84224de681e7d7a5587e76dc";
        for (refused, status, body) in [
            (
                Refused::parameter("app_id"),
                400,
                r#"{"error_code":"APIG.2012","error_msg":"Invalid parameter value,parameterName:app_id. Please refer to the support documentation"}"#,
            ),
            (
                Refused::Token,
                401,
                r#"{"error_code":"APIG.1002","error_msg":"Incorrect token or token resolution failed"}"#,
            ),
            (
                Refused::Forbidden,
                403,
                r#"{"error_code":"APIG.1005","error_msg":"No permissions to request this method"}"#,
            ),
            (
                Refused::NoApp(app.to_owned()),
                404,
                r#"{"error_code":"APIG.3004","error_msg":"App 9ed8b7fe84224de681e7d7a5587e76dc does not exist"}"#,
            ),
            (Refused::System, 500, r#"{"error_code":"APIG.9999","error_msg":"System error"}"#),
        ] {
            let response = refused.into_response();
            assert_eq!(response.status(), status);
            let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
            assert_eq!(bytes, body);
        }
        let throttled = Refused::Throttled(3).into_response();
        assert_eq!((throttled.status().as_u16(), &throttled.headers()["retry-after"]), (429, &HeaderValue::from(3)));
    }
}
