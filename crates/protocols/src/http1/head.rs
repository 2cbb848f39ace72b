//! Heads of requests and responses: start line and header fields, whole or cut by the copy limit.

use std::mem::MaybeUninit;
use std::sync::Arc;

use httparse::{Header, ParserConfig};
use spandrel_model::Text;

use super::fields::{Body, RequestFields, text};
use super::known::KnownHeads;
use crate::protocol::{Detection, Sign};

/// Header fields of one head; a head with more is treated as cut.
const MAX_FIELDS: usize = 128;

/// Longest unknown method token.
const MAX_METHOD: usize = 32;

/// Methods of the semantic conventions' default list: all others are `_OTHER`.
const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY",
];

/// How a message's body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// By `Content-Length`.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection.
    UntilClose,
    /// It cannot be told: the head was cut or contradicts itself.
    Unknown,
}

/// What is kept of a request's head.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Text,
    /// As sent; `None` where the start line was cut before its end.
    pub(crate) target: Option<Text>,
    pub(crate) version: Option<u8>,
    pub(crate) fields: Arc<RequestFields>,
    pub(crate) framing: Framing,
    /// `CONNECT`, or an `Upgrade` field: what follows may be another protocol.
    pub(crate) may_switch: bool,
}

impl RequestHead {
    pub(crate) fn cost(&self) -> usize {
        let target = self.target.as_ref().map_or(0, |target| target.len());
        target + self.fields.cost() + self.method.len()
    }
}

/// What is kept of a response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) version: u8,
    pub(crate) framing: Framing,
}

/// What a response's head says for itself; its framing also depends on the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseFields {
    status: u16,
    version: u8,
    body: Body,
}

impl ResponseFields {
    fn head(&self, method: &str) -> ResponseHead {
        let framing = match self.status {
            100..=199 | 204 | 304 => Framing::Empty,
            _ if method == "HEAD" => Framing::Empty,
            200..=299 if method == "CONNECT" => Framing::Empty,
            _ => {
                let without = Framing::UntilClose;
                self.body
                    .framing(self.version, without, Framing::UntilClose)
            }
        };
        ResponseHead {
            status: self.status,
            version: self.version,
            framing,
        }
    }
}

/// Outcome of reading a head from the beginning of some bytes.
#[derive(Debug)]
pub(crate) enum Read<T> {
    /// A head of so many bytes.
    Head(T, usize),
    /// More bytes are needed.
    Partial,
    /// Not a head.
    Invalid,
}

fn known_method(token: &str) -> Text {
    let known = METHODS.iter().find(|method| **method == token);
    known.map_or_else(|| Text::copied(token), |method| Text::from_static(method))
}

/// Whether a method is one the conventions list.
pub(crate) fn is_known(method: &str) -> bool {
    METHODS.contains(&method)
}

fn fields<'a>() -> [MaybeUninit<Header<'a>>; MAX_FIELDS] {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

fn request_head(
    line: &httparse::Request<'_, '_>,
    fields: Arc<RequestFields>,
) -> Option<RequestHead> {
    let method = line.method?;
    let version = line.version?;
    Some(RequestHead {
        method: known_method(method),
        target: Some(Text::copied(line.path?)),
        version: Some(version),
        framing: fields
            .body
            .framing(version, Framing::Empty, Framing::Unknown),
        may_switch: method == "CONNECT" || fields.upgrades,
        fields,
    })
}

/// Reads a request's head.
pub(crate) fn read_request(bytes: &[u8], known: &mut KnownHeads) -> Read<RequestHead> {
    let line = memchr::memchr(b'\n', bytes).map_or(0, |end| end + 1);
    let block = bytes.get(line..).and_then(|rest| known.block(rest));
    let hashed = block.map(|block| (known.requests.hash(block), block));
    if let Some((hash, block)) = hashed
        && let Some(fields) = known.requests.get(hash, block)
        && let Some(head) = bytes.get(..line).and_then(|line| {
            let mut parsed = httparse::Request::new(&mut []);
            // A whole start line and nothing else: only the fields are missing.
            let partial = parsed.parse(line).is_ok_and(|status| status.is_partial());
            partial.then(|| request_head(&parsed, Arc::clone(fields)))?
        })
    {
        return Read::Head(head, line + block.len());
    }
    let mut storage = fields();
    let mut parsed = httparse::Request::new(&mut []);
    let length = match ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut storage,
    ) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Read::Partial,
        // The start line may be sound although a field is not: the server answers such a request too.
        Err(_) => return read_start_line_only(bytes),
    };
    let fields = Arc::new(RequestFields::new(parsed.headers));
    if let Some((hash, block)) = hashed
        && line + block.len() == length
        // Trace context makes each head another one.
        && fields.trace_parent.is_none()
    {
        let learned = || Arc::clone(&fields);
        known.requests.learn(hash, block, learned);
    }
    request_head(&parsed, fields).map_or(Read::Invalid, |head| Read::Head(head, length))
}

