//! Options of a Java virtual machine, from its command line and its environment.

use super::language::{language, program};

/// Whether a program is a Java virtual machine.
pub(in crate::identity) fn is_java(executable: &str) -> bool {
    language(executable).is_some_and(|language| language.interprets("java"))
}

/// The options, in the order in which the machine takes them: what comes later overrides. The arguments behind the class
/// or the archive are the program's own.
pub(in crate::identity) fn options<'a>(
    arguments: &[String],
    variable: impl Fn(&str) -> Option<&'a str>,
) -> Vec<String> {
    let own = arguments.get(1..).unwrap_or_default();
    let behind = language("java").and_then(|java| program(java, own));
    let behind = behind.map_or(0, |(_, rest)| rest.len() + 1);
    let own = own.get(..own.len().saturating_sub(behind));
    let of = |name| variable(name).map(words).unwrap_or_default();
    let mut options = of("JAVA_TOOL_OPTIONS");
    options.extend(of("JDK_JAVA_OPTIONS"));
    options.extend(own.unwrap_or_default().iter().cloned());
    options.extend(of("_JAVA_OPTIONS"));
    options
}

/// Separated by white space outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in text.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => word.push(letter),
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            None if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            None => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_where_the_program_begins_and_come_in_the_order_of_their_weight() {
        let line = "java -Xmx1g -Da=1 -cp a.jar -Da=2 com.example.Main -Da=3";
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let found = options(&arguments, |name| match name {
            "JAVA_TOOL_OPTIONS" => Some(" -javaagent:/a.jar -Dname='my shop' "),
            "_JAVA_OPTIONS" => Some("-Da=4"),
            _ => None,
        });
        let expected = [
            "-javaagent:/a.jar",
            "-Dname=my shop",
            "-Xmx1g",
            "-Da=1",
            "-cp",
            "a.jar",
            "-Da=2",
            "-Da=4",
        ];
        assert_eq!(found, expected);
        assert_eq!(options(&[], |_| None), Vec::<String>::new());
    }
}
