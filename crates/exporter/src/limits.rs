//! Bounds that a backend sets on attributes: kept before sending, and counted, in place of being lost over there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use spandrel_model::{Attribute, DestinationAccounts, Resource, SpanRecord, Text, Value};

use crate::metrics::{MetricData, PointHead, ResourceMetrics};

/// How many attributes there may be, and how long. Lengths are in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLimits {
    /// Most attributes of a resource.
    pub resource_attributes: usize,
    /// Most attributes of a span.
    pub span_attributes: usize,
    /// Most attributes of a metric point.
    pub point_attributes: usize,
    /// Longest key; attributes with a longer one are left out.
    pub key_length: usize,
    /// Longest text of a resource; a longer one is cut.
    pub value_length: usize,
    /// Longest text of a span; a longer one is cut.
    pub span_value_length: usize,
    /// Longest text of a metric point; a longer one is cut.
    pub point_value_length: usize,
    /// Most entries of an array; more are cut off.
    pub array_length: usize,
}

impl Default for AttributeLimits {
    /// None at all.
    fn default() -> Self {
        Self {
            resource_attributes: usize::MAX,
            span_attributes: usize::MAX,
            point_attributes: usize::MAX,
            key_length: usize::MAX,
            value_length: usize::MAX,
            span_value_length: usize::MAX,
            point_value_length: usize::MAX,
            array_length: usize::MAX,
        }
    }
}

/// What identifies comes before what describes. Beginnings of keys, most important first; what is in none of them comes
/// after, and our own comes last.
const PRIORITY: &[&str] = &[
    "service.",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "url.path",
    "server.",
    "k8s.cluster.",
    "k8s.namespace.",
    "k8s.pod.",
    "k8s.container.",
    "k8s.node.",
    "k8s.deployment.",
    "k8s.",
    "container.id",
    "host.id",
    "host.name",
    "rpc.",
    "db.",
    "messaging.",
    "otel.",
    "telemetry.",
    "url.",
    "http.",
    "network.",
    "client.",
    "container.",
    "deployment.",
    "process.pid",
    "process.executable.name",
    "host.",
    "user_agent.",
    "os.",
    "process.",
];

fn rank(key: &str) -> usize {
    let found = PRIORITY.iter().position(|start| key.starts_with(start));
    found.unwrap_or_else(|| PRIORITY.len() + usize::from(key.starts_with("spandrel.")))
}

/// How much was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cut {
    attributes: u64,
    values: u64,
}

/// How many, and how long the texts.
#[derive(Clone, Copy)]
struct Bound {
    count: usize,
    key: usize,
    value: usize,
    array: usize,
}

impl Bound {
    fn fits(&self, attributes: &[Attribute]) -> bool {
        // Characters are never more than bytes: what fits in bytes fits.
        attributes.len() <= self.count
            && attributes.iter().all(|attribute| {
                attribute.key.len() <= self.key
                    && match &attribute.value {
                        Value::Str(text) => text.len() <= self.value,
                        Value::StrArray(list) => {
                            list.len() <= self.array
                                && list.iter().all(|text| text.len() <= self.value)
                        }
                        Value::Bool(_) | Value::I64(_) | Value::F64(_) => true,
                    }
            })
    }

    /// The attributes that may stay, in their order.
    fn apply(&self, attributes: &[Attribute], cut: &mut Cut) -> Vec<Attribute> {
        let mut kept: Vec<&Attribute> = attributes
            .iter()
            .filter(|attribute| attribute.key.chars().count() <= self.key)
            .collect();
        if kept.len() > self.count {
            // A stable sort: among equals the first ones stay.
            let mut by_rank = kept.clone();
            by_rank.sort_by_key(|attribute| rank(&attribute.key));
            by_rank.truncate(self.count);
            kept.retain(|attribute| by_rank.iter().any(|stays| stays.key == attribute.key));
        }
        cut.attributes += (attributes.len() - kept.len()) as u64;
        kept.into_iter()
            .map(|attribute| Attribute {
                key: attribute.key.clone(),
                value: self.shorten(&attribute.value, cut),
            })
            .collect()
    }

    fn shorten(&self, value: &Value, cut: &mut Cut) -> Value {
        let text = |text: &Text, cut: &mut Cut| -> Text {
            match text.char_indices().nth(self.value) {
                Some((end, _)) => {
                    cut.values += 1;
                    Text::copied(text.get(..end).unwrap_or_default())
                }
                None => text.clone(),
            }
        };
        match value {
            Value::Str(one) => Value::Str(text(one, cut)),
            Value::StrArray(list) => {
                cut.values += u64::from(list.len() > self.array);
                let kept = list.iter().take(self.array);
                Value::StrArray(kept.map(|one| text(one, cut)).collect())
            }
            other => other.clone(),
        }
    }
}

/// Keeps the limits for a group of destinations, and counts for them what it left out.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: AttributeLimits,
    destinations: Vec<Arc<DestinationAccounts>>,
    /// Resources that had to be shortened, by the id of the whole one.
    shortened: HashMap<u64, Arc<Resource>, RandomState>,
    capacity: usize,
}

impl Limiter {
    pub(crate) fn new(limits: AttributeLimits, capacity: usize) -> Self {
        Self {
            limits,
            destinations: Vec::new(),
            shortened: HashMap::default(),
            capacity,
        }
    }

    pub(crate) fn limits(&self) -> AttributeLimits {
        self.limits
    }

    pub(crate) fn counts_for(&mut self, destination: &Arc<DestinationAccounts>) {
        self.destinations.push(Arc::clone(destination));
    }

    fn count(&self, cut: Cut) {
        for destination in &self.destinations {
            destination.cut(cut.attributes, cut.values);
        }
    }

