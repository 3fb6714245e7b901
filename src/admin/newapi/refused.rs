//! A refusal in the family's words: its English ones where it has any.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::MOST_IN_BATCH;
use crate::admin::operators::LoginRefused;
use crate::admin::service::ServiceFault;
use crate::admin::vendors::BodyFault;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No token, or one of nobody (401).
    Token,
    /// Too many failures (429); when to come again, seconds.
    Throttled(u64),
    /// The caller may not do this (403).
    Forbidden,
    /// No call has this method (405).
    NotOffered,
    /// Something in the body or the query; which and why.
    Invalid(String),
    /// The path names no token.
    InvalidId,
    /// The body names no token.
    NoId,
    /// There is none of this id.
    NotFound,
    /// A name of more than 50 bytes.
    NameTooLong,
    /// No name.
    NameEmpty,
    /// `remain_quota` below zero.
    QuotaNegative,
    /// `remain_quota` beyond what can be counted; the most there can be.
    QuotaExceeds(i64),
    /// It has expired, and is not enabled therefore.
    Expired,
    /// It is exhausted, and is not enabled therefore.
    Exhausted,
    /// A pattern with `%%`.
    PatternRun,
    /// A pattern with more than two `%`.
    PatternMany,
    /// A pattern with fewer than two other characters.
    PatternShort,
    /// More ids than a batch may have.
    BatchTooMany,
    /// What the one writer of keys says.
    Said(ServiceFault),
}

impl Refused {
    /// Something in the body or the query.
    pub fn invalid(why: &str) -> Self {
        Self::Invalid(why.to_owned())
    }

    fn words(&self) -> String {
        let fixed = match self {
            Self::Token => "Unauthorized, invalid access token",
            Self::Throttled(_) => "Too many requests, please try again later",
            Self::Forbidden => "Unauthorized, insufficient privileges",
            Self::NotOffered => "Method not allowed",
            Self::Invalid(why) => return format!("Invalid parameters: {why}"),
            Self::InvalidId => "Invalid ID",
            Self::NoId => "ID is empty!",
            Self::NotFound => "record not found",
            Self::NameTooLong => "Token name is too long",
            Self::NameEmpty => "Name cannot be empty",
            Self::QuotaNegative => "Quota value cannot be negative",
            Self::QuotaExceeds(most) => return format!("Quota value exceeds valid range, maximum is {most}"),
            Self::Expired => {
                "Token has expired and cannot be enabled. Please modify the expiration time or set it to never expire"
            }
            Self::Exhausted => {
                "Token quota is exhausted and cannot be enabled. Please modify the remaining quota or set it to unlimited"
            }
            // The family says these three in one language only.
            Self::PatternRun => "搜索模式中不允许包含连续的 % 通配符",
            Self::PatternMany => "搜索模式中最多允许包含 2 个 % 通配符",
            Self::PatternShort => "使用模糊搜索时，关键词长度至少为 2 个字符",
            Self::BatchTooMany => {
                return format!("Too many items in batch request, maximum is {MOST_IN_BATCH}");
            }
            Self::Said(ServiceFault::Unavailable(_)) => "Database error, please try again later",
            Self::Said(ServiceFault::Internal) => "Operation failed",
            Self::Said(fault) => return fault.to_string(),
        };
        fixed.to_owned()
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
        Self::invalid(match fault {
            BodyFault::NotJson => "the content type is not application/json",
            BodyFault::TooLarge => "the body is larger than 1 MiB",
            BodyFault::Broken => "the body ended too early",
        })
    }
}

impl From<ServiceFault> for Refused {
    fn from(fault: ServiceFault) -> Self {
        match fault {
            ServiceFault::NotFound => Self::NotFound,
            ServiceFault::ReadOnlyToken | ServiceFault::Bound | ServiceFault::Outside { .. } => Self::Forbidden,
            fault => Self::Said(fault),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotOffered => StatusCode::METHOD_NOT_ALLOWED,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::OK,
        };
        let mut response = (status, Json(json!({ "success": false, "message": self.words() }))).into_response();
        if let Self::Throttled(seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreFault;
    use serde_json::Value;

    async fn shown(refused: Refused) -> (u16, Value) {
        let response = refused.into_response();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_told_with_200_and_without_its_own_words() {
        let fault = ServiceFault::Unavailable(StoreFault::Full("/data/keyward.db".to_owned()));
        let expected = json!({"success": false, "message": "Database error, please try again later"});
        assert_eq!(shown(fault.into()).await, (200, expected));
        assert_eq!(shown(ServiceFault::Internal.into()).await.0, 200);
    }

    #[tokio::test]
    async fn only_what_concerns_the_caller_s_token_has_another_status() {
        assert_eq!(shown(LoginRefused::Unknown.into()).await.0, 401);
        assert_eq!(shown(ServiceFault::ReadOnlyToken.into()).await.0, 403);
        assert_eq!(shown(ServiceFault::Outside { field: "org_id" }.into()).await.0, 403);
        let throttled = Refused::from(LoginRefused::Throttled { retry_after_s: 3 }).into_response();
        assert_eq!((throttled.status().as_u16(), &throttled.headers()["retry-after"]), (429, &HeaderValue::from(3)));
        let expected = json!({"success": false, "message": "record not found"});
        assert_eq!(shown(ServiceFault::NotFound.into()).await, (200, expected));
    }
}
