//! The types of the OpenTelemetry SDK: our spans as `SpanData`, for any `SpanExporter` there is.

mod exporters;
mod metrics;

pub use exporters::SharedExporter;
pub use metrics::SdkMetricSink;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use spandrel_model as model;
use spandrel_model::{Ledger, SpanRecord};

use crate::carried::{Carried, Signal};
use crate::otlp::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};
use crate::reason;

fn string(text: model::Text) -> StringValue {
    String::from(text).into()
}

/// An attribute as the SDK has it.
pub fn key_value(attribute: model::Attribute) -> KeyValue {
    let value = match attribute.value {
        model::Value::Bool(value) => Value::Bool(value),
        model::Value::I64(value) => Value::I64(value),
        model::Value::F64(value) => Value::F64(value),
        model::Value::Str(value) => Value::String(string(value)),
        model::Value::StrArray(values) => {
            Value::Array(Array::String(values.into_iter().map(string).collect()))
        }
    };
    KeyValue::new(String::from(attribute.key), value)
}

/// A resource as the SDK has it.
pub fn resource(resource: &model::Resource) -> opentelemetry_sdk::Resource {
    let attributes = resource.attributes().iter().cloned().map(key_value);
    opentelemetry_sdk::Resource::builder_empty()
        .with_schema_url(attributes, SCHEMA_URL)
        .build()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SCOPE_NAME)
        .with_version(SCOPE_VERSION)
        .with_schema_url(SCHEMA_URL)
        .build()
}

fn time(time: model::UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(time.0)
}

/// A span as the SDK has it. A `tracestate` that the SDK cannot read is left out.
pub fn span_data(span: SpanRecord) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(span.trace_id.0),
            SpanId::from_bytes(span.span_id.0),
            TraceFlags::new(span.trace_flags),
            false,
            span.trace_state.parse::<TraceState>().unwrap_or_default(),
        ),
        parent_span_id: span
            .parent_span_id
            .map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.0)),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.kind {
            model::SpanKind::Internal => SpanKind::Internal,
            model::SpanKind::Server => SpanKind::Server,
            model::SpanKind::Client => SpanKind::Client,
            model::SpanKind::Producer => SpanKind::Producer,
            model::SpanKind::Consumer => SpanKind::Consumer,
        },
        name: span.name.into(),
        start_time: time(span.start),
        end_time: time(span.end),
        attributes: span.attributes.into_iter().map(key_value).collect(),
        dropped_attributes_count: span.dropped_attributes,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match span.status {
            model::SpanStatus::Unset => Status::Unset,
            model::SpanStatus::Error(text) => Status::error(text),
        },
        instrumentation_scope: scope(),
    }
}

/// Hands spans to an exporter of the SDK, one call for each resource, because such an exporter knows one at a time.
///
/// It tells success from failure and no more: there is no retry here and no count of what a backend rejected.
#[derive(Debug)]
pub struct SdkSpanSink<E> {
    exporter: E,
    ledger: Arc<Ledger>,
}

impl<E: SpanExporter> SdkSpanSink<E> {
    /// A sink in front of an exporter.
    pub fn new(exporter: E, ledger: Arc<Ledger>) -> Self {
        Self { exporter, ledger }
    }

    /// Exports spans, grouped by resource in the order of appearance.
    pub async fn export(
        &mut self,
        spans: impl IntoIterator<Item = (Arc<model::Resource>, SpanRecord)>,
    ) {
        let mut groups: Vec<(Arc<model::Resource>, Vec<SpanData>)> = Vec::new();
        let mut carried = Carried::new(Arc::clone(&self.ledger), Signal::Traces);
        for (owner, span) in spans {
            carried.see(1);
            let known = groups
                .iter_mut()
                .rev()
                .find(|(other, _)| other.id() == owner.id());
            match known {
                Some((_, group)) => group.push(span_data(span)),
                None => groups.push((owner, vec![span_data(span)])),
            }
        }
        for (owner, group) in groups {
            let part = carried.split(group.len() as u64);
            self.exporter.set_resource(&resource(&owner));
            match self.exporter.export(group).await {
                Ok(()) => part.settle(),
                Err(error) => {
                    tracing::warn!(%error, spans = part.count(), "the SDK exporter failed");
                    part.drop_for(reason::SDK_FAILED);
                }
            }
        }
    }

    /// Shuts the exporter down.
    pub fn shutdown(self) -> OTelSdkResult {
        self.exporter.shutdown()
    }
}
