//! `meter_provider`.
use super::otlp::{METRIC_CONSOLE, METRIC_FILE, METRIC_GRPC, METRIC_HTTP};
use super::{BOOL, EMPTY, Field, INCLUDE_EXCLUDE, Map, NON_NEGATIVE, POSITIVE, Shape, TEXT};

static CARDINALITY: Shape = Shape::Map(&Map::closed(&[
    Field::new("default", &POSITIVE)
        .acts("Most attribute sets of one metric; the rest goes to otel.metric.overflow."),
    Field::new("histogram", &POSITIVE).acts("The same for histograms; wins over `default`."),
    Field::new("counter", &POSITIVE).unused(NO_SUCH),
    Field::new("gauge", &POSITIVE).unused(NO_SUCH),
    Field::new("observable_counter", &POSITIVE).unused(NO_SUCH),
    Field::new("observable_gauge", &POSITIVE).unused(NO_SUCH),
    Field::new("observable_up_down_counter", &POSITIVE).unused(NO_SUCH),
    Field::new("up_down_counter", &POSITIVE).unused(NO_SUCH),
]));
const NO_SUCH: &str = "the metrics of captured traffic are histograms";

static EXPORTER: Shape = Shape::OneOf(&Map::open(&[
    Field::new("otlp_http", &METRIC_HTTP),
    Field::new("otlp_grpc", &METRIC_GRPC),
    Field::new("otlp_file/development", &METRIC_FILE),
    Field::new("console", &METRIC_CONSOLE),
]));
static PROMETHEUS: Shape = Shape::Map(&Map::closed(&[
    Field::new("host", &TEXT),
    Field::new(
        "port",
        &Shape::Int {
            min: 0,
            max: 65_535,
        },
    ),
    Field::new("without_scope_info", &BOOL),
    Field::new("without_target_info", &BOOL),
    Field::new("scope_info_enabled", &BOOL),
    Field::new("target_info_enabled", &BOOL),
    Field::new("resource_constant_labels", &INCLUDE_EXCLUDE),
    Field::new("with_resource_constant_labels", &INCLUDE_EXCLUDE),
    Field::new("translation_strategy", &TRANSLATION),
]));
static TRANSLATION: Shape = Shape::Word(&[
    "underscore_escaping_with_suffixes",
    "underscore_escaping_without_suffixes",
    "no_utf8_escaping_with_suffixes",
    "no_translation",
    "underscore_escaping_without_suffixes/development",
    "no_utf8_escaping_with_suffixes/development",
    "no_translation/development",
]);
static PULL_EXPORTER: Shape = Shape::OneOf(&Map::open(&[Field::new(
    "prometheus/development",
    &PROMETHEUS,
)]));
static PRODUCER: Shape = Shape::OneOf(&Map::open(&[Field::new("opencensus", &EMPTY)]));
static PRODUCERS: Shape = Shape::List {
    of: &PRODUCER,
    min: 1,
};
static PERIODIC: Shape = Shape::Map(&Map::closed(&[
    Field::new("interval", &NON_NEGATIVE).acts("Time between two exports."),
    Field::new("timeout", &NON_NEGATIVE).unused(
        "an export ends by the exporter's timeout and by \
         distribution.spandrel.export.retry_on_failure.max_elapsed_time",
    ),
    Field::new("exporter", &EXPORTER).required(),
    Field::new("producers", &PRODUCERS).unused("there are no other producers in Spandrel"),
    Field::new("cardinality_limits", &CARDINALITY),
    Field::new("max_export_batch_size", &POSITIVE)
        .unused("batches are bounded by distribution.spandrel.export.max_request_bytes"),
]));
static PULL: Shape = Shape::Map(&Map::closed(&[
    Field::new("exporter", &PULL_EXPORTER).required(),
    Field::new("producers", &PRODUCERS),
    Field::new("cardinality_limits", &CARDINALITY),
]));
static READER: Shape = Shape::OneOf(&Map::closed(&[
    Field::new("periodic", &PERIODIC),
    Field::new("pull", &PULL).unused("Spandrel pushes its metrics; use a periodic reader"),
]));

static INSTRUMENT: Shape = Shape::Word(&[
    "counter",
    "gauge",
    "histogram",
    "observable_counter",
    "observable_gauge",
    "observable_up_down_counter",
    "up_down_counter",
]);
static SELECTOR: Shape = Shape::Map(&Map::closed(&[
    Field::new("instrument_name", &TEXT),
    Field::new("instrument_type", &INSTRUMENT),
    Field::new("unit", &TEXT),
    Field::new("meter_name", &TEXT),
    Field::new("meter_version", &TEXT),
    Field::new("meter_schema_url", &TEXT),
]));
static EXPLICIT: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "boundaries",
        &Shape::List {
            of: &NUMBER,
            min: 0,
        },
    ),
    Field::new("record_min_max", &BOOL),
]));
static NUMBER: Shape = Shape::Number {
    min: f64::MIN,
    max: f64::MAX,
};
static EXPONENTIAL: Shape = Shape::Map(&Map::closed(&[
    Field::new("max_scale", &Shape::Int { min: -10, max: 20 }),
    Field::new(
        "max_size",
        &Shape::Int {
            min: 2,
            max: 100_000,
        },
    ),
    Field::new("record_min_max", &BOOL),
]));
static AGGREGATION: Shape = Shape::OneOf(&Map::closed(&[
    Field::new("default", &EMPTY),
    Field::new("drop", &EMPTY),
    Field::new("explicit_bucket_histogram", &EXPLICIT),
    Field::new("base2_exponential_bucket_histogram", &EXPONENTIAL),
    Field::new("last_value", &EMPTY),
    Field::new("sum", &EMPTY),
]));
static STREAM: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT),
    Field::new("description", &TEXT),
    Field::new("aggregation", &AGGREGATION),
    Field::new("aggregation_cardinality_limit", &POSITIVE),
    Field::new("attribute_keys", &INCLUDE_EXCLUDE),
    Field::new("enabled/development", &BOOL),
]));
static VIEW: Shape = Shape::Map(&Map::closed(&[
    Field::new("selector", &SELECTOR).required(),
    Field::new("stream", &STREAM).required(),
]));
static MATCHING: Shape = Shape::Word(&["independent", "composable"]);
static METER: Shape = Shape::Map(&Map::closed(&[
    Field::new("disabled", &BOOL),
    Field::new("enabled", &BOOL),
]));
static METER_MATCH: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT).required(),
    Field::new("config", &METER).required(),
]));
static CONFIGURATOR: Shape = Shape::Map(&Map::closed(&[
    Field::new("default_config", &METER),
    Field::new(
        "meters",
        &Shape::List {
            of: &METER_MATCH,
            min: 1,
        },
    ),
]));

pub(crate) static PROVIDER: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "readers",
        &Shape::List {
            of: &READER,
            min: 1,
        },
    )
    .required(),
    Field::new("views", &Shape::List { of: &VIEW, min: 1 })
        .unused("the metrics keep their names, attributes and aggregation"),
    Field::new("view_matching_mode/development", &MATCHING).unused("views have no effect"),
    Field::new(
        "exemplar_filter",
        &Shape::Word(&["always_on", "always_off", "trace_based"]),
    )
    .acts("always_off leaves exemplars out; the others are the same, for every span is sampled."),
    Field::new("meter_configurator/development", &CONFIGURATOR)
        .unused("Spandrel has a single meter"),
]));
