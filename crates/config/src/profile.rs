//! What each backend demands of OTLP. One table: the checks, the defaults and the limits all read it.
use crate::settings::{Compression, Histogram, Protocol, Temporality};

/// A kind of backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// An OpenTelemetry Collector, or anything that takes what the specification allows.
    #[default]
    Collector,
    /// New Relic.
    NewRelic,
    /// Datadog.
    Datadog,
    /// Grafana Cloud.
    GrafanaCloud,
    /// Honeycomb.
    Honeycomb,
    /// Dynatrace.
    Dynatrace,
}

/// How many attributes there may be, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most attributes of a resource.
    pub resource_attributes: usize,
    /// Most attributes of a span.
    pub span_attributes: usize,
    /// Most attributes of a metric point.
    pub point_attributes: usize,
    /// Longest key, in characters. Attributes with a longer one are left out.
    pub key_length: usize,
    /// Longest string value of a span or resource, in characters. A longer one is cut.
    pub value_length: usize,
    /// Longest string value of a metric point, in characters. A longer one is cut.
    pub point_value_length: usize,
    /// Most entries of an array value.
    pub array_length: usize,
}

impl Limits {
    /// None at all.
    pub const NONE: Self = Self {
        resource_attributes: usize::MAX,
        span_attributes: usize::MAX,
        point_attributes: usize::MAX,
        key_length: usize::MAX,
        value_length: usize::MAX,
        point_value_length: usize::MAX,
        array_length: usize::MAX,
    };
}

/// What a backend takes.
#[derive(Debug)]
pub struct Demands {
    /// The name in the configuration.
    pub name: &'static str,
    /// Ends of its host names.
    pub hosts: &'static [&'static str],
    /// Transports it takes; the first is the default.
    pub protocols: &'static [Protocol],
    /// Compressions it takes; the first is the default.
    pub compressions: &'static [Compression],
    /// The header that carries the credentials.
    pub header: Option<&'static str>,
    /// What the header's value starts with.
    pub header_prefix: &'static str,
    /// Whether it refuses connections without TLS.
    pub tls: bool,
    /// The temporality that serves it best.
    pub temporality: Temporality,
    /// Whether it refuses any other one.
    pub only_this_temporality: bool,
    /// The histograms that serve it best.
    pub histogram: Histogram,
    /// Whether it loses something of any other one.
    pub only_this_histogram: bool,
    /// Largest request before compression, in bytes.
    pub max_request_bytes: u64,
    /// Bounds on attributes.
    pub limits: Limits,
}

const ALL: &[Protocol] = &[Protocol::HttpProtobuf, Protocol::Grpc, Protocol::HttpJson];
const PLAIN_FIRST: &[Compression] = &[Compression::None, Compression::Gzip, Compression::Zstd];
const ALSO_ZSTD: &[Compression] = &[Compression::Gzip, Compression::Zstd, Compression::None];
const GZIP_FIRST: &[Compression] = &[Compression::Gzip, Compression::None];

static COLLECTOR: Demands = Demands {
    name: "collector",
    hosts: &[],
    protocols: ALL,
    compressions: PLAIN_FIRST,
    header: None,
    header_prefix: "",
    tls: false,
    temporality: Temporality::Cumulative,
    only_this_temporality: false,
    histogram: Histogram::Exponential,
    only_this_histogram: false,
    max_request_bytes: u64::MAX,
    limits: Limits::NONE,
};

/// New Relic's documents: OTLP endpoint, OTLP troubleshooting, metrics best practices.
static NEW_RELIC: Demands = Demands {
    name: "new-relic",
    hosts: &["nr-data.net"],
    protocols: ALL,
    compressions: ALSO_ZSTD,
    header: Some("api-key"),
    header_prefix: "",
    tls: true,
    temporality: Temporality::Delta,
    only_this_temporality: false,
    histogram: Histogram::Exponential,
    only_this_histogram: false,
    max_request_bytes: 1_000_000,
    limits: Limits {
        resource_attributes: 64,
        span_attributes: 128,
        point_attributes: 128,
        key_length: 255,
        value_length: 4095,
        point_value_length: 4095,
        array_length: 64,
    },
};

/// Datadog's documents: OTLP intake endpoint. It publishes no bound on attributes; its limit of a request is not known
/// to us, so the smallest of its other intakes is kept.
static DATADOG: Demands = Demands {
    name: "datadog",
    hosts: &[
        "datadoghq.com",
        "datadoghq.eu",
        "ddog-gov.com",
        "datadoghq.net",
    ],
    protocols: &[Protocol::HttpProtobuf, Protocol::HttpJson],
    compressions: GZIP_FIRST,
    header: Some("dd-api-key"),
    header_prefix: "",
    tls: true,
    temporality: Temporality::Delta,
    only_this_temporality: true,
    histogram: Histogram::Exponential,
    only_this_histogram: false,
    max_request_bytes: 512_000,
    limits: Limits::NONE,
};

