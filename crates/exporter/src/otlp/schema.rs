//! The fields of OTLP's messages, as far as OTLP/JSON needs to know them: number, name and kind.

/// How a field's value is written in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// Identifiers, which OTLP/JSON writes in hex and not in base64.
    Hex,
    Base64,
    Bool,
    /// 32-bit integers and enumerations: a number.
    Small,
    /// The same, zigzag on the wire.
    Zigzag,
    /// `uint64` and `fixed64`: a decimal string.
    Unsigned,
    /// A packed list of `uint64`, which has varints where all other lists have 8 bytes for each.
    Varints,
    /// `int64` and `sfixed64`: a decimal string.
    Signed,
    Double,
    Message(&'static [Field]),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

const fn one(number: u64, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        repeated: false,
    }
}

const fn many(number: u64, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        repeated: true,
    }
}

const fn message(fields: &'static [Field]) -> Kind {
    Kind::Message(fields)
}

/// `ExportTraceServiceRequest`
pub(super) static TRACES: [Field; 1] = [many(1, "resourceSpans", message(&RESOURCE_SPANS))];
/// `ExportMetricsServiceRequest`
pub(super) static METRICS: [Field; 1] = [many(1, "resourceMetrics", message(&RESOURCE_METRICS))];
/// `ExportLogsServiceRequest`
pub(super) static LOGS: [Field; 1] = [many(1, "resourceLogs", message(&RESOURCE_LOGS))];

