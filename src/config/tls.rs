//! `tls`, `tls_min_version`, `client_ca` and `client_auth` of a listener's section. The files they name are read at once: what is wrong
//! with one is a fault of the setting that names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::item::Item;
use crate::config::raw::{Names, Table};
use crate::tls::{ClientAuth, ClientSettings, Identity, Oldest, PairFiles, Place, Protocols, Settings};

pub(super) const NAMES: Names = &["cert", "key"];

/// Reads what `section` says of TLS; `None` where it says nothing, or nothing that could be used.
pub(super) fn read(section: &Table<'_>, protocols: Protocols) -> Option<Arc<Identity>> {
    let Some(item) = section.get("tls") else {
        let idle = [("client_ca", CERTIFICATES), ("client_auth", CERTIFICATES), ("tls_min_version", "bounds TLS")];
        for (name, what) in idle {
            if let Some(item) = section.get(name) {
                item.fault_unseen(format!("{what}, but there is none: `tls` is missing"));
            }
        }
        return None;
    };
    let mut pairs = Vec::new();
    let mut written = 0;
    each(&item, &mut |table| {
        written += 1;
        table.refuse_unknown_names();
        let file = |name| table.require(name, EXPECTED).and_then(|item| path(&item));
        if let (Some(cert), Some(key)) = (file("cert"), file("key")) {
            pairs.push(PairFiles { cert, key });
        }
    });
    let clients = read_clients(section);
    let oldest = section.get("tls_min_version").map_or(Some(Oldest::Tls12), |item| item.one_of(OLDEST));
    let oldest = oldest?;
    if pairs.is_empty() || pairs.len() != written || section.has("client_ca") != clients.is_some() {
        return None;
    }
    let settings = Settings { pairs, clients, protocols, oldest };
    match Identity::load(&settings, Clock::system().now().unix_ms) {
        Ok((identity, warnings)) => {
            for warning in &warnings {
                at(section, &item, warning.place, &|item, path| item.warn_unseen(told(path, &warning.problem)));
            }
            Some(Arc::new(identity))
        }
        Err(faults) => {
            for fault in &faults {
                at(section, &item, fault.place, &|item, path| item.fault_unseen(told(path, &fault.problem)));
            }
            None
        }
    }
}

/// The files that a section names, whatever is wrong with the rest of it: once one of them is put right, all is read again.
pub(super) fn files_of(section: &toml::de::DeTable<'_>) -> Vec<String> {
    let text = |table: &toml::de::DeTable<'_>, name: &str| table.get(name)?.get_ref().as_str().map(str::to_owned);
    let tls = section.get("tls").map(|tls| tls.get_ref());
    let one = tls.and_then(|tls| tls.as_table());
    let several = tls.and_then(|tls| tls.as_array()).into_iter().flatten().filter_map(|tls| tls.get_ref().as_table());
    let pairs = one.into_iter().chain(several);
    let named = pairs.flat_map(|table| ["cert", "key", "ca"].into_iter().filter_map(move |name| text(table, name)));
    named.chain(text(section, "client_ca")).filter(|named| !named.is_empty()).collect()
}

const EXPECTED: &str = "the path of a PEM file";
const CERTIFICATES: &str = "asks clients for certificates over TLS";
const OLDEST: &[(&str, Oldest)] = &[("1.2", Oldest::Tls12), ("1.3", Oldest::Tls13)];

fn read_clients(section: &Table<'_>) -> Option<ClientSettings> {
    let ca = section.get("client_ca").and_then(|item| path(&item));
    let auth = section.get("client_auth").map(|item| {
        if !section.has("client_ca") {
            item.fault_unseen("asks clients for certificates, but `client_ca` does not say whose");
        }
        item.one_of(&[("optional", ClientAuth::Optional), ("required", ClientAuth::Required)])
    });
    Some(ClientSettings { ca: ca?, auth: auth.unwrap_or(Some(ClientAuth::Required))? })
}

/// One table, or each of a list of them.
fn each(item: &Item<'_>, visit: &mut dyn FnMut(&Table<'_>)) {
    if item.value.as_array().is_none() {
        let alone = Item { reader: item.reader, value: item.value, span: item.span.clone(), path: item.path };
        if let Some(table) = alone.into_open_table() {
            visit(&Table { names: NAMES, ..table });
        }
        return;
    }
    if item.is_empty_list() {
        item.fault("is empty: at least one certificate is required");
    }
    item.each("a table, or a list of them", |_, item| {
        if let Some(table) = item.into_open_table() {
            visit(&Table { names: NAMES, ..table });
        }
    });
}

/// Says something of the setting a remark is about.
fn at(section: &Table<'_>, tls: &Item<'_>, place: Place, say: &dyn Fn(&Item<'_>, &str)) {
    let speak = |table: &Table<'_>, name| {
        if let Some(item) = table.get(name) {
            say(&item, item.value.as_str().unwrap_or_default());
        }
    };
    let (wanted, name) = match place {
        Place::ClientCa => return speak(section, "client_ca"),
        Place::Cert(index) => (index, "cert"),
        Place::Key(index) => (index, "key"),
    };
    let mut index = 0;
    each(tls, &mut |table| {
        if index == wanted {
            speak(table, name);
        }
        index += 1;
    });
}

fn path(item: &Item<'_>) -> Option<PathBuf> {
    let text = item.value.as_str().filter(|text| !text.is_empty() && !text.contains("-----"));
    if text.is_none() {
        // A key itself may stand where its file should.
        item.fault_unseen(format!("is not {EXPECTED}"));
    }
    text.map(|text| item.reader.resolve(text))
}

/// What stands in place of a path may be a secret: it is told only where it looks like the name of such a file.
fn told(path: &str, problem: &str) -> String {
    match is_pem_name(path) {
        true => format!("the file {path:?} {problem}"),
        false => format!("the file {problem}"),
    }
}

fn is_pem_name(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["pem", "crt", "cer", "key"].contains(&extension))
}