/// Grafana Cloud's documents: OTLP format considerations. Its metrics store adds nothing up, so delta is lost on it.
static GRAFANA_CLOUD: Demands = Demands {
    name: "grafana-cloud",
    hosts: &["grafana.net"],
    protocols: &[Protocol::HttpProtobuf],
    compressions: GZIP_FIRST,
    header: Some("authorization"),
    header_prefix: "Basic ",
    tls: true,
    temporality: Temporality::Cumulative,
    only_this_temporality: true,
    histogram: Histogram::Exponential,
    only_this_histogram: false,
    max_request_bytes: 3 << 20,
    limits: Limits {
        // Of a span; beyond it Tempo cuts by itself.
        value_length: 2048,
        ..Limits::NONE
    },
};

/// Honeycomb's documents; a column is at most 64 KiB and an event has at most 2000 columns.
static HONEYCOMB: Demands = Demands {
    name: "honeycomb",
    hosts: &["honeycomb.io"],
    protocols: ALL,
    compressions: ALSO_ZSTD,
    header: Some("x-honeycomb-team"),
    header_prefix: "",
    tls: true,
    temporality: Temporality::Delta,
    only_this_temporality: false,
    histogram: Histogram::Exponential,
    only_this_histogram: false,
    max_request_bytes: 3 << 20,
    limits: Limits {
        resource_attributes: 500,
        span_attributes: 1500,
        point_attributes: 1500,
        value_length: 16_384,
        point_value_length: 16_384,
        ..Limits::NONE
    },
};

/// Dynatrace's documents: OTLP metrics ingest, OTLP trace ingest. Of an exponential histogram it keeps no buckets. Its
/// 50 dimensions are those of the point and of its resource together, and a request has at most 15,000 points.
static DYNATRACE: Demands = Demands {
    name: "dynatrace",
    hosts: &["dynatrace.com", "dynatracelabs.com"],
    protocols: &[Protocol::HttpProtobuf],
    compressions: GZIP_FIRST,
    header: Some("authorization"),
    header_prefix: "Api-Token ",
    tls: true,
    temporality: Temporality::Delta,
    only_this_temporality: true,
    histogram: Histogram::Explicit,
    only_this_histogram: true,
    max_request_bytes: 2_000_000,
    limits: Limits {
        resource_attributes: 35,
        span_attributes: 128,
        point_attributes: 15,
        key_length: 100,
        value_length: 4096,
        point_value_length: 255,
        array_length: usize::MAX,
    },
};

/// The names in the configuration.
pub(crate) const NAMES: &[&str] = &[
    "auto",
    "collector",
    "new-relic",
    "datadog",
    "grafana-cloud",
    "honeycomb",
    "dynatrace",
];

impl Profile {
    const EVERY: [Self; 6] = [
        Self::Collector,
        Self::NewRelic,
        Self::Datadog,
        Self::GrafanaCloud,
        Self::Honeycomb,
        Self::Dynatrace,
    ];

    /// What this backend demands.
    pub fn demands(self) -> &'static Demands {
        match self {
            Self::Collector => &COLLECTOR,
            Self::NewRelic => &NEW_RELIC,
            Self::Datadog => &DATADOG,
            Self::GrafanaCloud => &GRAFANA_CLOUD,
            Self::Honeycomb => &HONEYCOMB,
            Self::Dynatrace => &DYNATRACE,
        }
    }

    /// The profile of that name; `auto` has none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::EVERY
            .into_iter()
            .find(|profile| profile.demands().name == name)
    }

    /// The backend that an endpoint belongs to, by its host.
    pub fn of_endpoint(endpoint: &str) -> Self {
        let host = host(endpoint).to_ascii_lowercase();
        let under = |suffix: &&str| {
            host.strip_suffix(*suffix)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        Self::EVERY
            .into_iter()
            .find(|profile| profile.demands().hosts.iter().any(&under))
            .unwrap_or_default()
    }
}

fn host(endpoint: &str) -> &str {
    let rest = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn an_endpoint_tells_its_backend_by_whole_labels_of_its_host() {
        for (endpoint, profile) in [
            ("https://otlp.nr-data.net:4318/v1/traces", Profile::NewRelic),
            ("https://otlp.eu01.nr-data.net", Profile::NewRelic),
            ("https://otlp.datadoghq.eu/v1/metrics", Profile::Datadog),
            (
                "https://otlp-gateway-prod-eu-west-2.grafana.net/otlp",
                Profile::GrafanaCloud,
            ),
            ("https://user:pw@API.honeycomb.io:443", Profile::Honeycomb),
            (
                "https://abc.live.dynatrace.com/api/v2/otlp/v1/traces",
                Profile::Dynatrace,
            ),
            ("http://localhost:4318/nr-data.net", Profile::Collector),
            ("https://evil-nr-data.net", Profile::Collector),
            ("https://nr-data.net.example.com", Profile::Collector),
            ("[::1]:4317", Profile::Collector),
        ] {
            assert_eq!(Profile::of_endpoint(endpoint), profile, "{endpoint}");
        }
    }

    #[test]
    fn every_name_of_the_configuration_has_a_profile() {
        for name in super::NAMES.iter().filter(|name| **name != "auto") {
            assert_eq!(Profile::named(name).unwrap().demands().name, *name);
        }
    }
}
