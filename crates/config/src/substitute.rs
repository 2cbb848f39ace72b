//! Environment variables in scalar values, by the rules of the OpenTelemetry specification.

/// Where a value of the environment comes from.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Largest text that one scalar may become.
const MAX_SCALAR: usize = 1 << 20;

/// The outcome of a substitution.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Substituted {
    pub(crate) text: String,
    /// True if the value of a variable is in it, and not only a default of the file.
    pub(crate) from_variable: bool,
    /// A `${` without its closing brace, which stays as it is.
    pub(crate) unclosed: bool,
}

/// Replaces `${NAME}`, `${env:NAME}` and `${NAME:-default}`; `$$` stands for one `$`. Goes once
/// from left to right, so that nothing in a replacement is looked at again.
pub(crate) fn substitute(text: &str, env: &Env<'_>) -> Result<Substituted, String> {
    let mut out = String::with_capacity(text.len());
    let (mut from_variable, mut unclosed) = (false, false);
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(body) = after.strip_prefix('{') {
            let Some(end) = body.find('}') else {
                unclosed = true;
                out.push('$');
                rest = after;
                continue;
            };
            let (name, default) = reference(&body[..end])?;
            // An empty value counts as no value.
            let value = env(name).filter(|value| !value.is_empty());
            out.push_str(value.as_deref().unwrap_or(default));
            from_variable |= value.is_some();
            rest = &body[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
        if out.len() > MAX_SCALAR {
            return Err("the value is larger than 1 MiB after substitution".to_owned());
        }
    }
    out.push_str(rest);
    Ok(Substituted {
        text: out,
        from_variable,
        unclosed,
    })
}

fn reference(body: &str) -> Result<(&str, &str), String> {
    let named = body.strip_prefix("env:").unwrap_or(body);
    let end = named
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(named.len());
    let (name, tail) = named.split_at(end);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let default = if tail.is_empty() {
        Some("")
    } else {
        tail.strip_prefix(":-")
    };
    match default {
        Some(default) if starts_well && !default.contains('\n') => Ok((name, default)),
        _ => Err(format!(
            "`${{{}}}` is not a valid reference",
            crate::node::cut(body)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::substitute;

    fn run(text: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "A" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "REF" => Some("${A} $$".to_owned()),
            _ => None,
        };
        substitute(text, &env).map(|s| s.text)
    }

    #[test]
    fn references_and_escapes_follow_the_specification() {
        let cases = [
            ("${A}", "value"),
            ("${env:A}", "value"),
            ("${NONE}", ""),
            ("${NONE:-other}", "other"),
            ("${EMPTY:-other}", "other"),
            ("${NONE:-http://h:1/a?b=c}", "http://h:1/a?b=c"),
            ("${NONE:-}", ""),
            ("${REF}", "${A} $$"),
            ("$${A}", "${A}"),
            ("$$${A}", "$value"),
            ("$$$${A}", "$${A}"),
            ("$$$$$${A}", "$$${A}"),
            ("$A", "$A"),
            ("a $ b $$ c", "a $ b $ c"),
            ("${A} ${NONE:-x} ${A}", "value x value"),
            ("${A", "${A"),
            ("$", "$"),
        ];
        for (text, expected) in cases {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_references_are_errors() {
        for text in [
            "${1A}",
            "${X:?err}",
            "${}",
            "${A B}",
            "${file:x}",
            "${A:-x\ny}",
        ] {
            assert!(run(text).is_err(), "{text}");
        }
    }
}
