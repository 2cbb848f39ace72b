//! `tracer_provider`.
use super::otlp::{CONSOLE, FILE, GRPC, HTTP};
use super::{ANYTHING, BOOL, EMPTY, Field, Map, NON_NEGATIVE, POSITIVE, RATIO, Shape, TEXT, TEXTS};

static ZIPKIN: Shape = Shape::Map(&Map::closed(&[
    Field::new("endpoint", &TEXT),
    Field::new("timeout", &NON_NEGATIVE),
]));
pub(crate) static EXPORTER: Shape = Shape::OneOf(&Map::open(&[
    Field::new("otlp_http", &HTTP),
    Field::new("otlp_grpc", &GRPC),
    Field::new("otlp_file/development", &FILE),
    Field::new("console", CONSOLE)
        .acts("Standard output, as distribution.spandrel.export.console.format says."),
    Field::new("zipkin", &ZIPKIN).unused("Spandrel does not export to Zipkin"),
]));
static BATCH: Shape = Shape::Map(&Map::closed(&[
    Field::new("schedule_delay", &NON_NEGATIVE).acts("Longest time that a span waits for others."),
    Field::new("export_timeout", &NON_NEGATIVE).unused(
        "an export ends by the exporter's timeout and by \
         distribution.spandrel.export.retry_on_failure.max_elapsed_time",
    ),
    Field::new("max_queue_size", &POSITIVE).unused(
        "what waits is bounded in bytes by distribution.spandrel.export.sending_queue.queue_size",
    ),
    Field::new("max_export_batch_size", &POSITIVE).acts("Most spans in one request."),
    Field::new("exporter", &EXPORTER).required(),
]));
static SIMPLE: Shape = Shape::Map(&Map::closed(
    &[Field::new("exporter", &EXPORTER).required()],
));
static PROCESSOR: Shape = Shape::OneOf(&Map::open(&[
    Field::new("batch", &BATCH),
    Field::new("simple", &SIMPLE),
]));
static PROCESSORS: Shape = Shape::List {
    of: &PROCESSOR,
    min: 1,
};

pub(crate) static LIMITS: Shape = Shape::Map(&Map::closed(&[
    Field::new("attribute_value_length_limit", &NON_NEGATIVE).acts(
        "Longest text of an attribute of a span, in characters; a longer one is cut, and counted.",
    ),
    Field::new("attribute_value_depth_limit", &NON_NEGATIVE)
        .unused("values have no depth: they are texts, numbers and lists of texts"),
    Field::new("attribute_count_limit", &NON_NEGATIVE).acts(
        "Most attributes of a span; what is left out is counted in its dropped_attributes_count.",
    ),
    Field::new("event_count_limit", &NON_NEGATIVE).unused("spans have no events"),
    Field::new("link_count_limit", &NON_NEGATIVE).unused("spans have no links"),
    Field::new("event_attribute_count_limit", &NON_NEGATIVE).unused("spans have no events"),
    Field::new("link_attribute_count_limit", &NON_NEGATIVE).unused("spans have no links"),
]));

