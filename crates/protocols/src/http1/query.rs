//! Query strings without their secrets.

/// What stands in the place of a value.
const REDACTED: &str = "REDACTED";

/// Which values of a query string are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueryValues {
    /// None: keys only.
    #[default]
    Redacted,
    /// Those of these keys, whatever their names: the operator has named them.
    Only(Vec<String>),
    /// All but those of keys that carry credentials.
    Shown,
}

/// Keys whose values are never shown: those the semantic conventions list, and customary names of credentials.
const SECRET_KEYS: [&str; 22] = [
    "awsaccesskeyid",
    "signature",
    "sig",
    "x-goog-signature",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-credential",
    "access_token",
    "refresh_token",
    "id_token",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "key",
    "password",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
    "code",
    "session",
];

impl QueryValues {
    fn show(&self, key: &str) -> bool {
        match self {
            Self::Redacted => false,
            Self::Only(keys) => keys.iter().any(|allowed| allowed == key),
            Self::Shown => !is_secret(key),
        }
    }
}

fn is_secret(key: &str) -> bool {
    SECRET_KEYS
        .iter()
        .any(|secret| key.eq_ignore_ascii_case(secret))
}

/// Whether it may be one value in base64 with its padding (RFC 4648 section 4), of either alphabet.
fn is_padded(pair: &str) -> bool {
    let value = pair.trim_end_matches('=');
    let padding = pair.len() - value.len();
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    (1..=2).contains(&padding) && pair.len().is_multiple_of(4) && value.bytes().all(digit)
}

/// Appends a query string, its values redacted as the settings ask.
pub(crate) fn push_redacted(query: &str, values: &QueryValues, output: &mut String) {
    let mut rest = Some(query);
    while let Some(text) = rest {
        let end = memchr::memchr(b'&', text.as_bytes()).unwrap_or(text.len());
        let (pair, after) = text.split_at(end);
        rest = after.get(1..);
        let equals = memchr::memchr(b'=', pair.as_bytes());
        match equals.and_then(|at| Some((pair.get(..at)?, pair.get(at + 1..)?))) {
            // The sign of the padding is none between a key and a value.
            Some(_) if *values != QueryValues::Shown && is_padded(pair) => {
                output.push_str(REDACTED);
            }
            Some((key, value)) => {
                output.push_str(key);
                output.push('=');
                let shown = value.is_empty() || values.show(key);
                output.push_str(if shown { value } else { REDACTED });
            }
            // Without a key it may itself be a value.
            None if pair.is_empty() || *values == QueryValues::Shown => output.push_str(pair),
            None => output.push_str(REDACTED),
        }
        if rest.is_some() {
            output.push('&');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(query: &str, values: &QueryValues) -> String {
        let mut output = String::new();
        push_redacted(query, values, &mut output);
        output
    }

    #[test]
    fn values_are_redacted_and_keys_stay() {
        let all = QueryValues::Redacted;
        assert_eq!(
            redacted("q=secret&page=2&x=", &all),
            "q=REDACTED&page=REDACTED&x="
        );
        assert_eq!(redacted("bare", &all), "REDACTED");
        for value in ["c2VjcmV0cw==", "c2VjcmV0czE=", "c2Vj_-0="] {
            assert_eq!(redacted(value, &all), "REDACTED");
            let among_others = format!("page=2&{value}");
            assert_eq!(redacted(&among_others, &all), "page=REDACTED&REDACTED");
        }
        assert_eq!(redacted("", &all), "");
    }

    #[test]
    fn values_of_named_keys_are_shown_and_no_others() {
        let only = QueryValues::Only(vec!["page".to_owned()]);
        assert_eq!(
            redacted("page=2&Page=3&q=a&token=b", &only),
            "page=2&Page=REDACTED&q=REDACTED&token=REDACTED"
        );
    }

    #[test]
    fn credentials_are_redacted_even_where_values_are_shown() {
        let shown = QueryValues::Shown;
        assert_eq!(
            redacted("q=a&X-Goog-Signature=b&Password=c", &shown),
            "q=a&X-Goog-Signature=REDACTED&Password=REDACTED"
        );
    }
}
