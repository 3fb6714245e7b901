//! `allowed_ips` and `trusted_proxies`: addresses and prefixes, matched by mask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// A set of prefixes. Matching compares integers: a list of 64 costs tens of nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressRules {
    /// Compiles addresses and prefixes. Host bits are ignored (`10.1.2.3/8` is `10.0.0.0/8`); an IPv4-mapped IPv6 entry is its IPv4.
    ///
    /// # Errors
    /// The first entry that is neither an address nor a prefix.
    pub fn compile<S: AsRef<str>>(entries: &[S]) -> Result<Self, String> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for entry in entries {
            let entry = entry.as_ref();
            let net = parse(entry).ok_or_else(|| entry.to_owned())?;
            match net {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.netmask()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.netmask()))),
            }
        }
        Ok(Self { v4: v4.into(), v6: v6.into() })
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether `address` lies in one of the prefixes. An IPv4-mapped IPv6 address is its IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = u32::from(v4);
                self.v4.iter().any(|(network, mask)| bits & mask == *network)
            }
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                self.v6.iter().any(|(network, mask)| bits & mask == *network)
            }
        }
    }

    /// The prefixes, in one spelling each.
    pub fn entries(&self) -> Vec<String> {
        let v4 = self.v4.iter().map(|(network, mask)| {
            let (address, bits) = (Ipv4Addr::from(*network), mask.count_ones());
            if bits == 32 { address.to_string() } else { format!("{address}/{bits}") }
        });
        let v6 = self.v6.iter().map(|(network, mask)| {
            let (address, bits) = (Ipv6Addr::from(*network), mask.count_ones());
            if bits == 128 { address.to_string() } else { format!("{address}/{bits}") }
        });
        v4.chain(v6).collect()
    }
}

fn parse(entry: &str) -> Option<IpNet> {
    let net = match IpAddr::from_str(entry) {
        Ok(address) => IpNet::from(address),
        Err(_) => IpNet::from_str(entry).ok()?,
    };
    Some(match net.trunc() {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).ok()?,
            None => IpNet::V6(v6),
        },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(entries: &[&str], address: &str) -> bool {
        AddressRules::compile(entries).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_and_prefixes_of_both_families() {
        assert!(contains(&["127.0.0.0/8", "::1"], "127.9.9.9") && contains(&["127.0.0.0/8", "::1"], "::1"));
        assert!(!contains(&["10.0.0.0/8"], "11.0.0.1") && !contains(&["2001:db8::/32"], "2001:db9::1"));
        assert!(contains(&["10.1.2.3/8"], "10.200.0.1"), "host bits do not narrow a prefix");
        assert!(contains(&["0.0.0.0/0"], "8.8.8.8") && !contains(&["0.0.0.0/0"], "2001:db8::1"));
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_on_either_side() {
        assert!(contains(&["10.0.0.0/8"], "::ffff:10.1.1.1"));
        assert!(contains(&["::ffff:10.0.0.0/104"], "10.1.1.1"));
        assert!(!contains(&["::ffff:10.0.0.0/104"], "11.1.1.1"));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(AddressRules::compile(&["10.0.0.1", "10.0.0.0/33"]), Err("10.0.0.0/33".to_owned()));
        assert_eq!(AddressRules::compile(&["10.0.0.1/8", "::1/64"]).unwrap().entries(), ["10.0.0.0/8", "::/64"]);
    }
}
