//! Configuration without a file: the OTEL_* variables of the OpenTelemetry specification.
use std::str::FromStr;
use std::time::Duration;

use crate::Loaded;
use crate::defaults::{GRPC_ENDPOINT, HTTP_ENDPOINT, TIMEOUT};
use crate::diagnostic::Diagnostic;
use crate::list::{attributes, headers};
use crate::node::cut;
use crate::pipeline::{Unusable, endpoint_of, header_name, put_header};
use crate::profile::Profile;
use crate::settings::{
    AttributeLimits, AttributeValue, Batch, Compression, Config, Exporter, Histogram, LogLevel,
    MetricReader, Otlp, ParentBased, Protocol, Sampler, SpanProcessor, Temporality, Tls,
};
use crate::substitute::Env;

const ENDED_BY: &str = "an export ends by OTEL_EXPORTER_OTLP_TIMEOUT and by \
                        retry_on_failure.max_elapsed_time of a file";

/// Variables of the specification without a meaning here.
const UNUSED: &[(&str, &str)] = &[
    (
        "OTEL_PROPAGATORS",
        "Spandrel reads traceparent and changes no request",
    ),
    ("OTEL_LOGS_EXPORTER", "Spandrel sends no logs"),
    ("OTEL_BSP_EXPORT_TIMEOUT", ENDED_BY),
    ("OTEL_METRIC_EXPORT_TIMEOUT", ENDED_BY),
    (
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "what waits is bounded in bytes, by sending_queue.queue_size of a file",
    ),
];

/// Reads the OTEL_* variables. Values that cannot be used are named in a warning and ignored.
pub fn from_env(env: &Env<'_>) -> Loaded {
    let mut reader = Reader {
        env,
        warnings: Vec::new(),
    };
    let config = reader.config();
    Loaded {
        config,
        warnings: reader.warnings,
    }
}

#[derive(Clone, Copy)]
struct Signal {
    name: &'static str,
    path: &'static str,
}

const TRACES: Signal = Signal {
    name: "TRACES",
    path: "v1/traces",
};
const METRICS: Signal = Signal {
    name: "METRICS",
    path: "v1/metrics",
};

