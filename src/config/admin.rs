//! `[admin]`.

use std::collections::HashMap;
use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use crate::admin::settings::{ApigSettings, NewApiSettings};
use crate::admin::{Role, Settings, TokenDigest, TokenSettings};
use crate::config::listen;
use crate::config::raw::{Names, Table};
use crate::config::secret::EXPECTED;
use crate::config::tls;
use crate::listen::Address;
use crate::tls::Protocols;

pub(super) const NAMES: Names =
    &["listen", "socket_mode", "tokens", "apig", "newapi", "tls", "tls_min_version", "client_ca", "client_auth"];

pub(super) const TOKEN_NAMES: Names = &["name", "token", "role", "org_id", "team_id"];

pub(super) const APIG_NAMES: Names = &["apps"];

pub(super) const NEWAPI_NAMES: Names = &["create_returns_data"];

/// Reads the section.
pub(super) fn read(root: &Table<'_>) -> Settings {
    let admin = root.section("admin", NAMES);
    let default = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 8081)));
    let listen = match admin.get("listen") {
        Some(item) => {
            let address = listen::read(&item);
            let is_open = address.as_ref().is_some_and(|address| !address.is_local());
            match admin.has("tls") {
                _ if !is_open => {}
                true => item.warn_unseen("the admin listener can be reached from other machines"),
                false => item.warn_unseen("the admin listener can be reached from other machines, and speaks in clear"),
            }
            address.unwrap_or(default)
        }
        None => default,
    };
    let newapi = admin.section("newapi", NEWAPI_NAMES);
    let create_returns_data = newapi.boolean_or("create_returns_data", NewApiSettings::default().create_returns_data);
    Settings {
        listen,
        socket_mode: listen::read_mode(&admin, 0o600),
        tokens: read_tokens(&admin),
        apig: read_apig(&admin.section("apig", APIG_NAMES)),
        newapi: NewApiSettings { create_returns_data },
        tls: tls::read(&admin, Protocols::Http1),
    }
}

fn read_apig(apig: &Table<'_>) -> ApigSettings {
    let apps = apig.get("apps").map(|item| {
        item.list("a list of applications such as \"project/instance/app\"", |item| {
            item.parsed("an application such as \"project/instance/app\"", ApigSettings::app)
        })
    });
    ApigSettings { apps: apps.unwrap_or_default() }
}

fn read_tokens(admin: &Table<'_>) -> Vec<TokenSettings> {
    let mut tokens: Vec<TokenSettings> = Vec::new();
    let (mut names, mut digests) = (HashMap::new(), HashMap::new());
    admin.tables("tokens", TOKEN_NAMES, |index, table| {
        let name = table.require("name", "text of 1 to 100 characters").and_then(|item| {
            let name = item.words(100)?;
            if let Some(first) = names.insert(name.clone(), index) {
                item.fault(format!("{name:?} is the name of admin.tokens[{first}] already"));
            }
            Some(name)
        });
        let digest = table.require("token", EXPECTED).and_then(|item| {
            let secret = item.secret()?;
            if secret.len() < TokenSettings::MIN_TOKEN_BYTES {
                item.fault_unseen(format!("is shorter than {} characters", TokenSettings::MIN_TOKEN_BYTES));
                return None;
            }
            if !secret.bytes().all(|b| b.is_ascii_graphic()) {
                item.fault_unseen("holds a character that cannot stand in a header");
                return None;
            }
            let digest = TokenDigest(Sha256::digest(secret.as_bytes()).into());
            if let Some(first) = digests.insert(digest, index) {
                item.fault_unseen(format!("is the same secret as admin.tokens[{first}].token"));
            }
            Some(digest)
        });
        let role = table
            .require("role", "\"read\" or \"write\"")
            .and_then(|item| item.one_of(&[Role::Read, Role::Write].map(|role| (role.as_str(), role))));
        let scope = |name| table.get(name).and_then(|item| item.words(256));
        let (org_id, team_id) = (scope("org_id"), scope("team_id"));
        if let (Some(name), Some(digest), Some(role)) = (name, digest, role) {
            tokens.push(TokenSettings { name, digest, role, org_id, team_id });
        }
    });
    tokens
}
