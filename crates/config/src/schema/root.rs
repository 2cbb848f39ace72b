//! The top level, the resource and the areas Spandrel has no part in.
use super::{
    BOOL, EMPTY, FREE_MAP, Field, INCLUDE_EXCLUDE, Map, NON_NEGATIVE, Rest, Shape, TEXT, TEXTS,
    logs, metrics, spandrel, traces,
};

static ATTRIBUTE_TYPE: Shape = Shape::Word(&[
    "string",
    "bool",
    "int",
    "double",
    "string_array",
    "bool_array",
    "int_array",
    "double_array",
]);
static ATTRIBUTE: Shape = Shape::Map(&Map::closed(&[
    Field::new("name", &TEXT)
        .required()
        .acts("Name of an attribute of every resource."),
    Field::new("value", &Shape::Attribute).acts("Its value."),
    Field::new("type", &ATTRIBUTE_TYPE).acts("Type of its value; string if absent."),
]));
static DETECTOR: Shape = Shape::OneOf(&Map::open(&[
    Field::new("container", &EMPTY),
    Field::new("host", &EMPTY),
    Field::new("process", &EMPTY),
    Field::new("service", &EMPTY),
    Field::new("env", &EMPTY),
]));
static DETECTION: Shape = Shape::Map(&Map::closed(&[
    Field::new("entities_enabled", &BOOL),
    Field::new("attributes", &INCLUDE_EXCLUDE),
    Field::new(
        "detectors",
        &Shape::List {
            of: &DETECTOR,
            min: 1,
        },
    ),
]));
static RESOURCE: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "attributes",
        &Shape::List {
            of: &ATTRIBUTE,
            min: 0,
        },
    ),
    Field::new("attributes_list", &TEXT)
        .acts("More attributes, as key=value,key=value; those of `attributes` win."),
    Field::new("schema_url", &TEXT)
        .unused("the schema URL is the one of the attributes Spandrel writes"),
    Field::new("detection/development", &DETECTION)
        .unused("each observed service gets its own resource, found from the kernel"),
]));
static ATTRIBUTE_LIMITS: Shape = Shape::Map(&Map::closed(&[
    Field::new("attribute_value_length_limit", &NON_NEGATIVE).acts(
        "Longest text of an attribute of a span, in characters; a longer one is cut, and counted.",
    ),
    Field::new("attribute_value_depth_limit", &NON_NEGATIVE)
        .unused("values have no depth: they are texts, numbers and lists of texts"),
    Field::new("attribute_count_limit", &NON_NEGATIVE).acts(
        "Most attributes of a span; what is left out is counted in its dropped_attributes_count.",
    ),
]));
static PROPAGATORS: Shape = Shape::OneOf(&Map::open(&[
    Field::new("tracecontext", &EMPTY),
    Field::new("baggage", &EMPTY),
    Field::new("b3", &EMPTY),
    Field::new("b3multi", &EMPTY),
    Field::new("jaeger", &EMPTY),
    Field::new("ottrace", &EMPTY),
    Field::new("xray", &EMPTY),
]));
static PROPAGATOR: Shape = Shape::Map(&Map::closed(&[
    Field::new(
        "composite",
        &Shape::List {
            of: &PROPAGATORS,
            min: 1,
        },
    ),
    Field::new("composite_list", &TEXT),
]));

static SEMCONV: Shape = Shape::Map(&Map::closed(&[
    Field::new("version", &NON_NEGATIVE),
    Field::new("experimental", &BOOL),
    Field::new("dual_emit", &BOOL),
]));
static HTTP_SIDE: Shape = Shape::Map(&Map::closed(&[
    Field::new("request_captured_headers", &TEXTS),
    Field::new("response_captured_headers", &TEXTS),
    Field::new("known_methods", &TEXTS),
]));
static HTTP: Shape = Shape::Map(&Map::closed(&[
    Field::new("semconv", &SEMCONV),
    Field::new("client", &HTTP_SIDE),
    Field::new("server", &HTTP_SIDE),
]));
static WITH_SEMCONV: Shape = Shape::Map(&Map::closed(&[Field::new("semconv", &SEMCONV)]));
static PEER: Shape = Shape::Map(&Map::closed(&[
    Field::new("peer", &TEXT).required(),
    Field::new("service", &TEXT).required(),
]));
static PEERS: Shape = Shape::Map(&Map::closed(&[Field::new(
    "service_mapping",
    &Shape::List { of: &PEER, min: 1 },
)]));
static SANITIZATION: Shape = Shape::Map(&Map {
    fields: &[],
    rest: Rest::Free,
});
static GENERAL: Shape = Shape::Map(&Map::closed(&[
    Field::new("http", &HTTP),
    Field::new("code", &WITH_SEMCONV),
    Field::new("db", &WITH_SEMCONV),
    Field::new("gen_ai", &WITH_SEMCONV),
    Field::new("messaging", &WITH_SEMCONV),
    Field::new("rpc", &WITH_SEMCONV),
    Field::new("peer", &PEERS),
    Field::new("sanitization", &SANITIZATION),
    Field::new("stability_opt_in_list", &TEXT),
    Field::new("semconv_stability_opt_in", &TEXTS),
]));
static INSTRUMENTATION: Shape = Shape::Map(&Map::closed(&[
    Field::new("general", &GENERAL),
    Field::new("cpp", &FREE_MAP),
    Field::new("dotnet", &FREE_MAP),
    Field::new("erlang", &FREE_MAP),
    Field::new("go", &FREE_MAP),
    Field::new("java", &FREE_MAP),
    Field::new("js", &FREE_MAP),
    Field::new("php", &FREE_MAP),
    Field::new("python", &FREE_MAP),
    Field::new("ruby", &FREE_MAP),
    Field::new("rust", &FREE_MAP),
    Field::new("swift", &FREE_MAP),
]));
static DISTRIBUTION: Shape = Shape::Map(&Map::open(&[Field::new("spandrel", &spandrel::BLOCK)
    .doc("Everything of Spandrel that the OpenTelemetry schema has no key for.")]));

pub(crate) static MAP: Map = Map::open(&[
    Field::new("file_format", &TEXT).required().describes(
        "Version of the OpenTelemetry declarative configuration schema: \"1.0\" or \"1.1\".",
    ),
    Field::new("stability", &TEXT).unused("keys under development are always accepted"),
    Field::new("disabled", &BOOL).acts("True captures and sends nothing."),
    Field::new("log_level", &logs::SEVERITY).acts("Least severity of the agent's own log."),
    Field::new("resource", &RESOURCE),
    Field::new("attribute_limits", &ATTRIBUTE_LIMITS),
    Field::new("propagator", &PROPAGATOR)
        .unused("Spandrel reads traceparent and changes no request"),
    Field::new("tracer_provider", &traces::PROVIDER),
    Field::new("meter_provider", &metrics::PROVIDER),
    Field::new("logger_provider", &logs::PROVIDER).unused("Spandrel sends no logs"),
    Field::new("instrumentation/development", &INSTRUMENTATION)
        .unused("protocols are set under distribution.spandrel.protocols"),
    Field::new("distribution", &DISTRIBUTION),
]);
pub(crate) static ROOT: Shape = Shape::Map(&MAP);
