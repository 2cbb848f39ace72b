//! The type of a plain scalar by the YAML 1.2 core schema.
use crate::node::Value;

/// Resolves the text of a plain (unquoted) scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(int) = integer(text) {
        return Value::Int(int);
    }
    if let Some(float) = float(text) {
        return Value::Float(float);
    }
    Value::Str(text.to_owned())
}

pub(crate) fn integer(text: &str) -> Option<i128> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn radix(digits: &str, radix: u32) -> Option<i128> {
    // from_str_radix takes a sign, which the core schema does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok()
}

pub(crate) fn float(text: &str) -> Option<f64> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    // Rust also takes "inf" and "nan", which are strings in YAML.
    if !text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::node::Value;

    #[test]
    fn the_core_schema_decides_the_type_of_plain_scalars() {
        assert_eq!(resolve("0xff"), Value::Int(255));
        assert_eq!(resolve("0o17"), Value::Int(15));
        assert_eq!(resolve("-7"), Value::Int(-7));
        // serde_yaml takes leading zeros for a string; the core schema does not.
        assert_eq!(resolve("007"), Value::Int(7));
        assert_eq!(resolve("1e3"), Value::Float(1000.0));
        assert_eq!(resolve(".5"), Value::Float(0.5));
        assert_eq!(resolve("yes"), Value::Str("yes".into()));
        assert_eq!(resolve("nan"), Value::Str("nan".into()));
        assert_eq!(resolve("0x-1"), Value::Str("0x-1".into()));
        assert_eq!(resolve("~"), Value::Null);
        assert_eq!(resolve(""), Value::Null);
    }
}
