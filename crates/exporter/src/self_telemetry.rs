//! The agent's own metrics, by opentelemetry_sdk and opentelemetry-otlp: the ledger under its own resource.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use spandrel_model::{Account, Attribute, Ledger};
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::error::ExporterError;
use crate::metrics::{Offender, OverflowReport};
use crate::otlp::{SCHEMA_URL, SCOPE_NAME};
use crate::sdk;
use crate::sender::{self, HttpClientOf};
use crate::settings::{Compression, OtlpSettings, Protocol, TlsSettings};

/// Where the agent's own metrics go, and how often.
#[derive(Clone, Debug)]
pub struct SelfTelemetrySettings {
    /// The endpoint; for HTTP the full URL of the metrics signal.
    pub endpoint: OtlpSettings,
    /// Time between two exports.
    pub interval: Duration,
    /// Resource attributes beside `service.name` and `service.version`.
    pub attributes: Vec<Attribute>,
    /// The transport of the agent's exporter itself, for `otel.component.type`.
    pub exporter_protocol: Protocol,
}

/// The agent's own metrics while they are exported.
#[derive(Debug)]
pub struct SelfTelemetry {
    provider: SdkMeterProvider,
}

impl SelfTelemetry {
    /// Starts to export the ledger's numbers.
    pub fn start(
        settings: SelfTelemetrySettings,
        ledger: &Arc<Ledger>,
        runtime: &Handle,
    ) -> Result<Self, ExporterError> {
        // Connections belong to the runtime; the SDK's reader has a thread of its own.
        let _entered = runtime.enter();
        let exporter = match settings.endpoint.protocol {
            Protocol::Grpc => grpc_exporter(&settings.endpoint)?,
            // The SDK's own metrics are protobuf also where the services' are JSON: servers take both.
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                http_exporter(&settings.endpoint, runtime)?
            }
        };
        let reader = PeriodicReader::builder(exporter)
            .with_interval(settings.interval)
            .build();
        let attributes = settings.attributes.into_iter().map(sdk::key_value);
        let own = [
            KeyValue::new("service.name", "spandrel"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let resource = opentelemetry_sdk::Resource::builder_empty()
            .with_schema_url(attributes.chain(own), SCHEMA_URL)
            .build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader)
            .build();
        observe(
            &provider.meter(SCOPE_NAME),
            ledger,
            settings.exporter_protocol,
        );
        Ok(Self { provider })
    }

    /// Also exports what overflows in these aggregators.
    pub fn observe_overflows(&self, reports: Vec<OverflowReport>) {
        observe_overflows(&self.provider.meter(SCOPE_NAME), &Arc::from(reports));
    }

    /// Exports now. Blocks: not for a thread of the runtime.
    pub fn flush(&self) -> Result<(), ExporterError> {
        self.provider
            .force_flush()
            .map_err(|error| ExporterError::SelfTelemetry(error.to_string()))
    }

    /// Exports a last time and ends, both within this time. Blocks: not for a thread of the runtime.
    pub fn shutdown(self, within: Duration) -> Result<(), ExporterError> {
        let failed = |message: String| Err(ExporterError::SelfTelemetry(message));
        // The SDK's reader waits for its last export by a clock of its own, whatever it is told.
        let (done, end) = sync_channel(1);
        let ending = thread::Builder::new().name("own-metrics".to_owned());
        let provider = self.provider;
        let started = ending.spawn(move || {
            // Nobody listens any more where the time was over before.
            drop(done.send(provider.shutdown_with_timeout(within)));
        });
        if let Err(error) = started {
            return failed(format!("cannot start a thread: {error}"));
        }
        match end.recv_timeout(within) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed(format!("no end within {within:?}")),
        }
    }
}

type Select = fn(&Ledger) -> &Account;

/// The accounts with their names and units.
const ACCOUNTS: [(&str, &str, &str, Select); 4] = [
    ("messages", "spandrel.ledger.messages", "{message}", |l| {
        &l.messages
    }),
    (
        "exchanges",
        "spandrel.ledger.exchanges",
        "{exchange}",
        |l| &l.exchanges,
    ),
    ("spans", "spandrel.ledger.spans", "{span}", |l| &l.spans),
    (
        "metric_points",
        "spandrel.ledger.metric_points",
        "{data_point}",
        |l| &l.metric_points,
    ),
];

