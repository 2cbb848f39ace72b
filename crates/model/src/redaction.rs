//! What stands in the place of secrets in everything that people read.

/// Stands for a secret.
pub const REDACTED: &str = "[REDACTED]";

/// A URL without user information and query, which is where keys are put; as it is where it is none.
pub fn url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => authority.to_owned(),
    };
    let tail = match tail.split_once('?') {
        Some((path, _)) => format!("{path}?{REDACTED}"),
        None => tail.to_owned(),
    };
    format!("{scheme}://{authority}{tail}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn user_and_query_of_a_url_are_left_out() {
        for (given, shown) in [
            ("http://c:4318/v1/traces", "http://c:4318/v1/traces"),
            (
                "https://user:pw@c/a?key=b#c",
                "https://[REDACTED]@c/a?[REDACTED]",
            ),
            ("http://c?key=b", "http://c?[REDACTED]"),
            ("c:4317", "c:4317"),
        ] {
            assert_eq!(super::url(given), shown);
        }
    }
}
