//! Where the admin listener is, from how people write it.

use http::Uri;
use http::uri::Scheme;

/// `--admin-url`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether TLS is spoken there.
    pub is_tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the `Host` header has them.
    pub authority: String,
    /// What stands before every path; empty or without a slash at its end.
    pub base: String,
}

impl Address {
    /// What is wrong with it otherwise.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected http://HOST:PORT or https://HOST:PORT";
        let uri: Uri = url.trim().parse().map_err(|_| EXPECTED)?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let is_http = is_tls || uri.scheme() == Some(&Scheme::HTTP);
        let authority = uri.authority().filter(|_| is_http).ok_or(EXPECTED)?;
        if authority.as_str().contains('@') {
            return Err("a password has no place here; the token comes from the environment");
        }
        if uri.query().is_some() {
            return Err(EXPECTED);
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let port = match authority.as_str().strip_prefix(host) {
            Some("") if is_tls => 443,
            Some("") => 80,
            _ => authority.port_u16().ok_or("the port is not one")?,
        };
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_tls, host: bare.to_owned(), port, authority: authority.as_str().to_owned(), base })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_what_stands_before_the_path() {
        let address = |url: &str| Address::parse(url).expect(url);
        assert_eq!(
            address("http://127.0.0.1:8081/"),
            Address {
                is_tls: false,
                host: "127.0.0.1".into(),
                port: 8081,
                authority: "127.0.0.1:8081".into(),
                base: String::new()
            }
        );
        assert_eq!(
            (address("http://[::1]:9").host, address("http://[::1]:9").authority),
            ("::1".into(), "[::1]:9".into())
        );
        assert_eq!(
            (address("https://h").is_tls, address("https://h").port, address("https://h:1").port),
            (true, 443, 1)
        );
        assert_eq!((address("http://admin").port, address("http://admin/kw/").base), (80, "/kw".into()));
    }

    #[test]
    fn what_is_no_admin_listener_is_said_to_be_none() {
        for url in
            ["", "127.0.0.1:8081", "ftp://host", "http://", "http://h:99999", "http://h?x=1", "/path", "http://h:x"]
        {
            assert!(Address::parse(url).is_err(), "{url}");
        }
        assert!(Address::parse("http://me:pw@host").is_err_and(|why| why.contains("environment")));
    }
}