fn observe(meter: &Meter, ledger: &Arc<Ledger>, protocol: Protocol) {
    for (_, name, unit, account) in ACCOUNTS {
        let ledger = Arc::clone(ledger);
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description("What was seen, and where each of it ended.")
            .with_callback(move |observer| {
                let now = account(&ledger).snapshot();
                observer.observe(now.seen, &[KeyValue::new("spandrel.state", "seen")]);
                observer.observe(now.settled, &[KeyValue::new("spandrel.state", "settled")]);
                for (reason, count) in now.dropped {
                    let state = KeyValue::new("spandrel.state", "dropped");
                    observer.observe(count, &[state, KeyValue::new("spandrel.reason", reason)]);
                }
            })
            .build();
    }
    let of_all = Arc::clone(ledger);
    meter
        .i64_observable_up_down_counter("spandrel.ledger.in_flight")
        .with_unit("{item}")
        .with_description("What is on its way.")
        .with_callback(move |observer| {
            for (short, _, _, account) in ACCOUNTS {
                let now = account(&of_all).snapshot().in_flight;
                let name = KeyValue::new("spandrel.account", short);
                observer.observe(i64::try_from(now).unwrap_or(i64::MAX), &[name]);
            }
        })
        .build();
    let of_all = Arc::clone(ledger);
    // Not monotonic: who loses more than one of the ten takes its place, and that one goes to the others.
    meter
        .i64_observable_up_down_counter("spandrel.ledger.lost_messages")
        .with_unit("{message}")
        .with_description("Messages lost under overload, by the cgroup whose they were.")
        .with_callback(move |observer| {
            let lost = of_all.lost();
            if lost.is_empty() {
                return;
            }
            for (cgroup, lost) in lost.rows() {
                let cgroup = KeyValue::new("spandrel.cgroup.id", cgroup);
                observer.observe(i64::try_from(lost).unwrap_or(i64::MAX), &[cgroup]);
            }
        })
        .build();
    let spans: Select = |ledger| &ledger.spans;
    let points: Select = |ledger| &ledger.metric_points;
    for (item, kind, unit, account) in [
        ("span", "span", "{span}", spans),
        ("metric_data_point", "metric", "{data_point}", points),
    ] {
        observe_exporter(meter, ledger, protocol, (item, kind, unit), account);
    }
}

/// Bounded by what an aggregator reports: 64 metrics with 16 attributes each.
fn observe_overflows(meter: &Meter, reports: &Arc<[OverflowReport]>) {
    let all = |reports: &Arc<[OverflowReport]>| {
        let reports = Arc::clone(reports);
        move || reports.iter().map(OverflowReport::read).collect::<Vec<_>>()
    };
    let name_of = |offender: &Offender| {
        [
            KeyValue::new("spandrel.metric.name", offender.metric),
            KeyValue::new("spandrel.service.name", offender.service.clone()),
        ]
    };
    let read = all(reports);
    meter
        .u64_observable_gauge("spandrel.metric.cardinality")
        .with_unit("{value}")
        .with_description("Distinct values of an attribute of a metric that overflows.")
        .with_callback(move |observer| {
            for offender in read().iter().flat_map(|report| &report.offenders) {
                for (key, values) in &offender.keys {
                    let [metric, service] = name_of(offender);
                    let key = KeyValue::new("spandrel.attribute.key", key.to_string());
                    observer.observe(*values, &[metric, service, key]);
                }
            }
        })
        .build();
    let read = all(reports);
    meter
        .u64_observable_counter("spandrel.metric.overflow")
        .with_unit("{measurement}")
        .with_description("Measurements in overflow series, by metric and service.")
        .with_callback(move |observer| {
            for offender in read().iter().flat_map(|report| &report.offenders) {
                observer.observe(offender.overflowed, &name_of(offender));
            }
        })
        .build();
    let read = all(reports);
    meter
        .u64_observable_counter("spandrel.metric.refused")
        .with_unit("{measurement}")
        .with_description("Measurements left out: no finite number, or too many series in all.")
        .with_callback(move |observer| {
            let refused = read().iter().map(|report| report.refused).sum();
            observer.observe(refused, &[]);
        })
        .build();
}

