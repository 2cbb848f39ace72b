//! `logger_provider`: checked like the rest, although Spandrel sends no logs.
use super::otlp::{CONSOLE, FILE, GRPC, HTTP};
use super::{BOOL, Field, Map, NON_NEGATIVE, POSITIVE, Shape, TEXT};

static EXPORTER: Shape = Shape::OneOf(&Map::open(&[
    Field::new("otlp_http", &HTTP),
    Field::new("otlp_grpc", &GRPC),
    Field::new("otlp_file/development", &FILE),
    Field::new("console", CONSOLE),
]));
static BATCH: Shape = Shape::Map(&Map::closed(&[
    Field::new("schedule_delay", &NON_NEGATIVE),
    Field::new("export_timeout", &NON_NEGATIVE),
    Field::new("max_queue_size", &POSITIVE),
    Field::new("max_export_batch_size", &POSITIVE),
    Field::new("exporter", &EXPORTER).required(),
]));
static SIMPLE: Shape = Shape::Map(&Map::closed(
    &[Field::new("exporter", &EXPORTER).required()],
));
static EVENT_BRIDGE: Shape = Shape::Map(&Map::closed(&[]));
static PROCESSOR: Shape = Shape::OneOf(&Map::open(&[
    Field::new("batch", &BATCH),
    Field::new("simple", &SIMPLE),
    Field::new("event_to_span_event_bridge/development", &EVENT_BRIDGE),
]));
static LIMITS: Shape = Shape::Map(&Map::closed(&[
    Field::new("attribute_value_length_limit", &NON_NEGATIVE),
    Field::new("attribute_value_depth_limit", &NON_NEGATIVE),
    Field::new("attribute_count_limit", &NON_NEGATIVE),
]));

/// Severities of the log data model, lower case as in the stable schema.
pub(crate) static SEVERITY: Shape = Shape::Word(&[
    "trace", "trace2", "trace3", "trace4", "debug", "debug2", "debug3", "debug4", "info", "info2",
    "info3", "info4", "warn", "warn2", "warn3", "warn4", "error", "error2", "error3", "error4",
    "fatal", "fatal2", "fatal3", "fatal4",
]);
static LOGGER: Shape = Shape::Map(&Map::closed(&[
    Field::new("disabled", &BOOL),
    Field::new("enabled", &BOOL),
    Field::new("minimum_severity", &SEVERITY),
    Field::new("trace_based", &BOOL),
]));
static LOGGER_MATCH: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT).required(),
    Field::new("config", &LOGGER).required(),
]));
static CONFIGURATOR: Shape = Shape::Map(&Map::closed(&[
    Field::new("default_config", &LOGGER),
    Field::new(
        "loggers",
        &Shape::List {
            of: &LOGGER_MATCH,
            min: 1,
        },
    ),
]));

pub(crate) static PROVIDER: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "processors",
        &Shape::List {
            of: &PROCESSOR,
            min: 1,
        },
    )
    .required(),
    Field::new("limits", &LIMITS),
    Field::new("logger_configurator/development", &CONFIGURATOR),
]));
