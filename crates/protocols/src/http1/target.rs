//! Request targets and authorities, in their parts.

use std::net::Ipv6Addr;

/// The parts of a request target (RFC 9112 section 3.2).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: Option<&'a str>,
    pub(crate) authority: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(crate) fn parse(method: &str, target: &'a str) -> Self {
        if method == "CONNECT" {
            return Self {
                authority: Some(without_user(target)),
                ..Self::default()
            };
        }
        let mut parts = Self::default();
        let mut rest = target;
        if !target.starts_with('/')
            && let Some((scheme, after)) = target.split_once("://")
        {
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            parts.scheme = Some(scheme);
            parts.authority = Some(without_user(authority));
            rest = path;
        } else if !target.starts_with('/') {
            // An authority, which only CONNECT may ask for, or what a client takes for a URL.
            let end = target.find(['/', '?', '#']).unwrap_or(target.len());
            let user = target.get(..end).and_then(|start| start.rfind('@'));
            rest = user.and_then(|at| target.get(at + 1..)).unwrap_or(target);
        }
        let rest = split_at_byte(rest, b'#').map_or(rest, |(before, _)| before);
        let (path, query) = match split_at_byte(rest, b'?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        parts.path = Some(match path {
            "" => "/",
            path => path,
        });
        parts.query = query;
        parts
    }
}

/// `split_once` for ASCII, on bytes: these run for every exchange.
fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(byte, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Credentials before the `@` are nobody's business.
fn without_user(authority: &str) -> &str {
    memchr::memrchr(b'@', authority.as_bytes())
        .and_then(|at| authority.get(at + 1..))
        .unwrap_or(authority)
}

/// A port, which may be left empty (RFC 3986 section 3.2.3); `None` where it is not one.
fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok().map(Some)).flatten()
}

/// Host and port of an authority; `None` where it is not one.
pub(crate) fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, parse_port(port)?)),
            None => after.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match split_at_byte(authority, b':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (authority, None),
    };
    let legal = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')'
            )
            || matches!(byte, b'*' | b'+' | b',' | b';' | b'=' | b'%')
    };
    (!host.is_empty() && host.bytes().all(legal)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_target_is_taken_apart() {
        let origin = Target::parse("GET", "/a/b?c=d?e#f");
        assert_eq!((origin.path, origin.query), (Some("/a/b"), Some("c=d?e")));
        assert_eq!(origin.authority, None);
        let absolute = Target::parse("GET", "http://user:pw@host:81?q");
        assert_eq!(
            (absolute.scheme, absolute.authority),
            (Some("http"), Some("host:81"))
        );
        assert_eq!((absolute.path, absolute.query), (Some("/"), Some("q")));
        let authority = Target::parse("CONNECT", "host:443");
        assert_eq!(
            (authority.authority, authority.path),
            (Some("host:443"), None)
        );
        assert_eq!(Target::parse("OPTIONS", "*").path, Some("*"));
        for method in ["GET", "CONNECT"] {
            let target = Target::parse(method, "user:pw@host:443");
            let shown = target.path.or(target.authority);
            assert_eq!(shown, Some("host:443"), "{method}");
        }
        assert_eq!(
            Target::parse("GET", "user:p@w@host/a@b").path,
            Some("host/a@b")
        );
        // A URL in the query is no scheme.
        assert_eq!(Target::parse("GET", "/go?to=http://x").scheme, None);
    }

    #[test]
    fn an_authority_is_host_and_port_or_nothing() {
        for (text, expected) in [
            ("host", Some(("host", None))),
            ("host:80", Some(("host", Some(80)))),
            ("[2001:db8::1]:8080", Some(("2001:db8::1", Some(8080)))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("host:", Some(("host", None))),
            ("[2001:db8::1]:", Some(("2001:db8::1", None))),
            ("host:+80", None),
            ("", None),
            (":80", None),
            ("host:99999", None),
            ("host name", None),
            ("[not an address]", None),
            ("[::1]x", None),
        ] {
            assert_eq!(split_authority(text), expected, "{text}");
        }
    }
}
