//! What a program says about itself: the `OTEL_*` variables of its environment, and the properties of a Java program.

use std::collections::BTreeMap;

use super::interpreter;

/// Attributes a program declares.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// `OTEL_SERVICE_NAME`.
    pub(super) service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) attributes: BTreeMap<String, String>,
}

impl Declared {
    /// What a running program declares. Java's properties go before its environment, as for an SDK in it.
    pub(super) fn of_program(program: Option<&str>, arguments: &[String], environ: &[u8]) -> Self {
        let mut declared = Self::from_environ(environ);
        if program.is_some_and(interpreter::is_java) {
            let options = interpreter::java_options(arguments, |name| {
                variables(environ).find_map(|(own, value)| (own == name).then_some(value))
            });
            // Of one that is given twice the last counts.
            let property = |key: &str| {
                let mut options = options.iter().rev();
                options.find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
            };
            if let Some(text) = property("-Dotel.resource.attributes") {
                declared.attributes = resource_attributes(text).unwrap_or_default();
            }
            if let Some(name) = property("-Dotel.service.name").and_then(usable) {
                declared.service_name = Some(name);
            }
        }
        declared
    }

    /// From the bytes of `/proc/<pid>/environ`.
    pub(super) fn from_environ(environ: &[u8]) -> Self {
        Self::from_variables(variables(environ))
    }

    /// From names and values.
    pub(super) fn from_variables<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut declared = Self::default();
        for (name, value) in variables {
            match name {
                "OTEL_SERVICE_NAME" => declared.service_name = usable(value.trim()),
                "OTEL_RESOURCE_ATTRIBUTES" => {
                    declared.attributes = resource_attributes(value).unwrap_or_default();
                }
                _ => {}
            }
        }
        declared
    }

    /// All of it, with the declared name once.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let name = self
            .name()
            .map(|name| ("service.name".to_owned(), name.to_owned()));
        let rest = self
            .attributes
            .iter()
            .filter(|(key, _)| *key != "service.name");
        name.into_iter()
            .chain(rest.map(|(key, value)| (key.clone(), value.clone())))
            .collect()
    }

    /// The declared name: the variable made for it comes first.
    pub(super) fn name(&self) -> Option<&str> {
        self.service_name
            .as_deref()
            .or_else(|| self.attributes.get("service.name").map(String::as_str))
    }
}

/// The variables of an environment; those that are not UTF-8 are passed over.
fn variables(environ: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let variables = environ.split(|byte| *byte == 0);
    let variables = variables.filter_map(|variable| str::from_utf8(variable).ok());
    variables.filter_map(|variable| variable.split_once('='))
}

/// Empty values count as unset, and so do references that nobody has expanded.
fn usable(value: &str) -> Option<String> {
    let unexpanded = value.starts_with("$(") || value.starts_with("${");
    (!value.is_empty() && !unexpanded).then(|| value.to_owned())
}

/// `key=value,key=value` with percent-encoding. One broken entry discards them all, as the specification of the
/// variable asks for: an SDK in the same program would do so too.
fn resource_attributes(text: &str) -> Option<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    for entry in text.split(',').map(str::trim) {
        if entry.is_empty() {
            continue;
        }
        let (key, value) = entry.split_once('=')?;
        let key = percent_decode(key.trim()).filter(|key| !key.is_empty())?;
        if let Some(value) = usable(&percent_decode(value.trim())?) {
            attributes.insert(key, value);
        }
    }
    Some(attributes)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(text: &str) -> Vec<(String, String)> {
        let environ = format!("PATH=/bin\0OTEL_RESOURCE_ATTRIBUTES={text}\0");
        let declared = Declared::from_environ(environ.as_bytes());
        declared.attributes.into_iter().collect()
    }

    #[test]
    fn values_are_percent_decoded_and_trimmed() {
        let found = attributes(" service.name = caf%C3%A9%2Cbar , team=a%3Db,");
        let expected = [("service.name", "café,bar"), ("team", "a=b")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_broken_entry_discards_all_attributes() {
        for text in ["a=b,c", "a=b,=c", "a=b,c=%G1", "a=b,c=%1", "a=b,c=%ff"] {
            assert_eq!(attributes(text), [], "{text}");
        }
    }

    #[test]
    fn the_variable_for_the_name_comes_before_the_attributes() {
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=service.name=b\0OTEL_SERVICE_NAME=a\0";
        assert_eq!(Declared::from_environ(environ).name(), Some("a"));
    }

    #[test]
    fn empty_and_unexpanded_names_count_as_unset() {
        for value in ["", " ", "$(APP)", "${APP}"] {
            let environ =
                format!("OTEL_SERVICE_NAME={value}\0OTEL_RESOURCE_ATTRIBUTES=service.name=b");
            assert_eq!(
                Declared::from_environ(environ.as_bytes()).name(),
                Some("b"),
                "{value}"
            );
        }
    }

    #[test]
    fn variables_that_are_not_utf8_are_passed_over() {
        let environ = b"X=\xff\0\0OTEL_SERVICE_NAME=a";
        assert_eq!(Declared::from_environ(environ).name(), Some("a"));
    }
}