/// `otel.sdk.exporter.*`, by the semantic conventions of SDK metrics.
fn observe_exporter(
    meter: &Meter,
    ledger: &Arc<Ledger>,
    protocol: Protocol,
    (item, kind, unit): (&'static str, &'static str, &'static str),
    account: Select,
) {
    let transport = match protocol {
        Protocol::Grpc => "grpc",
        Protocol::HttpProtobuf => "http",
        Protocol::HttpJson => "http_json",
    };
    let component = format!("otlp_{transport}_{kind}_exporter");
    let attributes = [
        KeyValue::new("otel.component.type", component.clone()),
        KeyValue::new("otel.component.name", format!("{component}/0")),
    ];
    let (numbers, shared) = (Arc::clone(ledger), attributes.clone());
    meter
        .u64_observable_counter(format!("otel.sdk.exporter.{item}.exported"))
        .with_unit(unit)
        .with_description("Exports that ended, with success or with an error.type.")
        .with_callback(move |observer| {
            let now = account(&numbers).snapshot();
            observer.observe(now.settled, &shared);
            for (reason, count) in now.dropped {
                // What was left out before it came to the exporter is no export.
                let Some(class) = reason.strip_prefix("export.") else {
                    continue;
                };
                let [first, second] = shared.clone();
                observer.observe(count, &[first, second, KeyValue::new("error.type", class)]);
            }
        })
        .build();
    let numbers = Arc::clone(ledger);
    meter
        .i64_observable_up_down_counter(format!("otel.sdk.exporter.{item}.inflight"))
        .with_unit(unit)
        .with_description("Handed to the exporter and not ended, waits and retries included.")
        .with_callback(move |observer| {
            let now = account(&numbers).snapshot().in_flight;
            observer.observe(i64::try_from(now).unwrap_or(i64::MAX), &attributes);
        })
        .build();
}

fn grpc_exporter(settings: &OtlpSettings) -> Result<MetricExporter, ExporterError> {
    let (endpoint, headers) = sender::target(settings)?;
    let mut builder = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.to_string())
        .with_timeout(settings.attempt_limit())
        .with_metadata(MetadataMap::from_headers(headers));
    if settings.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    if endpoint.scheme_str() == Some("https") {
        // Without this the exporter trusts nobody.
        builder = builder.with_tls_config(tonic_tls(&settings.tls)?);
    }
    builder
        .build()
        .map_err(|error| ExporterError::SelfTelemetry(error.to_string()))
}

fn tonic_tls(settings: &TlsSettings) -> Result<ClientTlsConfig, ExporterError> {
    let read = |what: &'static str, path: &std::path::Path| {
        std::fs::read(path).map_err(|error| ExporterError::Pem {
            what,
            path: path.to_owned(),
            message: error.to_string(),
        })
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &settings.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("tls.ca_file", path)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&settings.cert_file, &settings.key_file) {
        let cert = read("tls.cert_file", cert)?;
        tls = tls.identity(Identity::from_pem(cert, read("tls.key_file", key)?));
    }
    Ok(tls)
}

fn http_exporter(
    settings: &OtlpSettings,
    runtime: &Handle,
) -> Result<MetricExporter, ExporterError> {
    let (endpoint, headers) = sender::target(settings)?;
    let client = RuntimeClient {
        client: sender::http_client(settings, &endpoint)?,
        headers,
        runtime: runtime.clone(),
        compression: settings.compression,
        timeout: settings.attempt_limit(),
    };
    MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_headers(HashMap::new())
        .with_endpoint(endpoint.to_string())
        .with_timeout(settings.attempt_limit())
        .build()
        .map_err(|error| ExporterError::SelfTelemetry(error.to_string()))
}

/// Our HTTP client for the SDK: the SDK polls it on a thread without a runtime, so it runs where its timers are.
struct RuntimeClient {
    client: HttpClientOf,
    headers: HeaderMap,
    runtime: Handle,
    compression: Compression,
    timeout: Duration,
}

impl fmt::Debug for RuntimeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuntimeClient")
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for RuntimeClient {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Answer<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let (mut head, mut body) = request.into_parts();
        head.headers.extend(self.headers.clone());
        if self.compression == Compression::Gzip
            && let Ok(smaller) = sender::gzip(&body)
        {
            body = smaller;
            let value = HeaderValue::from_static("gzip");
            head.headers.insert(CONTENT_ENCODING, value);
        }
        let request = Request::from_parts(head, body);
        let exchange = sender::exchange(self.client.clone(), request, self.timeout);
        let task = self.runtime.spawn(exchange);
        Box::pin(async move { task.await? })
    }
}
