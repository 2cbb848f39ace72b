//! What is kept of a head's fields, and of which body they tell.

use httparse::Header;
use spandrel_model::Text;

use super::head::Framing;
use super::target::split_authority;
use crate::trace_context::{MAX_TRACE_STATE, TraceParent};

/// What is kept of the fields of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestFields {
    /// Host and port of the `Host` field, where it is sound.
    pub(crate) authority: Option<(Text, Option<u16>)>,
    pub(crate) user_agent: Option<Text>,
    pub(crate) trace_parent: Option<TraceParent>,
    pub(crate) trace_state: Text,
    pub(crate) expects_continue: bool,
    pub(crate) upgrades: bool,
    pub(crate) body: Body,
}

impl RequestFields {
    pub(super) fn new(fields: &[Header<'_>]) -> Self {
        let mut kept = Self::default();
        let mut trace_parents = 0;
        let mut trace_state = String::new();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") => {
                    let host = text(field.value);
                    let parts = split_authority(&host);
                    kept.authority = parts.map(|(name, port)| (Text::copied(name), port));
                }
                6 if is("expect") => {
                    kept.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue");
                }
                7 if is("upgrade") => kept.upgrades = true,
                10 if is("user-agent") => kept.user_agent = Some(text(field.value)),
                10 if is("tracestate") => {
                    if !trace_state.is_empty() {
                        trace_state.push(',');
                    }
                    trace_state.push_str(&text(field.value));
                }
                11 if is("traceparent") => {
                    trace_parents += 1;
                    kept.trace_parent = TraceParent::parse(field.value);
                }
                14 if is("content-length") => kept.body.content_length(field.value),
                17 if is("transfer-encoding") => kept.body.transfer_encoding(field.value),
                _ => {}
            }
        }
        // More than one traceparent is as good as none, and tracestate counts only with a valid one.
        if trace_parents != 1 {
            kept.trace_parent = None;
        }
        if kept.trace_parent.is_some() && trace_state.len() <= MAX_TRACE_STATE {
            kept.trace_state = trace_state.into();
        }
        kept
    }

    pub(super) fn cost(&self) -> usize {
        let length = |text: Option<&Text>| text.map_or(0, |text| text.len());
        length(self.authority.as_ref().map(|(name, _)| name))
            + length(self.user_agent.as_ref())
            + self.trace_state.len()
    }
}

/// What the fields say of the body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Body {
    length: Option<u64>,
    coding: Option<bool>,
    contradictory: bool,
}

impl Body {
    pub(super) fn content_length(&mut self, value: &[u8]) {
        // A list of equal values is allowed; anything else makes the framing void.
        for part in value.split(|&byte| byte == b',') {
            let digits = part.trim_ascii();
            let number = std::str::from_utf8(digits)
                .ok()
                .filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
                .and_then(|text| text.parse::<u64>().ok());
            match (number, self.length) {
                (None, _) => self.contradictory = true,
                (Some(new), Some(old)) if new != old => self.contradictory = true,
                (number, _) => self.length = number,
            }
        }
    }

    pub(super) fn transfer_encoding(&mut self, value: &[u8]) {
        let last = value.rsplit(|&byte| byte == b',').next().unwrap_or(value);
        self.coding = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    }

    pub(super) fn framing(&self, version: u8, without: Framing, not_chunked: Framing) -> Framing {
        match (self.coding, self.length) {
            // HTTP/1.0 knows no transfer codings: the framing is faulty, says section 6.1.
            (Some(_), _) if version == 0 => Framing::Unknown,
            // Transfer-Encoding overrides Content-Length.
            (Some(true), _) => Framing::Chunked,
            (Some(false), _) => not_chunked,
            (None, _) if self.contradictory => Framing::Unknown,
            (None, Some(0)) => Framing::Empty,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => without,
        }
    }
}

/// The bytes as text; what is not UTF-8 is replaced.
pub(super) fn text(value: &[u8]) -> Text {
    match std::str::from_utf8(value) {
        Ok(text) => Text::copied(text),
        Err(_) => String::from_utf8_lossy(value).into_owned().into(),
    }
}
