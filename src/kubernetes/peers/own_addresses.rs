//! The addresses of the node's own network: those of the network namespace of process 1.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Read anew each time; what cannot be read is none.
pub(super) fn read() -> HashSet<IpAddr> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let v4 = of_fib_trie(&text("/proc/1/net/fib_trie"));
    let v6 = of_if_inet6(&text("/proc/1/net/if_inet6"));
    v4.into_iter()
        .map(IpAddr::from)
        .chain(v6.into_iter().map(IpAddr::from))
        .filter(|address| !address.is_loopback())
        .collect()
}

/// The leaves that are local: an address, and below it `/32 host LOCAL`.
fn of_fib_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            found.extend(leaf);
        }
    }
    found
}

/// One address a line, as 32 hexadecimal digits.
fn of_if_inet6(text: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| u128::from_str_radix(line.split(' ').next()?, 16).ok();
    text.lines()
        .filter_map(address)
        .map(Ipv6Addr::from_bits)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_and_routes_and_broadcasts_are_not() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.244.1.0/24 2 0 2\n        |-- 10.244.1.0\n           /24 link UNICAST\n        |-- 10.244.1.1\n           /32 host LOCAL\n        |-- 10.244.1.255\n           /32 link BROADCAST\nLocal:\n  |-- 192.0.2.7\n     /32 host LOCAL\n";
        let all = of_fib_trie(trie);
        assert_eq!(
            all,
            [Ipv4Addr::new(10, 244, 1, 1), Ipv4Addr::new(192, 0, 2, 7)]
        );
        assert!(of_fib_trie("junk\n|-- x\n/32 host LOCAL").is_empty());
    }

    #[test]
    fn ipv6_addresses_are_read_from_their_digits() {
        let text = "fd00000000000000000000000000000a 02 40 00 80     eth0\nnonsense\n";
        assert_eq!(of_if_inet6(text), ["fd00::a".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn this_machine_has_no_loopback_among_them() {
        assert!(read().iter().all(|address| !address.is_loopback()));
    }
}
