//! What stands in a path.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use uuid::Uuid;

use crate::admin::native::refused::Refused;
use crate::store::KeyRef;
use crate::units::KeyId;

/// A uuid as it is shown: 36 characters with hyphens, of either case.
pub fn key_id(text: &str) -> Option<KeyId> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36).map(KeyId)
}

/// The `{key_id}` of a path.
#[derive(Debug, Clone, Copy)]
pub struct KeyInPath(pub KeyId);

impl KeyInPath {
    /// The same as the service takes it.
    pub fn key(self) -> KeyRef {
        KeyRef::Id(self.0)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for KeyInPath {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let text: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let loc = vec!["path".into(), "key_id".into()];
        let wrong = || Refused::fault(loc, "uuid_parsing", "Input should be a valid UUID");
        text.ok().and_then(|Path(text)| key_id(&text)).map(Self).ok_or_else(wrong)
    }
}
