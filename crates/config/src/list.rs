//! Lists of `key=value` as OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPORTER_OTLP_HEADERS have them.

/// The pairs with percent-decoded values, and what is wrong with the list, if anything. The reason
/// names keys only: values may be secrets.
pub(crate) fn pairs(text: &str) -> (Vec<(String, String)>, Option<String>) {
    let mut pairs = Vec::new();
    let mut bad = None;
    for (index, item) in text.split(',').enumerate() {
        let item = item.trim();
        if item.is_empty() {
            continue;
        }
        let Some((key, value)) = item.split_once('=') else {
            bad = Some(format!("entry {} has no `=`", index + 1));
            continue;
        };
        let key = key.trim();
        match (key.is_empty(), percent_decode(value.trim())) {
            (true, _) => bad = Some(format!("entry {} has no key", index + 1)),
            (_, None) => bad = Some(format!("the value of `{key}` is not percent-encoded UTF-8")),
            (_, Some(value)) => pairs.push((key.to_owned(), value)),
        }
    }
    (pairs, bad)
}

fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        // A percent sign without two digits stays: some headers carry it unencoded.
        let hex = bytes
            .get(i + 1..i + 3)
            .filter(|h| h.iter().all(u8::is_ascii_hexdigit));
        match (bytes[i], hex.and_then(|hex| std::str::from_utf8(hex).ok())) {
            (b'%', Some(hex)) => {
                out.push(u8::from_str_radix(hex, 16).ok()?);
                i += 3;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn values_are_percent_decoded_and_bad_entries_are_named_without_their_value() {
        let (found, bad) = pairs("authorization=Basic%20abc=, a = b ,,c=%2C");
        let expected = [("authorization", "Basic abc="), ("a", "b"), ("c", ",")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bad, None);
        let (found, bad) = pairs("secretword,k=%ff");
        assert!(found.is_empty());
        assert!(!bad.unwrap_or_default().contains("secretword"));
    }
}
