//! Lists of `key=value` as OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPORTER_OTLP_HEADERS have them.

/// Entries that are not empty, each with its number from 1.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.split(',').map(str::trim).enumerate();
    numbered
        .filter(|(_, entry)| !entry.is_empty())
        .map(|(index, entry)| (index + 1, entry))
}

/// Key and value as they are written.
fn split(number: usize, entry: &str) -> Result<(&str, &str), String> {
    match entry.split_once('=') {
        None => Err(format!("entry {number} has no `=`")),
        Some((key, _)) if key.trim().is_empty() => Err(format!("entry {number} has no key")),
        Some((key, value)) => Ok((key.trim(), value.trim())),
    }
}

/// Headers with percent-decoded values, and what is wrong with the list, if anything: the others are used all the same.
/// The reason names keys only: values may be secrets.
pub(crate) fn headers(text: &str) -> (Vec<(String, String)>, Option<String>) {
    let mut found = Vec::new();
    let mut bad = None;
    for (number, entry) in entries(text) {
        let header = split(number, entry).and_then(|(key, value)| {
            // A percent sign without two digits stays: some headers carry it unencoded.
            match percent_decode(value, false) {
                Some(value) if header_value(&value) => Ok((key.to_owned(), value)),
                Some(_) => Err(format!(
                    "the value of `{key}` has a line break or another control character"
                )),
                None => Err(format!("the value of `{key}` is not percent-encoded UTF-8")),
            }
        });
        match header {
            Ok(header) => found.push(header),
            Err(reason) => bad = Some(reason),
        }
    }
    (found, bad)
}

/// Whether a header can have this value: a line break would begin another one (RFC 9110 section 5.5).
pub(crate) fn header_value(value: &str) -> bool {
    !value.chars().any(|c| c.is_control() && c != '\t')
}

/// Resource attributes, keys and values percent-decoded; of two with one name the later one counts.
///
/// # Errors
/// What is wrong with one of them: the specification discards all then. No value is named, it may be a secret.
pub(crate) fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (number, entry) in entries(text) {
        let (key, value) = split(number, entry)?;
        let name = percent_decode(key, true)
            .ok_or_else(|| format!("the key of entry {number} is not percent-encoded UTF-8"))?;
        let value = percent_decode(value, true)
            .ok_or_else(|| format!("the value of `{name}` is not percent-encoded UTF-8"))?;
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => found.push((name, value)),
        }
    }
    Ok(found)
}

fn percent_decode(text: &str, strict: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let digits = bytes
            .get(i + 1..i + 3)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| str::from_utf8(digits).ok());
        match digits {
            Some(digits) if byte == b'%' => {
                out.push(u8::from_str_radix(digits, 16).ok()?);
                i += 3;
            }
            None if byte == b'%' && strict => return None,
            _ => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::headers;

    #[test]
    fn values_are_percent_decoded_and_bad_entries_are_named_without_their_value() {
        let (found, bad) = headers("authorization=Basic%20abc=, a = b ,,c=%2C,d=5%");
        let expected = [
            ("authorization", "Basic abc="),
            ("a", "b"),
            ("c", ","),
            ("d", "5%"),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bad, None);
        let (found, bad) = headers("secretword,k=%ff");
        assert!(found.is_empty());
        assert!(!bad.unwrap_or_default().contains("secretword"));
    }
}
