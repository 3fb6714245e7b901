//! What a key may do, as flags; from them the body of a call.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::failure::Failure;
use crate::cli::moment::{Way, moment, now};
use crate::policy::{OnDisconnect, QuotaReset};

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What the key may do")]
pub struct Fields {
    /// A model it may ask for, exact or with `*`; may be repeated. None = every model.
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// An endpoint it may call, a path or a group (chat, embeddings, images, audio, models, moderations, realtime, passthrough); may
    /// be repeated.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// Requests per minute.
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens per minute.
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// Requests under way at once.
    #[arg(long, value_name = "N")]
    max_parallel: Option<u64>,
    /// Units in a quota period; a unit is a token where a model has no price.
    #[arg(long, value_name = "UNITS")]
    quota: Option<u64>,
    /// When the quota's use starts again from zero (UTC).
    #[arg(long, value_name = "PERIOD", value_parser = resets())]
    quota_reset: Option<String>,
    /// An address or a network (CIDR) it may be used from; may be repeated. None = anywhere.
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<String>,
    /// When it ends: in 30d, 12h or 2w, on a date (its first moment, UTC), at an RFC 3339 moment, or `never`.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// The organisation that pays.
    #[arg(long, value_name = "ORG_ID")]
    org: Option<String>,
    /// The team that pays.
    #[arg(long, value_name = "TEAM_ID")]
    team: Option<String>,
    /// Serve it from the built-in backend, unbilled.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sandbox: Option<bool>,
    /// What happens upstream when the client goes amid an answer.
    #[arg(long, value_name = "WHAT", value_parser = departures())]
    on_disconnect: Option<String>,
    /// A note of your own; may be repeated, up to 16.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

fn resets() -> clap::builder::PossibleValuesParser {
    QuotaReset::ALL.map(QuotaReset::as_str).into()
}

fn departures() -> clap::builder::PossibleValuesParser {
    OnDisconnect::ALL.map(OnDisconnect::as_str).into()
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// What can be set back to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Clearable {
    Model,
    Endpoint,
    Rpm,
    Tpm,
    MaxParallel,
    Quota,
    QuotaReset,
    Ip,
    Expires,
    Org,
    Team,
    OnDisconnect,
    Metadata,
}

impl Clearable {
    /// Its name in the API.
    fn field(self) -> &'static str {
        match self {
            Self::Model => "models_allowed",
            Self::Endpoint => "endpoints_allowed",
            Self::Rpm => "rpm_limit",
            Self::Tpm => "tpm_limit",
            Self::MaxParallel => "max_parallel",
            Self::Quota => "quota_limit",
            Self::QuotaReset => "quota_reset",
            Self::Ip => "allowed_ips",
            Self::Expires => "expires_at",
            Self::Org => "org_id",
            Self::Team => "team_id",
            Self::OnDisconnect => "on_disconnect",
            Self::Metadata => "metadata",
        }
    }
}

impl Fields {
    /// The members of the fields that are given.
    pub fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        let mut set = |field: Clearable, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(field.field().to_owned(), value);
            }
        };
        let list = |values: &[String]| (!values.is_empty()).then(|| json!(values));
        set(Clearable::Model, list(&self.model));
        set(Clearable::Endpoint, list(&self.endpoint));
        set(Clearable::Rpm, self.rpm.map(Value::from));
        set(Clearable::Tpm, self.tpm.map(Value::from));
        set(Clearable::MaxParallel, self.max_parallel.map(Value::from));
        set(Clearable::Quota, self.quota.map(Value::from));
        set(Clearable::QuotaReset, self.quota_reset.clone().map(Value::from));
        set(Clearable::Ip, list(&self.ip));
        set(Clearable::Expires, self.expires.as_deref().map(expiry).transpose()?);
        set(Clearable::Org, self.org.clone().map(Value::from));
        set(Clearable::Team, self.team.clone().map(Value::from));
        set(Clearable::OnDisconnect, self.on_disconnect.clone().map(Value::from));
        let pairs = self.metadata.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        set(Clearable::Metadata, (!self.metadata.is_empty()).then(|| Value::Object(pairs.collect())));
        if let Some(is_sandbox) = self.sandbox {
            body.insert("is_sandbox".to_owned(), is_sandbox.into());
        }
        Ok(body)
    }

    /// The same, and null for each of `cleared`.
    pub fn body_with(&self, cleared: &[Clearable]) -> Result<Map<String, Value>, Failure> {
        let mut body = self.body()?;
        for field in cleared {
            if body.insert(field.field().to_owned(), Value::Null).is_some_and(|value| !value.is_null()) {
                let name = field.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
                return Err(Failure::NotInOrder(format!("--{name} and --clear {name} exclude each other")));
            }
        }
        Ok(body)
    }
}

fn expiry(text: &str) -> Result<Value, Failure> {
    if text == "never" {
        return Ok(Value::Null);
    }
    match moment(text, Way::Ahead, now()) {
        Ok(moment) => Ok(Value::from(moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        Err(why) => Err(Failure::NotInOrder(format!("--expires {why}, or never"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        fields: Fields,
    }

    fn body(arguments: &[&str], cleared: &[Clearable]) -> Result<Value, Failure> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).expect("arguments");
        line.fields.body_with(cleared).map(Value::Object)
    }

    #[test]
    fn every_flag_becomes_the_member_of_its_name() {
        let line = [
            "--model=gpt-4o*",
            "--model=o3",
            "--endpoint=chat",
            "--rpm=60",
            "--tpm=9",
            "--max-parallel=2",
            "--quota=5",
            "--quota-reset=daily",
            "--ip=10.0.0.0/8",
            "--expires=2027-01-01",
            "--org=o",
            "--team=t",
            "--sandbox",
            "--on-disconnect=drain",
            "--metadata=a=b=c",
            "--metadata=d=",
        ];
        let expected = json!({
            "models_allowed": ["gpt-4o*", "o3"], "endpoints_allowed": ["chat"], "rpm_limit": 60, "tpm_limit": 9,
            "max_parallel": 2, "quota_limit": 5, "quota_reset": "daily", "allowed_ips": ["10.0.0.0/8"],
            "expires_at": "2027-01-01T00:00:00Z", "org_id": "o", "team_id": "t", "is_sandbox": true,
            "on_disconnect": "drain", "metadata": {"a": "b=c", "d": ""},
        });
        assert_eq!(body(&line, &[]), Ok(expected));
        assert_eq!(body(&[], &[]), Ok(json!({})));
        assert_eq!(
            body(&["--sandbox=false", "--expires=never"], &[]),
            Ok(json!({"is_sandbox": false, "expires_at": null}))
        );
    }

    #[test]
    fn what_is_cleared_is_null_and_not_set_at_once() {
        assert_eq!(body(&[], Clearable::value_variants()).map(|v| v.as_object().map(Map::len)), Ok(Some(13)));
        assert_eq!(body(&["--rpm=1"], &[Clearable::Tpm]), Ok(json!({"rpm_limit": 1, "tpm_limit": null})));
        assert!(body(&["--rpm=1"], &[Clearable::Rpm]).is_err());
        assert!(body(&["--expires=soon"], &[]).is_err());
    }
}
