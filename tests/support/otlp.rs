//! OTLP JSON lines as flat records.

use std::collections::BTreeMap;

use serde_json::Value;

/// Attributes by name; integers are numbers, whatever OTLP JSON makes of them.
pub(crate) type Attributes = BTreeMap<String, Value>;

/// A span with its resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) resource: Attributes,
    pub(crate) scope: String,
    pub(crate) name: String,
    /// `server`, `client` and so on, in lower case.
    pub(crate) kind: &'static str,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) attributes: Attributes,
    /// `unset`, `ok` or `error`.
    pub(crate) status: &'static str,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: String,
    pub(crate) trace_state: String,
}

impl Span {
    /// The spans of an `ExportTraceServiceRequest`; none of any other line.
    pub(crate) fn of_line(line: &str) -> Vec<Self> {
        let request = parse(line);
        let mut spans = Vec::new();
        for group in list(&request, "resourceSpans") {
            let resource = attributes(&group["resource"]["attributes"]);
            for scope in list(group, "scopeSpans") {
                for span in list(scope, "spans") {
                    spans.push(Self::new(span, &resource, &text(&scope["scope"]["name"])));
                }
            }
        }
        spans
    }

    fn new(span: &Value, resource: &Attributes, scope: &str) -> Self {
        Self {
            resource: resource.clone(),
            scope: scope.to_owned(),
            name: text(&span["name"]),
            kind: match number(&span["kind"]) {
                1 => "internal",
                2 => "server",
                3 => "client",
                4 => "producer",
                5 => "consumer",
                _ => "unspecified",
            },
            start_ns: number(&span["startTimeUnixNano"]),
            end_ns: number(&span["endTimeUnixNano"]),
            attributes: attributes(&span["attributes"]),
            status: match number(&span["status"]["code"]) {
                1 => "ok",
                2 => "error",
                _ => "unset",
            },
            trace_id: text(&span["traceId"]),
            span_id: text(&span["spanId"]),
            parent_span_id: text(&span["parentSpanId"]),
            trace_state: text(&span["traceState"]),
        }
    }

    /// A string attribute; "" where it is missing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.attributes
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// An integer attribute.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.attributes.get(name).and_then(Value::as_i64)
    }

    pub(crate) fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// One data point of a metric with its resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricPoint {
    pub(crate) resource: Attributes,
    pub(crate) name: String,
    pub(crate) unit: String,
    /// `gauge`, `sum`, `histogram` or `exponentialHistogram`.
    pub(crate) kind: &'static str,
    /// 1 delta, 2 cumulative; 0 for gauges.
    pub(crate) temporality: u64,
    pub(crate) attributes: Attributes,
    /// Of histograms.
    pub(crate) count: u64,
    /// A histogram's sum or a number point's value.
    pub(crate) value: f64,
    /// The point as it came, for buckets and exemplars.
    pub(crate) point: Value,
}

impl MetricPoint {
    /// The points of an `ExportMetricsServiceRequest`; none of any other line.
    pub(crate) fn of_line(line: &str) -> Vec<Self> {
        let request = parse(line);
        let mut points = Vec::new();
        for group in list(&request, "resourceMetrics") {
            let resource = attributes(&group["resource"]["attributes"]);
            for metric in list(group, "scopeMetrics").flat_map(|scope| list(scope, "metrics")) {
                for kind in ["gauge", "sum", "histogram", "exponentialHistogram"] {
                    for point in list(&metric[kind], "dataPoints") {
                        points.push(Self::new(metric, kind, point, &resource));
                    }
                }
            }
        }
        points
    }

    fn new(metric: &Value, kind: &'static str, point: &Value, resource: &Attributes) -> Self {
        let value = ["sum", "asDouble", "asInt"]
            .iter()
            .map(|key| &point[*key])
            .find(|value| !value.is_null());
        Self {
            resource: resource.clone(),
            name: text(&metric["name"]),
            unit: text(&metric["unit"]),
            kind,
            temporality: number(&metric[kind]["aggregationTemporality"]),
            attributes: attributes(&point["attributes"]),
            count: number(&point["count"]),
            value: value.map_or(0.0, |value| {
                value
                    .as_f64()
                    .unwrap_or_else(|| text(value).parse().expect("a number"))
            }),
            point: point.clone(),
        }
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// 64-bit integers are strings in OTLP JSON, others are numbers; a missing one is 0.
fn number(value: &Value) -> u64 {
    match value {
        Value::String(digits) => digits.parse().expect("digits"),
        other => other.as_u64().unwrap_or(0),
    }
}

fn attributes(list: &Value) -> Attributes {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|entry| (text(&entry["key"]), any_value(&entry["value"])))
        .collect()
}

fn any_value(value: &Value) -> Value {
    let Some((kind, content)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match (kind.as_str(), content) {
        ("intValue", Value::String(digits)) => digits.parse::<i64>().expect("digits").into(),
        ("arrayValue", array) => list(array, "values").map(any_value).collect(),
        ("kvlistValue", map) => Value::Object(attributes(&map["values"]).into_iter().collect()),
        (_, other) => other.clone(),
    }
}
