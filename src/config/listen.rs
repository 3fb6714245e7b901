//! Where to listen: `[server] listen` and `[admin] listen`, and the mode of the paths among them.

use std::net::SocketAddr;

use crate::config::item::Item;
use crate::config::raw::{Table, shorten};
use crate::listen::Address;

/// The longest path of a socket, bytes: what every system takes.
const LONGEST_PATH: usize = 103;

/// `listen` of the section: one or several.
pub(super) fn read_list(server: &Table<'_>) -> Vec<Address> {
    let Some(item) = server.get("listen") else {
        return vec![Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))];
    };
    if item.is_empty_list() {
        item.fault("is empty: at least one address is required");
    }
    let mut seen: Vec<Address> = Vec::new();
    item.one_or_list("an address such as \"127.0.0.1:8080\", or a list of them", |item| {
        let address = read(&item)?;
        let is_any_port = address.tcp().is_some_and(|address| address.port() == 0);
        if !is_any_port && seen.contains(&address) {
            item.fault(format!("{address} is listed twice"));
        }
        seen.push(address.clone());
        Some(address)
    })
}

/// An IP address and a port, or a path. Names are refused: what a resolver answers is not what the operator wrote.
pub(super) fn read(item: &Item<'_>) -> Option<Address> {
    let text = item.text("an IP address and port such as \"127.0.0.1:8080\"")?;
    if let Some(path) = Address::path_of(text) {
        return read_path(item, path);
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let help = match text.rsplit_once(':') {
        Some(("", port)) if port.parse::<u16>().is_ok() => Some(format!("every address is \"0.0.0.0:{port}\"")),
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
            Some(format!("names are not looked up; this machine alone is \"127.0.0.1:{port}\""))
        }
        Some((name, _)) if name.contains(|c: char| c.is_ascii_alphabetic()) && !name.contains(':') => {
            Some("names are not looked up".to_owned())
        }
        _ => None,
    };
    let told = shorten(&format!("{text:?}"));
    let problem = format!("{told} is not an IP address and port such as \"127.0.0.1:8080\" or \"[::1]:8080\"");
    item.fault_with_help(problem, help);
    None
}

/// A path, relative to the file's folder when it is relative.
fn read_path(item: &Item<'_>, path: &str) -> Option<Address> {
    let resolved = item.reader.resolve(path);
    if path.is_empty() || path.contains('\0') || resolved.as_os_str().len() > LONGEST_PATH {
        item.is_not(&format!("\"unix:PATH\" with the path of a socket, {LONGEST_PATH} bytes at most with the folder"));
        return None;
    }
    Some(Address::Unix(resolved))
}

/// `socket_mode` of the section.
pub(super) fn read_mode(table: &Table<'_>, default: u32) -> u32 {
    let mode = table.get("socket_mode").and_then(|item| {
        item.parsed("the mode of a file such as \"0660\"", |text| {
            let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
        })
    });
    mode.unwrap_or(default)
}
