//! The exporters that several signals share.
use super::{BOOL, EMPTY, Field, Map, NON_NEGATIVE, Shape, TEXT};

static HEADER: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT).required(),
    Field::new("value", &TEXT),
]));
pub(crate) static HEADERS: Shape = Shape::List {
    of: &HEADER,
    min: 0,
};
static HTTP_TLS: Shape = Shape::Map(&Map::closed(&[
    Field::new("ca_file", &TEXT),
    Field::new("key_file", &TEXT),
    Field::new("cert_file", &TEXT),
]));
pub(crate) static GRPC_TLS: Shape = Shape::Map(&Map::closed(&[
    Field::new("ca_file", &TEXT),
    Field::new("key_file", &TEXT),
    Field::new("cert_file", &TEXT),
    Field::new("insecure", &BOOL),
]));
static ENCODING: Shape = Shape::Word(&["protobuf", "json"]);
const BY_SIZE: &str = "sizes are set by distribution.spandrel.export.max_request_bytes";
const BY_DEFAULT_SIZE: &str = "the size of a response is bounded at 4 MiB";

macro_rules! otlp_fields {
    ($tls:expr, [$($more:expr),*]) => {
        &[
            Field::new("endpoint", &TEXT),
            Field::new("tls", &$tls),
            Field::new("headers", &HEADERS),
            Field::new("headers_list", &TEXT),
            Field::new("compression", &TEXT),
            Field::new("timeout", &NON_NEGATIVE),
            Field::new("max_request_size", &NON_NEGATIVE).unused(BY_SIZE),
            Field::new("max_response_size", &NON_NEGATIVE).unused(BY_DEFAULT_SIZE),
            $($more),*
        ]
    };
}

pub(crate) static TEMPORALITY: Shape = Shape::Word(&["cumulative", "delta", "low_memory"]);
pub(crate) static HISTOGRAM: Shape = Shape::Word(&[
    "explicit_bucket_histogram",
    "base2_exponential_bucket_histogram",
]);

pub(crate) static HTTP: Shape = Shape::Map(&Map::closed(otlp_fields!(
    HTTP_TLS,
    [Field::new("encoding", &ENCODING)]
)));
pub(crate) static GRPC: Shape = Shape::Map(&Map::closed(otlp_fields!(GRPC_TLS, [])));
pub(crate) static FILE: Shape = Shape::Map(&Map::closed(&[Field::new("output_stream", &TEXT)]));
pub(crate) static CONSOLE: &Shape = &EMPTY;

pub(crate) static METRIC_HTTP: Shape = Shape::Map(&Map::closed(otlp_fields!(
    HTTP_TLS,
    [
        Field::new("encoding", &ENCODING),
        Field::new("temporality_preference", &TEMPORALITY),
        Field::new("default_histogram_aggregation", &HISTOGRAM)
    ]
)));
pub(crate) static METRIC_GRPC: Shape = Shape::Map(&Map::closed(otlp_fields!(
    GRPC_TLS,
    [
        Field::new("temporality_preference", &TEMPORALITY),
        Field::new("default_histogram_aggregation", &HISTOGRAM)
    ]
)));
pub(crate) static METRIC_FILE: Shape = Shape::Map(&Map::closed(&[
    Field::new("output_stream", &TEXT),
    Field::new("temporality_preference", &TEMPORALITY),
    Field::new("default_histogram_aggregation", &HISTOGRAM),
]));
pub(crate) static METRIC_CONSOLE: Shape = Shape::Map(&Map::closed(&[
    Field::new("temporality_preference", &TEMPORALITY),
    Field::new("default_histogram_aggregation", &HISTOGRAM),
]));