    /// The resource as it may be sent.
    pub(crate) fn resource<'a>(&mut self, whole: &'a Arc<Resource>) -> Cow<'a, Arc<Resource>> {
        let bound = Bound {
            count: self.limits.resource_attributes,
            key: self.limits.key_length,
            value: self.limits.value_length,
            array: self.limits.array_length,
        };
        if bound.fits(whole.attributes()) {
            return Cow::Borrowed(whole);
        }
        if let Some(known) = self.shortened.get(&whole.id()) {
            return Cow::Owned(Arc::clone(known));
        }
        let mut cut = Cut::default();
        let short = Arc::new(Resource::new(bound.apply(whole.attributes(), &mut cut)));
        self.count(cut);
        if self.shortened.len() >= self.capacity.max(1) {
            self.shortened.clear();
        }
        self.shortened.insert(whole.id(), Arc::clone(&short));
        Cow::Owned(short)
    }

    /// The span as it may be sent; it says how many attributes it lost.
    pub(crate) fn span<'a>(&self, whole: &'a SpanRecord) -> Cow<'a, SpanRecord> {
        let bound = Bound {
            count: self.limits.span_attributes,
            key: self.limits.key_length,
            value: self.limits.span_value_length,
            array: self.limits.array_length,
        };
        if bound.fits(&whole.attributes) {
            return Cow::Borrowed(whole);
        }
        let mut cut = Cut::default();
        let mut short = whole.clone();
        short.attributes = bound.apply(&whole.attributes, &mut cut);
        let lost = u32::try_from(cut.attributes).unwrap_or(u32::MAX);
        short.dropped_attributes = whole.dropped_attributes.saturating_add(lost);
        self.count(cut);
        Cow::Owned(short)
    }

    /// The metrics as they may be sent.
    pub(crate) fn metrics<'a>(
        &mut self,
        whole: &'a [ResourceMetrics],
    ) -> Cow<'a, [ResourceMetrics]> {
        if self.limits == AttributeLimits::default() {
            return Cow::Borrowed(whole);
        }
        let bound = Bound {
            count: self.limits.point_attributes,
            key: self.limits.key_length,
            value: self.limits.point_value_length,
            array: self.limits.array_length,
        };
        let mut short = whole.to_vec();
        let mut cut = Cut::default();
        for each in &mut short {
            if let Cow::Owned(resource) = self.resource(&each.resource) {
                each.resource = resource;
            }
            for metric in &mut each.metrics {
                for head in heads(&mut metric.data) {
                    if !bound.fits(&head.attributes) {
                        head.attributes = bound.apply(&head.attributes, &mut cut).into();
                    }
                }
            }
        }
        self.count(cut);
        Cow::Owned(short)
    }
}

fn heads(data: &mut MetricData) -> Vec<&mut PointHead> {
    match data {
        MetricData::ExponentialHistogram(_, points) => {
            points.iter_mut().map(|point| &mut point.head).collect()
        }
        MetricData::Histogram(_, points) => {
            points.iter_mut().map(|point| &mut point.head).collect()
        }
        MetricData::Sum(_, _, points) | MetricData::Gauge(points) => {
            points.iter_mut().map(|point| &mut point.head).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spandrel_model::Ledger;

    fn limiter(limits: AttributeLimits) -> (Limiter, Arc<DestinationAccounts>) {
        let accounts = Ledger::default().destination("d");
        let mut limiter = Limiter::new(limits, 2);
        limiter.counts_for(&accounts);
        (limiter, accounts)
    }

    #[test]
    fn what_identifies_stays_when_there_are_too_many_attributes() {
        let (mut limiter, accounts) = limiter(AttributeLimits {
            resource_attributes: 3,
            ..AttributeLimits::default()
        });
        let whole = Arc::new(Resource::new(vec![
            Attribute::new("acme.team", "x"),
            Attribute::new("process.command_args", "x"),
            Attribute::new("k8s.pod.name", "web-1"),
            Attribute::new("service.name", "web"),
            Attribute::new("spandrel.x", "x"),
            Attribute::new("host.id", "h"),
        ]));
        let short = limiter.resource(&whole);
        let keys: Vec<_> = short.attributes().iter().map(|a| a.key.as_ref()).collect();
        assert_eq!(keys, ["host.id", "k8s.pod.name", "service.name"]);
        let again = limiter.resource(&whole);
        assert_eq!(again.id(), short.id(), "shortened once");
        assert_eq!(accounts.cut_counts(), (3, 0));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_long_keys_left_out() {
        let (limiter, accounts) = limiter(AttributeLimits {
            key_length: 5,
            value_length: 3,
            array_length: 1,
            ..AttributeLimits::default()
        });
        let attributes = vec![
            Attribute::new("a", "äöüß"),
            Attribute::new("b", "äöü"),
            Attribute::new("too.long", "x"),
            Attribute::new("c", Value::StrArray(vec!["xxxx".into(), "y".into()])),
        ];
        let bound = Bound {
            count: 9,
            key: limiter.limits.key_length,
            value: limiter.limits.value_length,
            array: limiter.limits.array_length,
        };
        let mut cut = Cut::default();
        let kept = bound.apply(&attributes, &mut cut);
        assert_eq!(kept[0], Attribute::new("a", "äöü"));
        assert_eq!(kept[1], Attribute::new("b", "äöü"));
        let list = Value::StrArray(vec!["xxx".into()]);
        assert_eq!(kept[2], Attribute::new("c", list));
        assert_eq!((cut.attributes, cut.values), (1, 3));
        limiter.count(cut);
        assert_eq!(accounts.cut_counts(), (1, 3));
    }
}