static RESOURCE_SPANS: [Field; 3] = [
    one(1, "resource", message(&RESOURCE)),
    many(2, "scopeSpans", message(&SCOPE_SPANS)),
    one(3, "schemaUrl", Kind::Text),
];
static SCOPE_SPANS: [Field; 3] = [
    one(1, "scope", message(&SCOPE)),
    many(2, "spans", message(&SPAN)),
    one(3, "schemaUrl", Kind::Text),
];
static SPAN: [Field; 16] = [
    one(1, "traceId", Kind::Hex),
    one(2, "spanId", Kind::Hex),
    one(3, "traceState", Kind::Text),
    one(4, "parentSpanId", Kind::Hex),
    one(5, "name", Kind::Text),
    one(6, "kind", Kind::Small),
    one(7, "startTimeUnixNano", Kind::Unsigned),
    one(8, "endTimeUnixNano", Kind::Unsigned),
    many(9, "attributes", message(&KEY_VALUE)),
    one(10, "droppedAttributesCount", Kind::Small),
    many(11, "events", message(&EVENT)),
    one(12, "droppedEventsCount", Kind::Small),
    many(13, "links", message(&LINK)),
    one(14, "droppedLinksCount", Kind::Small),
    one(15, "status", message(&STATUS)),
    one(16, "flags", Kind::Small),
];
static EVENT: [Field; 4] = [
    one(1, "timeUnixNano", Kind::Unsigned),
    one(2, "name", Kind::Text),
    many(3, "attributes", message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", Kind::Small),
];
static LINK: [Field; 6] = [
    one(1, "traceId", Kind::Hex),
    one(2, "spanId", Kind::Hex),
    one(3, "traceState", Kind::Text),
    many(4, "attributes", message(&KEY_VALUE)),
    one(5, "droppedAttributesCount", Kind::Small),
    one(6, "flags", Kind::Small),
];
static STATUS: [Field; 2] = [one(2, "message", Kind::Text), one(3, "code", Kind::Small)];

static RESOURCE: [Field; 3] = [
    many(1, "attributes", message(&KEY_VALUE)),
    one(2, "droppedAttributesCount", Kind::Small),
    many(3, "entityRefs", message(&ENTITY_REF)),
];
static ENTITY_REF: [Field; 4] = [
    one(1, "schemaUrl", Kind::Text),
    one(2, "type", Kind::Text),
    many(3, "idKeys", Kind::Text),
    many(4, "descriptionKeys", Kind::Text),
];
static SCOPE: [Field; 4] = [
    one(1, "name", Kind::Text),
    one(2, "version", Kind::Text),
    many(3, "attributes", message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", Kind::Small),
];
static KEY_VALUE: [Field; 2] = [
    one(1, "key", Kind::Text),
    one(2, "value", message(&ANY_VALUE)),
];
static ANY_VALUE: [Field; 7] = [
    one(1, "stringValue", Kind::Text),
    one(2, "boolValue", Kind::Bool),
    one(3, "intValue", Kind::Signed),
    one(4, "doubleValue", Kind::Double),
    one(5, "arrayValue", message(&ARRAY_VALUE)),
    one(6, "kvlistValue", message(&KEY_VALUE_LIST)),
    one(7, "bytesValue", Kind::Base64),
];
static ARRAY_VALUE: [Field; 1] = [many(1, "values", message(&ANY_VALUE))];
static KEY_VALUE_LIST: [Field; 1] = [many(1, "values", message(&KEY_VALUE))];

static RESOURCE_METRICS: [Field; 3] = [
    one(1, "resource", message(&RESOURCE)),
    many(2, "scopeMetrics", message(&SCOPE_METRICS)),
    one(3, "schemaUrl", Kind::Text),
];
static SCOPE_METRICS: [Field; 3] = [
    one(1, "scope", message(&SCOPE)),
    many(2, "metrics", message(&METRIC)),
    one(3, "schemaUrl", Kind::Text),
];
static METRIC: [Field; 9] = [
    one(1, "name", Kind::Text),
    one(2, "description", Kind::Text),
    one(3, "unit", Kind::Text),
    one(5, "gauge", message(&GAUGE)),
    one(7, "sum", message(&SUM)),
    one(9, "histogram", message(&HISTOGRAM)),
    one(10, "exponentialHistogram", message(&EXPONENTIAL)),
    one(11, "summary", message(&SUMMARY)),
    many(12, "metadata", message(&KEY_VALUE)),
];
static GAUGE: [Field; 1] = [many(1, "dataPoints", message(&NUMBER_POINT))];
static SUM: [Field; 3] = [
    many(1, "dataPoints", message(&NUMBER_POINT)),
    one(2, "aggregationTemporality", Kind::Small),
    one(3, "isMonotonic", Kind::Bool),
];
static HISTOGRAM: [Field; 2] = [
    many(1, "dataPoints", message(&HISTOGRAM_POINT)),
    one(2, "aggregationTemporality", Kind::Small),
];
static EXPONENTIAL: [Field; 2] = [
    many(1, "dataPoints", message(&EXPONENTIAL_POINT)),
    one(2, "aggregationTemporality", Kind::Small),
];
static SUMMARY: [Field; 1] = [many(1, "dataPoints", message(&SUMMARY_POINT))];
static NUMBER_POINT: [Field; 7] = [
    one(2, "startTimeUnixNano", Kind::Unsigned),
    one(3, "timeUnixNano", Kind::Unsigned),
    one(4, "asDouble", Kind::Double),
    many(5, "exemplars", message(&EXEMPLAR)),
    one(6, "asInt", Kind::Signed),
    many(7, "attributes", message(&KEY_VALUE)),
    one(8, "flags", Kind::Small),
];
static HISTOGRAM_POINT: [Field; 11] = [
    one(2, "startTimeUnixNano", Kind::Unsigned),
    one(3, "timeUnixNano", Kind::Unsigned),
    one(4, "count", Kind::Unsigned),
    one(5, "sum", Kind::Double),
    many(6, "bucketCounts", Kind::Unsigned),
    many(7, "explicitBounds", Kind::Double),
    many(8, "exemplars", message(&EXEMPLAR)),
    many(9, "attributes", message(&KEY_VALUE)),
    one(10, "flags", Kind::Small),
    one(11, "min", Kind::Double),
    one(12, "max", Kind::Double),
];
static EXPONENTIAL_POINT: [Field; 14] = [
    many(1, "attributes", message(&KEY_VALUE)),
    one(2, "startTimeUnixNano", Kind::Unsigned),
    one(3, "timeUnixNano", Kind::Unsigned),
    one(4, "count", Kind::Unsigned),
    one(5, "sum", Kind::Double),
    one(6, "scale", Kind::Zigzag),
    one(7, "zeroCount", Kind::Unsigned),
    one(8, "positive", message(&BUCKETS)),
    one(9, "negative", message(&BUCKETS)),
    one(10, "flags", Kind::Small),
    many(11, "exemplars", message(&EXEMPLAR)),
    one(12, "min", Kind::Double),
    one(13, "max", Kind::Double),
    one(14, "zeroThreshold", Kind::Double),
];
static BUCKETS: [Field; 2] = [
    one(1, "offset", Kind::Zigzag),
    many(2, "bucketCounts", Kind::Varints),
];
static SUMMARY_POINT: [Field; 7] = [
    one(2, "startTimeUnixNano", Kind::Unsigned),
    one(3, "timeUnixNano", Kind::Unsigned),
    one(4, "count", Kind::Unsigned),
    one(5, "sum", Kind::Double),
    many(6, "quantileValues", message(&QUANTILE)),
    many(7, "attributes", message(&KEY_VALUE)),
    one(8, "flags", Kind::Small),
];
static QUANTILE: [Field; 2] = [
    one(1, "quantile", Kind::Double),
    one(2, "value", Kind::Double),
];
static EXEMPLAR: [Field; 6] = [
    one(2, "timeUnixNano", Kind::Unsigned),
    one(3, "asDouble", Kind::Double),
    one(4, "spanId", Kind::Hex),
    one(5, "traceId", Kind::Hex),
    one(6, "asInt", Kind::Signed),
    many(7, "filteredAttributes", message(&KEY_VALUE)),
];

static RESOURCE_LOGS: [Field; 3] = [
    one(1, "resource", message(&RESOURCE)),
    many(2, "scopeLogs", message(&SCOPE_LOGS)),
    one(3, "schemaUrl", Kind::Text),
];
static SCOPE_LOGS: [Field; 3] = [
    one(1, "scope", message(&SCOPE)),
    many(2, "logRecords", message(&LOG_RECORD)),
    one(3, "schemaUrl", Kind::Text),
];
static LOG_RECORD: [Field; 11] = [
    one(1, "timeUnixNano", Kind::Unsigned),
    one(2, "severityNumber", Kind::Small),
    one(3, "severityText", Kind::Text),
    one(5, "body", message(&ANY_VALUE)),
    many(6, "attributes", message(&KEY_VALUE)),
    one(7, "droppedAttributesCount", Kind::Small),
    one(8, "flags", Kind::Small),
    one(9, "traceId", Kind::Hex),
    one(10, "spanId", Kind::Hex),
    one(11, "observedTimeUnixNano", Kind::Unsigned),
    one(12, "eventName", Kind::Text),
];
