//! What an exchange adds to the metrics, by the HTTP semantic conventions (stable).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use smallvec::SmallVec;
use spandrel_model::{
    Attribute, AttributeSet, Instrument, InstrumentKind, Measurement, SpanKind, Text, Value,
};

use super::span::{Spot, seconds};

const fn instrument(
    name: &'static str,
    unit: &'static str,
    description: &'static str,
) -> Instrument {
    Instrument {
        kind: InstrumentKind::Histogram,
        name,
        unit,
        description,
    }
}

static SERVER_DURATION: Instrument = instrument(
    "http.server.request.duration",
    "s",
    "Duration of HTTP server requests.",
);
static SERVER_REQUEST_SIZE: Instrument = instrument(
    "http.server.request.body.size",
    "By",
    "Size of HTTP server request bodies.",
);
static SERVER_RESPONSE_SIZE: Instrument = instrument(
    "http.server.response.body.size",
    "By",
    "Size of HTTP server response bodies.",
);
static CLIENT_DURATION: Instrument = instrument(
    "http.client.request.duration",
    "s",
    "Duration of HTTP client requests.",
);
static CLIENT_REQUEST_SIZE: Instrument = instrument(
    "http.client.request.body.size",
    "By",
    "Size of HTTP client request bodies.",
);
static CLIENT_RESPONSE_SIZE: Instrument = instrument(
    "http.client.response.body.size",
    "By",
    "Size of HTTP client response bodies.",
);

/// Places of the table, and the longest texts of one set in it.
const PLACES: usize = 1024;
const MAX_TEXTS: usize = 1024;

/// Sets of attributes that were made before: a series has the same ones again and again.
///
/// A table of fixed size, found by content, so it never changes a result.
#[derive(Debug, Default)]
pub(crate) struct MetricAttributes {
    places: Vec<Option<Box<Kept>>>,
    hasher: FixedState,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    set: AttributeSet,
}

/// What a set is made of.
#[derive(Debug)]
struct Key {
    kind: SpanKind,
    error: Option<Text>,
    method: Text,
    status: Option<u16>,
    route: Option<Text>,
    version: Option<&'static str>,
    address: Option<Text>,
    port: Option<u16>,
    scheme: Text,
}

impl Key {
    fn new(spot: &Spot) -> Self {
        let server = spot.kind == SpanKind::Server;
        Self {
            kind: spot.kind,
            error: spot.error.clone(),
            method: spot.method.clone(),
            status: spot.status,
            route: spot.route.as_ref().map(|route| route.template.clone()),
            version: spot.version,
            address: spot.address.clone().filter(|_| !server),
            port: spot.port.filter(|_| !server),
            scheme: spot.scheme.clone(),
        }
    }

    fn is(&self, spot: &Spot) -> bool {
        let server = spot.kind == SpanKind::Server;
        let route = spot.route.as_ref().map(|route| &route.template);
        self.kind == spot.kind
            && self.status == spot.status
            && self.method == spot.method
            && self.route.as_ref() == route
            && self.version == spot.version
            && (server || self.address == spot.address && self.port == spot.port)
            && self.scheme == spot.scheme
            && self.error == spot.error
    }

    /// In the order of their keys.
    fn set(&self) -> AttributeSet {
        let mut list: SmallVec<[Attribute; 8]> = SmallVec::new();
        let mut put = |key: &'static str, value: Value| {
            list.push(Attribute {
                key: Text::from_static(key),
                value,
            });
        };
        if let Some(error) = &self.error {
            put("error.type", error.clone().into());
        }
        put("http.request.method", self.method.clone().into());
        if let Some(status) = self.status {
            put("http.response.status_code", status.into());
        }
        if let Some(route) = &self.route {
            put("http.route", route.clone().into());
        }
        if let Some(version) = self.version {
            put("network.protocol.version", version.into());
        }
        if let Some(address) = &self.address {
            put("server.address", address.clone().into());
            if let Some(port) = self.port {
                put("server.port", port.into());
            }
        }
        put("url.scheme", self.scheme.clone().into());
        list.into_iter().collect()
    }

    fn texts(&self) -> usize {
        let length = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        length(&self.route) + length(&self.address)
    }
}

impl MetricAttributes {
    /// The attributes that all measurements of an exchange share.
    pub(super) fn of(&mut self, spot: &Spot) -> AttributeSet {
        let place = self.place(spot);
        if let Some(Some(kept)) = self.places.get(place)
            && kept.key.is(spot)
        {
            return kept.set.clone();
        }
        let key = Key::new(spot);
        let set = key.set();
        if key.texts() <= MAX_TEXTS {
            self.places.resize_with(PLACES, || None);
            if let Some(place) = self.places.get_mut(place) {
                let set = set.clone();
                *place = Some(Box::new(Kept { key, set }));
            }
        }
        set
    }

    /// By what differs most; the rest only has to be compared.
    fn place(&self, spot: &Spot) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u16(spot.status.unwrap_or(0));
        hasher.write(spot.method.as_bytes());
        if let Some(route) = &spot.route {
            hasher.write(route.template.as_bytes());
        }
        if spot.kind == SpanKind::Client {
            hasher.write(spot.address.as_deref().unwrap_or_default().as_bytes());
            hasher.write_u16(spot.port.unwrap_or(0));
        }
        hasher.finish() as usize % PLACES
    }
}

pub(super) fn measurements(spot: &Spot, server: bool) -> SmallVec<[Measurement; 3]> {
    let (duration, request, response) = match server {
        true => (
            &SERVER_DURATION,
            &SERVER_REQUEST_SIZE,
            &SERVER_RESPONSE_SIZE,
        ),
        false => (
            &CLIENT_DURATION,
            &CLIENT_REQUEST_SIZE,
            &CLIENT_RESPONSE_SIZE,
        ),
    };
    let mut list = SmallVec::new();
    list.push(Measurement {
        instrument: duration,
        value: seconds(spot.end.since(spot.start)),
    });
    for (instrument, size) in [(request, spot.request_size), (response, spot.response_size)] {
        if let Some(size) = size {
            list.push(Measurement {
                instrument,
                value: size as f64,
            });
        }
    }
    list
}