static WITH_RATIO: Shape = Shape::Map(&Map::closed(&[
    Field::new("ratio", &RATIO).acts("The share of all traces that is kept.")
]));
static PARENT_BASED: Shape = Shape::Map(&Map::closed(&[
    Field::new("root", &SAMPLER),
    Field::new("remote_parent_sampled", &SAMPLER),
    Field::new("remote_parent_not_sampled", &SAMPLER),
    Field::new("local_parent_sampled", &SAMPLER),
    Field::new("local_parent_not_sampled", &SAMPLER),
]));
static ALWAYS_RECORD: Shape = Shape::Map(&Map::closed(&[Field::new("root", &SAMPLER)]));
static JAEGER_REMOTE: Shape = Shape::Map(&Map::closed(&[
    Field::new("endpoint", &TEXT).required(),
    Field::new("interval", &NON_NEGATIVE),
    Field::new("initial_sampler", &SAMPLER).required(),
]));
static SAMPLER: Shape = Shape::OneOf(&Map::open(&[
    Field::new("always_on", &EMPTY).acts("Every span is kept."),
    Field::new("always_off", &EMPTY).acts("No span is kept."),
    Field::new("always_record", &ALWAYS_RECORD),
    Field::new("parent_based", &PARENT_BASED),
    Field::new("trace_id_ratio_based", &WITH_RATIO),
    Field::new("probability/development", &WITH_RATIO),
    Field::new("composite/development", &COMPOSABLE)
        .unused("composite samplers are not supported; every span that comes to it is kept"),
    Field::new("jaeger_remote/development", &JAEGER_REMOTE)
        .unused("samplers are not fetched over the network; its initial_sampler decides"),
]));
static COMPOSABLE: Shape = Shape::OneOf(&Map::open(&[
    Field::new("always_on", &EMPTY),
    Field::new("always_off", &EMPTY),
    Field::new("probability", &WITH_RATIO),
    Field::new("parent_threshold", &THRESHOLD),
    Field::new("parent_based", &COMPOSABLE_PARENT),
    Field::new("annotating", &ANYTHING),
    Field::new("rule_based", &RULE_BASED),
]));
static THRESHOLD: Shape = Shape::Map(&Map::closed(&[Field::new("root", &COMPOSABLE).required()]));
static COMPOSABLE_PARENT: Shape = Shape::Map(&Map::closed(&[
    Field::new("root", &COMPOSABLE),
    Field::new("remote_parent_sampled", &COMPOSABLE),
    Field::new("remote_parent_not_sampled", &COMPOSABLE),
    Field::new("local_parent_sampled", &COMPOSABLE),
    Field::new("local_parent_not_sampled", &COMPOSABLE),
]));
static ATTRIBUTE_VALUES: Shape = Shape::Map(&Map::closed(&[
    Field::new("key", &TEXT).required(),
    Field::new("values", &TEXTS).required(),
]));
static ATTRIBUTE_PATTERNS: Shape = Shape::Map(&Map::closed(&[
    Field::new("key", &TEXT).required(),
    Field::new("included", &TEXTS),
    Field::new("excluded", &TEXTS),
]));
static PARENTS: Shape = Shape::List {
    of: &Shape::Word(&["none", "remote", "local"]),
    min: 1,
};
static KINDS: Shape = Shape::List {
    of: &Shape::Word(&["internal", "server", "client", "producer", "consumer"]),
    min: 1,
};
static RULE: Shape = Shape::Map(&Map::closed(&[
    Field::new("attribute_values", &ATTRIBUTE_VALUES),
    Field::new("attribute_patterns", &ATTRIBUTE_PATTERNS),
    Field::new("span_kinds", &KINDS),
    Field::new("parent", &PARENTS),
    Field::new("sampler", &COMPOSABLE).required(),
]));
static RULES: Shape = Shape::List { of: &RULE, min: 1 };
static RULE_BASED: Shape = Shape::Map(&Map::closed(&[Field::new("rules", &RULES)]));

static ID_GENERATOR: Shape = Shape::OneOf(&Map::open(&[Field::new("random", &EMPTY)]));
static TRACER: Shape = Shape::Map(&Map::closed(&[
    Field::new("disabled", &BOOL),
    Field::new("enabled", &BOOL),
]));
static TRACER_MATCH: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT).required(),
    Field::new("config", &TRACER).required(),
]));
static CONFIGURATOR: Shape = Shape::Map(&Map::closed(&[
    Field::new("default_config", &TRACER),
    Field::new(
        "tracers",
        &Shape::List {
            of: &TRACER_MATCH,
            min: 1,
        },
    ),
]));

pub(crate) static PROVIDER: Shape = Shape::Map(&Map::closed(&[
    Field::new("processors", &PROCESSORS).required(),
    Field::new("limits", &LIMITS),
    Field::new("sampler", &SAMPLER),
    Field::new("id_generator", &ID_GENERATOR).unused("span identifiers are always random"),
    Field::new("tracer_configurator/development", &CONFIGURATOR)
        .unused("Spandrel has a single tracer"),
]));