/// Reads a response's head; `method` is the request's.
pub(crate) fn read_response(
    bytes: &[u8],
    method: &str,
    known: &mut KnownHeads,
) -> Read<ResponseHead> {
    let block = known.block(bytes);
    let hashed = block.map(|block| (known.responses.hash(block), block));
    if let Some((hash, block)) = hashed
        && let Some(fields) = known.responses.get(hash, block)
    {
        return Read::Head(fields.head(method), block.len());
    }
    let mut storage = fields();
    let mut parsed = httparse::Response::new(&mut []);
    let length = match ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut storage,
    ) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Read::Partial,
        Err(_) => {
            return match (detect(bytes), head_end(bytes, 0), cut_response(bytes)) {
                (Detection::More, None, _) => Read::Partial,
                (
                    Detection::Found {
                        sign: Sign::Response,
                        ..
                    },
                    None,
                    _,
                ) => Read::Partial,
                (_, Some(length), Some(head)) => Read::Head(head, length),
                _ => Read::Invalid,
            };
        }
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Read::Invalid;
    };
    let mut body = Body::default();
    for field in parsed.headers.iter() {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                body.content_length(field.value);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                body.transfer_encoding(field.value);
            }
            _ => {}
        }
    }
    let fields = ResponseFields {
        status,
        version,
        body,
    };
    if let Some((hash, block)) = hashed
        && block.len() == length
    {
        known.responses.learn(hash, block, || fields);
    }
    Read::Head(fields.head(method), length)
}

/// Length of the head that begins here, if its end is among the bytes; `old` bytes were searched before.
pub(crate) fn head_end(bytes: &[u8], old: usize) -> Option<usize> {
    let leading = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let from = old.saturating_sub(3).max(leading);
    let new = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', new).find_map(|at| match new.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// A request whose fields are unsound still is one if its start line is sound: the server answers it too.
fn read_start_line_only(bytes: &[u8]) -> Read<RequestHead> {
    match (detect(bytes), head_end(bytes, 0)) {
        (
            Detection::Found {
                sign: Sign::Response,
                ..
            }
            | Detection::No,
            _,
        ) => Read::Invalid,
        (_, None) => Read::Partial,
        (_, Some(length)) => {
            let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            let line = start
                .and_then(|start| bytes.get(start..))
                .unwrap_or_default();
            let end = memchr::memchr(b'\n', line).unwrap_or(line.len());
            match line.get(..end).and_then(start_line) {
                Some(head) => Read::Head(head, length),
                None => Read::Invalid,
            }
        }
    }
}

/// What a head that was cut still says: the start line and the whole fields. Its framing is unknown.
pub(crate) fn cut_request(bytes: &[u8]) -> Option<RequestHead> {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let bytes = bytes.get(start..)?;
    let Some(line_end) = memchr::memchr(b'\n', bytes) else {
        // Not even the start line is whole. The path is, if the query has begun.
        let (method, rest) = split_method(bytes)?;
        let path = memchr::memchr(b'?', rest).and_then(|end| rest.get(..end));
        return Some(bare(method, path.map(text), None));
    };
    // Most cut heads are sound up to the cut: close them after their last whole field.
    let last = memchr::memrchr(b'\n', bytes).unwrap_or(line_end);
    let mut closed = bytes.get(..=last)?.to_vec();
    closed.extend_from_slice(b"\r\n");
    let mut storage = fields();
    let mut parsed = httparse::Request::new(&mut []);
    let sound = ParserConfig::default()
        .parse_request_with_uninit_headers(&mut parsed, &closed, &mut storage)
        .is_ok_and(|status| status.is_complete());
    if !sound {
        return start_line(bytes.get(..line_end)?);
    }
    match read_request(&closed, &mut KnownHeads::default()) {
        Read::Head(mut head, _) => {
            head.framing = Framing::Unknown;
            Some(head)
        }
        _ => None,
    }
}

fn start_line(line: &[u8]) -> Option<RequestHead> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (method, rest) = split_method(line)?;
    let space = memchr::memchr(b' ', rest)?;
    let version = match rest.get(space + 1..)? {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return None,
    };
    Some(bare(method, Some(text(rest.get(..space)?)), Some(version)))
}

