//! Heads of requests and responses: start line and header fields, whole or cut by the copy limit.

use std::mem::MaybeUninit;
use std::sync::Arc;

use httparse::{Header, ParserConfig};
use spandrel_model::Text;

use super::detect::{MAX_METHOD, detect};
use super::fields::{Body, RequestFields, text};
use super::known::KnownHeads;
use crate::protocol::{Detection, Sign};

/// Header fields that are read without memory of their own.
const MAX_FIELDS: usize = 128;

/// Methods of the semantic conventions' default list: all others are `_OTHER`.
pub(super) const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY",
];

/// How heads begin: responses, the methods of the registry that are common, and those of WebDAV.
pub(super) const SIGNS: &[[u8; 4]] = &[
    *b"HTTP", *b"GET ", *b"POST", *b"PUT ", *b"DELE", *b"HEAD", *b"PATC", *b"OPTI", *b"CONN",
    *b"TRAC", *b"QUER", *b"PROP", *b"MKCO", *b"COPY", *b"MOVE", *b"LOCK", *b"UNLO", *b"REPO",
    *b"SEAR", *b"PURG",
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
    /// Not all fields were seen.
    pub(crate) cut: bool,
}

impl RequestHead {
    /// A first line of which nothing can be told.
    pub(crate) fn malformed() -> Self {
        bare("", None, None)
    }

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
        cut: false,
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
        Err(_) => return read_unusual_request(bytes),
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
        Err(_) => return read_unusual_response(bytes, method),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Read::Invalid;
    };
    let fields = ResponseFields {
        status,
        version,
        body: body_of(parsed.headers),
    };
    if let Some((hash, block)) = hashed
        && block.len() == length
    {
        known.responses.learn(hash, block, || fields);
    }
    Read::Head(fields.head(method), length)
}

/// What a response's fields say of its body.
fn body_of(fields: &[Header<'_>]) -> Body {
    let mut body = Body::default();
    for field in fields {
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
    body
}

/// How many line ends stand before a head.
pub(crate) fn blanks(bytes: &[u8]) -> usize {
    let blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    bytes.iter().take_while(blank).count()
}

/// Length of the head that begins here, if its end is among the bytes; `old` bytes were searched before.
pub(crate) fn head_end(bytes: &[u8], old: usize) -> Option<usize> {
    let from = old.saturating_sub(3).max(blanks(bytes));
    let new = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', new).find_map(|at| match new.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// A head that the strict grammar refuses: servers answer many of them.
struct Unusual<'a> {
    line: &'a [u8],
    /// The fields and the empty line behind them.
    block: &'a [u8],
    length: usize,
}

/// Splits a whole head; `None` where its end is not there.
fn split_head(bytes: &[u8]) -> Option<Unusual<'_>> {
    let length = head_end(bytes, 0)?;
    let head = bytes.get(blanks(bytes)..length)?;
    let end = memchr::memchr(b'\n', head)?;
    Some(Unusual {
        line: head.get(..end)?,
        block: head.get(end + 1..)?,
        length,
    })
}

/// The fields of a block, of any number; `None` where one of them is unsound.
fn read_fields<T>(block: &[u8], read: impl FnOnce(&[Header<'_>]) -> T) -> Option<T> {
    let mut storage = vec![httparse::EMPTY_HEADER; memchr::memchr_iter(b'\n', block).count()];
    match httparse::parse_headers(block, &mut storage) {
        Ok(httparse::Status::Complete((_, fields))) => Some(read(fields)),
        Ok(httparse::Status::Partial) | Err(_) => None,
    }
}

/// A request whose start line or fields are unusual, or that has very many fields. Where a field is unsound the start
/// line counts, and nothing is known of the body.
fn read_unusual_request(bytes: &[u8]) -> Read<RequestHead> {
    if matches!(
        detect(bytes),
        Detection::No
            | Detection::Found {
                sign: Sign::Response,
                ..
            }
    ) {
        return Read::Invalid;
    }
    let Some(head) = split_head(bytes) else {
        return Read::Partial;
    };
    let Some(mut request) = start_line(head.line) else {
        return Read::Invalid;
    };
    request.cut = false;
    if let Some(fields) = read_fields(head.block, RequestFields::new) {
        let version = request.version.unwrap_or(1);
        request.framing = fields
            .body
            .framing(version, Framing::Empty, Framing::Unknown);
        request.may_switch |= fields.upgrades;
        request.fields = Arc::new(fields);
    }
    Read::Head(request, head.length)
}

fn read_unusual_response(bytes: &[u8], method: &str) -> Read<ResponseHead> {
    let Some(head) = split_head(bytes) else {
        return match detect(bytes) {
            Detection::No
            | Detection::Found {
                sign: Sign::Request,
                ..
            } => Read::Invalid,
            _ => Read::Partial,
        };
    };
    let Some(status_line) = cut_response(bytes) else {
        return Read::Invalid;
    };
    let fields = read_fields(head.block, |fields| ResponseFields {
        status: status_line.status,
        version: status_line.version,
        body: body_of(fields),
    });
    let response = fields.map_or(status_line, |fields| fields.head(method));
    Read::Head(response, head.length)
}

/// What a head that was cut still says: the start line and the whole fields. Its framing is unknown.
pub(crate) fn cut_request(bytes: &[u8]) -> Option<RequestHead> {
    let bytes = bytes.get(blanks(bytes)..)?;
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
    match read_request(&closed, &mut KnownHeads::default()) {
        Read::Head(mut head, _) => {
            head.framing = Framing::Unknown;
            head.cut = true;
            Some(head)
        }
        Read::Partial | Read::Invalid => start_line(bytes.get(..line_end)?),
    }
}

/// The minor version that `HTTP/1.x` names: RFC 9112 section 2.3 has all of them read as 1.1.
fn minor_version(text: &[u8]) -> Option<u8> {
    match text.strip_prefix(b"HTTP/1.")? {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

/// The target is what stands between the method and the version, blanks within it included.
pub(super) fn start_line(line: &[u8]) -> Option<RequestHead> {
    let (method, rest) = split_method(line.trim_ascii_end())?;
    let space = memchr::memrchr2(b' ', b'\t', rest)?;
    let version = minor_version(rest.get(space + 1..)?)?;
    let target = rest.get(..space)?.trim_ascii();
    if target.is_empty() {
        return None;
    }
    Some(bare(method, Some(text(target)), Some(version)))
}

fn bare(method: &str, target: Option<Text>, version: Option<u8>) -> RequestHead {
    RequestHead {
        method: known_method(method),
        target,
        version,
        fields: Arc::default(),
        framing: Framing::Unknown,
        may_switch: method == "CONNECT",
        cut: true,
    }
}

pub(super) fn split_method(bytes: &[u8]) -> Option<(&str, &[u8])> {
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
    let line = bytes.get(blanks(bytes)..)?;
    let version = minor_version(line.get(..8)?)?;
    if line.get(8) != Some(&b' ') {
        return None;
    }
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
