//! Which HTTP proxy an endpoint is behind, by a setting or by the environment's variables.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};

use super::percent_decoded;
use crate::error::ExporterError;
use crate::settings::{OtlpSettings, ProxySettings};

/// A proxy that takes `CONNECT` and requests with whole URLs.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// Scheme, host and port, without credentials.
    pub(super) uri: Uri,
    /// `Proxy-Authorization`, which is sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

/// The proxy of an endpoint, if there is one.
pub(super) fn of(
    settings: &OtlpSettings,
    endpoint: &Uri,
) -> Result<Option<Arc<Proxy>>, ExporterError> {
    choose(&settings.proxy, endpoint, |name| std::env::var(name).ok())
}

fn choose(
    settings: &ProxySettings,
    endpoint: &Uri,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Arc<Proxy>>, ExporterError> {
    let is_https = endpoint.scheme_str() == Some("https");
    let port = endpoint
        .port_u16()
        .unwrap_or(if is_https { 443 } else { 80 });
    let host = endpoint.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let either = |upper: &str| {
        [upper.to_ascii_lowercase(), upper.to_owned()]
            .iter()
            .find_map(|name| environment(name).filter(|value| !value.trim().is_empty()))
    };
    let (url, source) = match settings {
        ProxySettings::Direct => return Ok(None),
        ProxySettings::Url { url, no_proxy } => {
            if excepted(no_proxy, &host, port) {
                return Ok(None);
            }
            (url.clone(), "proxy.url")
        }
        ProxySettings::Environment => {
            let name = if is_https {
                "HTTPS_PROXY"
            } else {
                "HTTP_PROXY"
            };
            let Some(url) = either(name) else {
                return Ok(None);
            };
            let address = host.parse::<IpAddr>();
            let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
            if is_here || excepted(&either("NO_PROXY").unwrap_or_default(), &host, port) {
                return Ok(None);
            }
            (url, name)
        }
    };
    parse(&url, source).map(Arc::new).map(Some)
}

fn parse(url: &str, source_of_it: &'static str) -> Result<Proxy, ExporterError> {
    let bad = |what| ExporterError::Proxy { source_of_it, what };
    let url = url.trim();
    let rest = match url.split_once("://") {
        None => url,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err(bad("only proxies with the scheme http are supported")),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, authority),
    };
    let uri: Uri = format!("http://{place}/")
        .parse()
        .map_err(|_| bad("it is not a URL"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("there is no host in it"));
    }
    let authorization = credentials.map(|credentials| {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut pair = percent_decoded(user);
        pair.push(b':');
        pair.extend(percent_decoded(password));
        let value = format!("Basic {}", STANDARD.encode(pair));
        HeaderValue::try_from(value).map(|mut value| {
            value.set_sensitive(true);
            value
        })
    });
    Ok(Proxy {
        uri,
        authorization: authorization
            .transpose()
            .map_err(|_| bad("its credentials cannot be sent"))?,
    })
}

/// Whether a list as in `NO_PROXY` names the host.
fn excepted(list: &str, host: &str, port: u16) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ']).map(str::trim).any(|entry| {
        if entry.is_empty() {
            return false;
        }
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let (Some((network, length)), Some(address)) = (entry.split_once('/'), address) {
            return in_network(address, network, length);
        }
        let (name, its_port) = match entry.rsplit_once(':') {
            // More than one colon without brackets is an IPv6 address.
            Some((name, its_port)) if !name.contains(':') || name.ends_with(']') => {
                (name, Some(its_port))
            }
            _ => (entry.as_str(), None),
        };
        if its_port.is_some_and(|its_port| its_port.parse() != Ok(port)) {
            return false;
        }
        let name = name.trim_matches(['[', ']']);
        if let (Ok(one), Some(other)) = (name.parse::<IpAddr>(), address) {
            return one == other;
        }
        match name.trim_start_matches('*').strip_prefix('.') {
            Some(domain) => is_below(host, domain),
            None => host == name || is_below(host, name),
        }
    })
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|front| front.ends_with('.'))
}

fn in_network(address: IpAddr, network: &str, length: &str) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    let ((one, width), (other, other_width)) = (bits(address), bits(network));
    let differing = (one ^ other).leading_zeros();
    width == other_width && length <= width && differing >= length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(endpoint: &str, variables: &[(&str, &str)]) -> Option<String> {
        let endpoint = endpoint.parse().unwrap();
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = choose(&ProxySettings::Environment, &endpoint, environment).unwrap();
        proxy.map(|proxy| proxy.uri.to_string())
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme_and_none_for_this_machine() {
        let both = [("HTTP_PROXY", "plain:1"), ("https_proxy", "http://tls:2")];
        assert_eq!(
            chosen("http://a/", &both).as_deref(),
            Some("http://plain:1/")
        );
        assert_eq!(
            chosen("https://a/", &both).as_deref(),
            Some("http://tls:2/")
        );
        for here in [
            "http://localhost:4318/",
            "http://127.1.2.3/",
            "https://[::1]/",
        ] {
            assert_eq!(chosen(here, &both), None, "{here}");
        }
        assert_eq!(chosen("http://a/", &[("HTTP_PROXY", " ")]), None);
    }

    #[test]
    fn no_proxy_names_hosts_domains_addresses_networks_and_ports() {
        let behind = |list: &str, endpoint: &str| {
            let variables = [("HTTP_PROXY", "p:1"), ("NO_PROXY", list)];
            chosen(endpoint, &variables).is_some()
        };
        let list = "one.example, .sub.example,10.1.0.0/16,192.0.2.7,fd00::/8,port.example:4318";
        for direct in [
            "http://one.example/",
            "http://deep.one.example/",
            "http://a.sub.example/",
            "http://10.1.255.1:4318/",
            "http://192.0.2.7/",
            "http://[fd00::1]/",
            "http://PORT.example:4318/",
        ] {
            assert!(!behind(list, direct), "{direct}");
        }
        for other in [
            "http://sub.example/",
            "http://notone.example/",
            "http://10.2.0.1/",
            "http://192.0.2.8/",
            "http://[fe80::1]/",
            "http://port.example:80/",
        ] {
            assert!(behind(list, other), "{other}");
        }
        assert!(!behind("*", "http://anything/"));
    }

    #[test]
    fn what_is_no_proxy_is_said_without_its_credentials() {
        for url in [
            "socks5://user:secret@p:1",
            "https://user:secret@p",
            "http://user:secret@",
            "http://u:secret@a b",
        ] {
            let error = parse(url, "HTTPS_PROXY").unwrap_err().to_string();
            assert!(
                error.contains("HTTPS_PROXY") && !error.contains("secret"),
                "{error}"
            );
        }
        let proxy = parse("http://user:p%40ss@p:1", "proxy.url").unwrap();
        let expected = format!("Basic {}", STANDARD.encode("user:p@ss"));
        assert_eq!(proxy.authorization.unwrap(), expected);
    }
}
