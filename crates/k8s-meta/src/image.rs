//! References to images: `[domain/]path[:tag][@digest]`, by the grammar that registries and runtimes share.

/// A reference, taken apart. Nothing is added to it: `nginx` stays `nginx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Domain and path, as written.
    pub name: &'a str,
    /// The tag, where there is one.
    pub tag: Option<&'a str>,
    /// `<algorithm>:<hexadecimal digits>`, where there is one.
    pub digest: Option<&'a str>,
}

const MAX_NAME: usize = 255;

impl<'a> Reference<'a> {
    /// `None` for what the grammar does not allow, and for a bare id (`sha256:<digits>`), which names no image.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) || is_digest(rest) {
            return None;
        }
        // The colon of a port stands before the last slash, that of a tag after it.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(last..)?.find(':') {
            Some(colon) => {
                let (name, tag) = rest.split_at_checked(last + colon)?;
                (name, Some(tag.get(1..)?))
            }
            None => (rest, None),
        };
        let fine = is_name(name) && tag.is_none_or(is_tag);
        fine.then_some(Self { name, tag, digest })
    }

    /// What `service.version` is where nothing else tells: `<tag>@<digest>`, or the one of them that there is.
    pub fn version(&self) -> Option<String> {
        match (self.tag, self.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (None, Some(only)) | (Some(only), None) => Some(only.to_owned()),
            (None, None) => None,
        }
    }
}

/// The image by its digest, from the `imageID` of a container's status; `None` where that is the id of the image's
/// configuration, which says nothing about a repository.
pub fn repo_digest(image_id: &str) -> Option<&str> {
    let text = image_id
        .split_once("://")
        .map_or(image_id, |(_, text)| text);
    let reference = Reference::parse(text)?;
    reference.digest.map(|_| text)
}

/// The reference of what runs, as it was asked for where that is the same image.
///
/// A pod's images can be replaced in place: then the pod asks for the next one while the last one still runs, and the
/// status alone tells. It may have another tag of the same image, or none; empty is unknown.
pub(crate) fn running<'a>(asked: &'a str, image: &'a str, image_id: &'a str) -> &'a str {
    let by_name = Reference::parse(image);
    let digest = repo_digest(image_id);
    let by_digest = digest.and_then(Reference::parse);
    let same = Reference::parse(asked).is_some_and(|asked| match (asked.digest, &by_name) {
        (None, Some(runs)) => {
            runs.digest.is_none()
                && same_name(asked.name, runs.name)
                && asked.tag.unwrap_or("latest") == runs.tag.unwrap_or("latest")
        }
        (None, None) => false,
        (wanted, _) => by_digest
            .as_ref()
            .is_some_and(|it| it.digest == wanted && same_name(asked.name, it.name)),
    });
    if same {
        asked
    } else if by_name.is_some() {
        image
    } else {
        digest.unwrap_or("")
    }
}

/// Runtimes write out what is understood of Docker Hub.
fn same_name(left: &str, right: &str) -> bool {
    fn short(name: &str) -> &str {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        name.strip_prefix("library/").unwrap_or(name)
    }
    short(left) == short(right)
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let named = algorithm.starts_with(|first: char| first.is_ascii_alphabetic())
        && algorithm
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+.-_".contains(&byte));
    named && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

fn is_name(text: &str) -> bool {
    if text.len() > MAX_NAME {
        return false;
    }
    let mut parts = text.split('/').peekable();
    let Some(first) = parts.next() else {
        return false;
    };
    if parts.peek().is_none() {
        return is_component(first);
    }
    (is_component(first) || is_domain(first)) && parts.all(is_component)
}

/// Words of small letters and digits, with one dot, one or two underscores or any number of dashes between them.
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fringe = |byte: Option<u8>| byte.is_some_and(word);
    let bytes = text.as_bytes();
    fringe(bytes.first().copied())
        && fringe(bytes.last().copied())
        && bytes
            .split(|byte| word(*byte))
            .all(|between| matches!(between, b"" | b"." | b"_" | b"__") || all_dashes(between))
}

fn all_dashes(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == b'-')
}

/// A host name or a bracketed IPv6 address, with or without a port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match port.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if port.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.is_none_or(|host| host.split('.').all(label))
        && port
            .is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