fn bare(method: &str, target: Option<Text>, version: Option<u8>) -> RequestHead {
    RequestHead {
        method: known_method(method),
        target,
        version,
        fields: Arc::default(),
        framing: Framing::Unknown,
        may_switch: method == "CONNECT",
    }
}

fn split_method(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let space = memchr::memchr(b' ', bytes.get(..bytes.len().min(MAX_METHOD + 1))?)?;
    let token = bytes.get(..space)?;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if token.is_empty() || !token.iter().all(legal) {
        return None;
    }
    Some((std::str::from_utf8(token).ok()?, bytes.get(space + 1..)?))
}

/// What a response head that was cut still says.
pub(crate) fn cut_response(bytes: &[u8]) -> Option<ResponseHead> {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let line = bytes.get(start..)?;
    let version = match line.get(..9)? {
        b"HTTP/1.1 " => 1,
        b"HTTP/1.0 " => 0,
        _ => return None,
    };
    let digits = line.get(9..12)?;
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let after = line.get(12).copied().unwrap_or(b' ');
    let legal = (100..=999).contains(&status) && matches!(after, b' ' | b'\r' | b'\n');
    legal.then_some(ResponseHead {
        status,
        version,
        framing: match status {
            100..=199 | 204 | 304 => Framing::Empty,
            _ => Framing::Unknown,
        },
    })
}

/// Length of a PROXY protocol header (version 1 or 2) that a balancer puts before the first request.
pub(crate) fn proxy_header(bytes: &[u8]) -> Option<usize> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    // The longest line of version 1 has 107 bytes.
    if bytes.starts_with(b"PROXY TCP") || bytes.starts_with(b"PROXY UNKNOWN") {
        let line = bytes.get(..bytes.len().min(107))?;
        return memchr::memchr(b'\n', line).map(|end| end + 1);
    }
    let [high, low] = *bytes.strip_prefix(SIGNATURE)?.get(2..4)? else {
        return None;
    };
    Some(SIGNATURE.len() + 4 + usize::from(u16::from_be_bytes([high, low])))
}

/// Whether bytes at a message's beginning can be a head.
pub(crate) fn detect(bytes: &[u8]) -> Detection {
    let proxied = proxy_header(bytes).unwrap_or(0);
    let bytes = bytes.get(proxied..).unwrap_or_default();
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let bytes = bytes.get(start..).unwrap_or_default();
    if bytes.is_empty() {
        return Detection::More;
    }
    let prefix = b"HTTP/1.";
    if bytes.starts_with(prefix) {
        return match bytes.get(7..12) {
            Some([b'0' | b'1', b' ', status @ ..]) if status.iter().all(u8::is_ascii_digit) => {
                Detection::found(100, Sign::Response)
            }
            Some(_) => Detection::No,
            None => Detection::More,
        };
    }
    if prefix.starts_with(bytes) {
        return Detection::More;
    }
    let line = memchr::memchr(b'\n', bytes).and_then(|end| bytes.get(..end));
    if let Some(line) = line {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let sound = split_method(line).is_some()
            && (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"));
        return match sound {
            true => Detection::found(100, Sign::Request),
            false => Detection::No,
        };
    }
    match split_method(bytes) {
        Some((method, [])) if is_known(method) => Detection::More,
        Some((method, [first, ..])) if is_known(method) => match first {
            b'/' | b'*' | b'h' | b'H' => Detection::found(60, Sign::Request),
            _ if method == "CONNECT" => Detection::More,
            _ => Detection::No,
        },
        Some(_) => Detection::More,
        None if bytes.len() <= MAX_METHOD && bytes.iter().all(u8::is_ascii_alphabetic) => {
            Detection::More
        }
        None => Detection::No,
    }
}

/// Whether a message that begins so begins a head of this kind, as far as it can be told.
pub(crate) fn begins(bytes: &[u8], sign: Sign) -> bool {
    matches!(detect(bytes), Detection::Found { sign: found, .. } if found == sign)
}
