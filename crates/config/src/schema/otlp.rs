//! The exporters that several signals share.
use super::{BOOL, EMPTY, Field, Map, NON_NEGATIVE, Shape, TEXT};

static HEADER: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT)
        .required()
        .acts("Name of a header of each request."),
    Field::new("value", &TEXT).acts("Its value; without one it is not sent."),
]));
pub(crate) static HEADERS: Shape = Shape::List {
    of: &HEADER,
    min: 0,
};
const CA: &str = "PEM file of the authorities to trust, in place of the system's.";
const KEY: &str = "PEM file of the client's key; goes with cert_file.";
const CERT: &str = "PEM file of the client's certificate; goes with key_file.";
static HTTP_TLS: Shape = Shape::Map(&Map::closed(&[
    Field::new("ca_file", &TEXT).acts(CA),
    Field::new("key_file", &TEXT).acts(KEY),
    Field::new("cert_file", &TEXT).acts(CERT),
]));
pub(crate) static GRPC_TLS: Shape = Shape::Map(&Map::closed(&[
    Field::new("ca_file", &TEXT).acts(CA),
    Field::new("key_file", &TEXT).acts(KEY),
    Field::new("cert_file", &TEXT).acts(CERT),
    Field::new("insecure", &BOOL).acts("Plaintext where the endpoint names no scheme."),
]));
const ENCODED: &str = "protobuf or json.";
static ENCODING: Shape = Shape::Word(&["protobuf", "json"]);
const REQUEST_SIZE: &str = "Most bytes of a request before compression that are ever sent; 0 is no limit. A larger one is split.";
const RESPONSE_SIZE: &str =
    "Most bytes of an answer, compressed or not, that are read; 0 is no limit.";

macro_rules! otlp_fields {
    ($tls:expr, [$($more:expr),*]) => {
        &[
            Field::new("endpoint", &TEXT).acts("The complete URL: no path is added."),
            Field::new("tls", &$tls),
            Field::new("headers", &HEADERS),
            Field::new("headers_list", &TEXT).acts("More headers, as key=value,key=value; those of `headers` win."),
            Field::new("compression", &TEXT).acts("gzip, zstd or none; a warning names any other."),
            Field::new("timeout", &NON_NEGATIVE).acts("Longest time of one attempt in milliseconds; 0 is no limit."),
            Field::new("max_request_size", &NON_NEGATIVE).acts(REQUEST_SIZE),
            Field::new("max_response_size", &NON_NEGATIVE).acts(RESPONSE_SIZE),
            $($more),*
        ]
    };
}

const COUNTS_FROM: &str = "What a histogram counts from: the start, or the last export.";
const BUCKETS: &str = "Kind of the histograms.";
pub(crate) static TEMPORALITY: Shape = Shape::Word(&["cumulative", "delta", "low_memory"]);
pub(crate) static HISTOGRAM: Shape = Shape::Word(&[
    "explicit_bucket_histogram",
    "base2_exponential_bucket_histogram",
]);

pub(crate) static HTTP: Shape = Shape::Map(&Map::closed(otlp_fields!(
    HTTP_TLS,
    [Field::new("encoding", &ENCODING).acts(ENCODED)]
)));
pub(crate) static GRPC: Shape = Shape::Map(&Map::closed(otlp_fields!(GRPC_TLS, [])));
const STREAM: &str = "stdout, or file:///path/to/file.jsonl.";
pub(crate) static FILE: Shape = Shape::Map(&Map::closed(&[
    Field::new("output_stream", &TEXT).acts(STREAM)
]));
pub(crate) static CONSOLE: &Shape = &EMPTY;

pub(crate) static METRIC_HTTP: Shape = Shape::Map(&Map::closed(otlp_fields!(
    HTTP_TLS,
    [
        Field::new("encoding", &ENCODING).acts(ENCODED),
        Field::new("temporality_preference", &TEMPORALITY).acts(COUNTS_FROM),
        Field::new("default_histogram_aggregation", &HISTOGRAM).acts(BUCKETS)
    ]
)));
pub(crate) static METRIC_GRPC: Shape = Shape::Map(&Map::closed(otlp_fields!(
    GRPC_TLS,
    [
        Field::new("temporality_preference", &TEMPORALITY).acts(COUNTS_FROM),
        Field::new("default_histogram_aggregation", &HISTOGRAM).acts(BUCKETS)
    ]
)));
pub(crate) static METRIC_FILE: Shape = Shape::Map(&Map::closed(&[
    Field::new("output_stream", &TEXT).acts(STREAM),
    Field::new("temporality_preference", &TEMPORALITY).acts(COUNTS_FROM),
    Field::new("default_histogram_aggregation", &HISTOGRAM).acts(BUCKETS),
]));
pub(crate) static METRIC_CONSOLE: Shape = Shape::Map(&Map::closed(&[
    Field::new("temporality_preference", &TEMPORALITY).acts(COUNTS_FROM),
    Field::new("default_histogram_aggregation", &HISTOGRAM).acts(BUCKETS),
]));