struct Reader<'e> {
    env: &'e Env<'e>,
    warnings: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// An empty value counts as no value.
    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name)
            .map(|v| v.trim().to_owned())
            .filter(|v| !v.is_empty())
    }

    fn warn(&mut self, name: &str, message: impl Into<String>, expected: &str) {
        let warning = Diagnostic::warning(name, message).expected(expected);
        // A variable for all signals is read for each of them.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// One of the words of an enumeration, in any case.
    fn word<T>(
        &mut self,
        name: &str,
        expected: &str,
        choose: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.parsed(name, expected, |value| choose(&value.to_ascii_lowercase()))
    }

    /// A value that `parse` takes, or a warning and nothing.
    fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.warn(name, format!("\"{}\" is ignored", cut(&value)), expected);
        }
        parsed
    }

    fn boolean(&mut self, name: &str) -> Option<bool> {
        self.word(name, "true or false", |value| match value {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.parsed(name, "a whole number that is not negative", |value| {
            value.parse().ok()
        })
    }

    fn positive(&mut self, name: &str) -> Option<u64> {
        self.parsed(name, "a whole number greater than 0", |value| {
            value.parse().ok().filter(|n| *n > 0)
        })
    }

    fn millis(&mut self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// The variable of the signal, or else the one for all signals.
    fn either<T>(
        &mut self,
        signal: Signal,
        option: &str,
        read: impl Fn(&mut Self, &str) -> Option<T>,
    ) -> Option<T> {
        read(
            self,
            &format!("OTEL_EXPORTER_OTLP_{}_{option}", signal.name),
        )
        .or_else(|| read(self, &format!("OTEL_EXPORTER_OTLP_{option}")))
    }

    fn config(&mut self) -> Config {
        let mut config = Config::silent();
        config.disabled = self.boolean("OTEL_SDK_DISABLED").unwrap_or(false);
        config.attribute_limits = self.attribute_limits();
        let level = self.word(
            "OTEL_LOG_LEVEL",
            "trace, debug, info, warn, error, fatal or none",
            |value| match value {
                "trace" => Some(LogLevel::Trace),
                "debug" => Some(LogLevel::Debug),
                "info" => Some(LogLevel::Info),
                "warn" | "warning" => Some(LogLevel::Warn),
                "error" => Some(LogLevel::Error),
                "fatal" | "none" => Some(LogLevel::Off),
                _ => None,
            },
        );
        config.log_level = level.unwrap_or(config.log_level);
        config.resource = self.resource();
        config.traces = self
            .exporters("OTEL_TRACES_EXPORTER", TRACES)
            .into_iter()
            .map(|exporter| SpanProcessor {
                batch: Some(self.batch()),
                exporter,
            })
            .collect();
        config.metrics = self
            .exporters("OTEL_METRICS_EXPORTER", METRICS)
            .into_iter()
            .map(|exporter| self.metric_reader(exporter))
            .collect();
        config.sampler = self.sampler();
        let filter = self.word(
            "OTEL_METRICS_EXEMPLAR_FILTER",
            "always_on, always_off or trace_based",
            |value| match value {
                "always_on" | "trace_based" => Some(true),
                "always_off" => Some(false),
                _ => None,
            },
        );
        config.aggregation.exemplars = filter.unwrap_or(true);
        for (name, why) in UNUSED {
            if self
                .get(name)
                .is_some_and(|value| !value.eq_ignore_ascii_case("none"))
            {
                self.warnings
                    .push(Diagnostic::warning(name, format!("has no effect: {why}")));
            }
        }
        config
    }

    fn sampler(&mut self) -> Sampler {
        let ratio = |reader: &mut Self| {
            let name = "OTEL_TRACES_SAMPLER_ARG";
            let given = reader.parsed(name, "a number from 0 to 1", |value| {
                let number = value.parse().ok();
                number.filter(|ratio: &f64| (0.0..=1.0).contains(ratio))
            });
            Sampler::TraceIdRatioBased(given.unwrap_or(1.0))
        };
        let parent_based = |root| {
            Sampler::ParentBased(Box::new(ParentBased {
                root,
                ..ParentBased::default()
            }))
        };
        let name = "OTEL_TRACES_SAMPLER";
        let chosen = self.get(name).map(|word| word.to_ascii_lowercase());
        match chosen.as_deref() {
            None | Some("always_on") => Sampler::AlwaysOn,
            Some("always_off") => Sampler::AlwaysOff,
            Some("traceidratio") => ratio(self),
            Some("parentbased_always_on") => parent_based(Sampler::AlwaysOn),
            Some("parentbased_always_off") => parent_based(Sampler::AlwaysOff),
            Some("parentbased_traceidratio") => parent_based(ratio(self)),
            Some(other) => {
                let message = format!("\"{}\" is not supported: every span is sent", cut(other));
                self.warn(
                    name,
                    message,
                    "always_on, always_off, traceidratio, or one of these after parentbased_",
                );
                Sampler::AlwaysOn
            }
        }
    }

    fn resource(&mut self) -> Vec<(String, AttributeValue)> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let found = attributes(&self.get(name).unwrap_or_default());
        let found = found.unwrap_or_else(|bad| {
            self.warn(
                name,
                format!("the value is ignored: {bad}"),
                "key=value,key=value, percent-encoded",
            );
            Vec::new()
        });
        let mut attributes: Vec<(String, AttributeValue)> = found
            .into_iter()
            .map(|(key, value)| (key, AttributeValue::String(value)))
            .collect();
        if let Some(service) = self.get("OTEL_SERVICE_NAME") {
            attributes.retain(|(name, _)| name != "service.name");
            attributes.push(("service.name".to_owned(), AttributeValue::String(service)));
        }
        attributes
    }

    fn exporters(&mut self, name: &str, signal: Signal) -> Vec<Exporter> {
        let chosen = self.get(name).unwrap_or_else(|| "otlp".to_owned());
        let mut exporters = Vec::new();
        let mut none = false;
        for word in chosen.to_ascii_lowercase().split(',').map(str::trim) {
            match word {
                "otlp" => exporters.push(Exporter::Otlp(self.otlp(signal))),
                "console" | "logging" => exporters.push(Exporter::Console),
                "none" => none = true,
                "" => {}
                other => {
                    let message = format!("\"{}\" is ignored", cut(other));
                    self.warn(name, message, "otlp, console or none");
                }
            }
        }
        if exporters.is_empty() && !none {
            exporters.push(Exporter::Otlp(self.otlp(signal)));
        }
        exporters
    }

    fn attribute_limits(&mut self) -> AttributeLimits {
        // The variables of spans go before those of all signals.
        let mut limit = |what: &str| {
            let own = self.number(&format!("OTEL_SPAN_ATTRIBUTE_{what}"));
            own.or_else(|| self.number(&format!("OTEL_ATTRIBUTE_{what}")))
        };
        AttributeLimits {
            value_length: limit("VALUE_LENGTH_LIMIT"),
            count: limit("COUNT_LIMIT"),
        }
    }

    fn batch(&mut self) -> Batch {
        let default = Batch::default();
        Batch {
            schedule_delay: self
                .millis("OTEL_BSP_SCHEDULE_DELAY")
                .unwrap_or(default.schedule_delay),
            max_export_batch_size: self
                .positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
                .unwrap_or(default.max_export_batch_size),
        }
    }

    fn metric_reader(&mut self, exporter: Exporter) -> MetricReader {
        let mut reader = MetricReader::new(exporter);
        reader.interval = self
            .positive("OTEL_METRIC_EXPORT_INTERVAL")
            .map_or(reader.interval, Duration::from_millis);
        let temporality = self.word(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "cumulative, delta or lowmemory",
            |value| match value {
                "cumulative" => Some(Temporality::Cumulative),
                "delta" => Some(Temporality::Delta),
                "lowmemory" => Some(Temporality::LowMemory),
                _ => None,
            },
        );
        reader.temporality = temporality.unwrap_or(reader.temporality);
        let histogram = self.word(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "explicit_bucket_histogram or base2_exponential_bucket_histogram",
            |value| match value {
                "explicit_bucket_histogram" => Some(Histogram::Explicit),
                "base2_exponential_bucket_histogram" => Some(Histogram::Exponential),
                _ => None,
            },
        );
        reader.histogram = histogram.unwrap_or(reader.histogram);
        reader
    }

    fn otlp(&mut self, signal: Signal) -> Otlp {
        let protocol = self
            .either(signal, "PROTOCOL", |r, name| {
                r.word(
                    name,
                    "grpc, http/protobuf or http/json",
                    |value| match value {
                        "grpc" => Some(Protocol::Grpc),
                        "http/protobuf" => Some(Protocol::HttpProtobuf),
                        "http/json" => Some(Protocol::HttpJson),
                        _ => None,
                    },
                )
            })
            .unwrap_or(Protocol::HttpProtobuf);
        let compression = self.either(signal, "COMPRESSION", |r, name| {
            // The specification knows no others in the environment; what we speak beside them does no harm.
            r.word(name, "gzip, zstd or none", Compression::named)
        });
        let insecure = self
            .either(signal, "INSECURE", Self::boolean)
            .unwrap_or(false);
        let endpoint = self.endpoint(signal, protocol, insecure);
        let profile = Profile::of_endpoint(&endpoint);
        let best = profile.demands().compressions.first().copied();
        Otlp {
            protocol,
            endpoint,
            profile,
            headers: self.headers(signal),
            compression: compression.or(best).unwrap_or(Compression::None),
            timeout: self
                .either(signal, "TIMEOUT", Self::millis)
                .unwrap_or(TIMEOUT),
            tls: self.tls(signal),
            ..Otlp::http("")
        }
    }

    fn endpoint(&mut self, signal: Signal, protocol: Protocol, insecure: bool) -> String {
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name);
        let given = self.endpoint_variable(&own, protocol, insecure);
        let base = |base: &str| match protocol {
            Protocol::Grpc => base.to_owned(),
            Protocol::HttpProtobuf | Protocol::HttpJson => append_path(base, signal.path),
        };
        match given {
            Some(url) if protocol == Protocol::Grpc => url,
            Some(url) => with_path(url),
            None => {
                let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
                let given = self.endpoint_variable(all, protocol, insecure);
                let default = if protocol == Protocol::Grpc {
                    GRPC_ENDPOINT
                } else {
                    HTTP_ENDPOINT
                };
                base(given.as_deref().unwrap_or(default))
            }
        }
    }

    fn endpoint_variable(
        &mut self,
        name: &str,
        protocol: Protocol,
        insecure: bool,
    ) -> Option<String> {
        let given = self.get(name)?;
        match endpoint_of(&given, protocol, insecure) {
            Ok(url) => Some(url),
            Err(Unusable::Credentials) => {
                let message = "the value is ignored: a user or a password in it is not sent";
                let headers = name.replace("_ENDPOINT", "_HEADERS");
                let expected = format!("the endpoint alone, and {headers}=authorization=...");
                self.warn(name, message, &expected);
                None
            }
            Err(Unusable::Form(expected)) => {
                // The value may hold a password, so it is not shown.
                self.warn(
                    name,
                    "the value is ignored: not a usable endpoint",
                    expected,
                );
                None
            }
        }
    }

    fn headers(&mut self, signal: Signal) -> Vec<(String, crate::settings::Secret)> {
        let mut put = Vec::new();
        let own = format!("OTEL_EXPORTER_OTLP_{}_HEADERS", signal.name);
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", &own] {
            let Some(text) = self.get(name) else { continue };
            let (found, bad) = headers(&text);
            if let Some(bad) = bad {
                self.warn(
                    name,
                    format!("headers are ignored: {bad}"),
                    "key=value,key=value",
                );
            }
            if name == own.as_str() {
                // The variable of the signal replaces the other one.
                put.clear();
            }
            for (header, value) in found {
                if header_name(&header) {
                    put_header(&mut put, header, value);
                } else {
                    let message = format!("`{}` is not a header name", cut(&header));
                    self.warn(name, message, "letters, digits and -");
                }
            }
        }
        put
    }

    fn tls(&mut self, signal: Signal) -> Tls {
        let file = |r: &mut Self, name: &str| r.get(name);
        Tls {
            ca_file: self.either(signal, "CERTIFICATE", file),
            key_file: self.either(signal, "CLIENT_KEY", file),
            cert_file: self.either(signal, "CLIENT_CERTIFICATE", file),
        }
    }
}

/// Appends the signal's path to the path of a base URL and leaves the rest as it is.
fn append_path(base: &str, path: &str) -> String {
    let end = base.find(['?', '#']).unwrap_or(base.len());
    let (url, rest) = base.split_at(end);
    let slash = if url.ends_with('/') { "" } else { "/" };
    format!("{url}{slash}{path}{rest}")
}

/// A URL of a signal is used as it is, but for the root path if it has none.
fn with_path(url: String) -> String {
    let start = url.find("://").map_or(0, |i| i + 3);
    match url[start..].find(['/', '?', '#']) {
        None => format!("{url}/"),
        Some(i) if url[start + i..].starts_with('/') => url,
        Some(i) => format!("{}/{}", &url[..start + i], &url[start + i..]),
    }
}
