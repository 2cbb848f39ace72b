//! From the configuration to the settings of each crate.

mod export;
mod kubernetes;

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use spandrel_config::Config;
use spandrel_config::settings::{
    AttributeValue, Backend, LogLevel, PodSelector as PodSelectorConfig, QueryValues,
    Selector as SelectorConfig,
};
use spandrel_model::{Attribute, Value};
use spandrel_probes::{BackendChoice, CaptureSettings, HeadRule};
use spandrel_protocols::{http1, route};

pub use self::export::{
    console, endpoints, export, self_telemetry, spans_as_text, spans_beside_console,
};
pub use self::kubernetes::{container_hold, containers, kubernetes};
use crate::cli::Trace;
use crate::exit::Failure;
use crate::identity::{self, Identities};
use crate::selection::Selection;
use crate::selectors::{Pattern, PodSelector, Selector, Selectors};

/// A seed for trace and span ids that differs from run to run.
pub fn id_seed() -> u64 {
    // Each `RandomState` holds fresh random keys of the operating system.
    RandomState::new().hash_one(std::process::id())
}

/// Lets the arguments of `trace` select, where there are any, instead of the file's include list.
pub fn narrow(config: &mut Config, arguments: &Trace) {
    let nothing = SelectorConfig::default;
    let mut processes: Vec<SelectorConfig> = Vec::new();
    processes.extend(arguments.pid.iter().map(|pid| SelectorConfig {
        pid: Some(*pid),
        ..nothing()
    }));
    processes.extend(arguments.exe.iter().map(|glob| SelectorConfig {
        executable: Some(glob.clone()),
        ..nothing()
    }));
    processes.extend(arguments.container.iter().map(|glob| SelectorConfig {
        container_id: Some(glob.clone()),
        ..nothing()
    }));
    if processes.is_empty() && arguments.port.is_empty() {
        return;
    }
    if processes.is_empty() {
        processes.push(nothing());
    }
    config.capture.include = if arguments.port.is_empty() {
        processes
    } else {
        let at_port = |port: &u16| {
            let port = Some((*port, *port));
            processes.iter().map(move |process| SelectorConfig {
                port,
                ..process.clone()
            })
        };
        arguments.port.iter().flat_map(at_port).collect()
    };
}

/// The least severity that is logged, as the log's filter spells it.
pub fn log_level(config: &Config) -> &'static str {
    match config.log_level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Off => "off",
    }
}

/// Settings of the kernel side.
pub fn capture(config: &Config) -> anyhow::Result<CaptureSettings> {
    let capture = &config.capture;
    let bytes = |what: &str, value: u64| {
        u32::try_from(value)
            .map_err(|_| Failure::usage(format!("capture.{what}: {value} is more than 4 GiB")))
    };
    Ok(CaptureSettings {
        backend: match capture.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Socket => BackendChoice::Socket,
            Backend::Fexit => BackendChoice::Fexit,
            Backend::Syscall => BackendChoice::Syscall,
        },
        ring_buffer_bytes: bytes("ring_buffer_bytes", capture.ring_buffer_bytes)?,
        copy_bytes: bytes("copy_bytes", capture.copy_bytes)?,
        head_bytes: bytes("head_bytes", capture.head_bytes)?,
        heads: heads(),
        unix_sockets: capture.unix_sockets,
        cgroup_messages_per_second: capture.cgroup_messages_per_second,
        // What holds whatever the process: a connection that no include selector can hold for, and one that an exclude
        // selector holds for.
        ports_include: if capture
            .include
            .iter()
            .all(|selector| selector.port.is_some())
        {
            ports(capture.include.iter())
        } else {
            Vec::new()
        },
        ports_exclude: ports(capture.exclude.iter().filter(|it| is_only_port(it))),
        ..CaptureSettings::default()
    })
}

/// The kernel side has one rule: protocols with another name for the length would need one of their own.
fn heads() -> HeadRule {
    let mut rule = HeadRule::default();
    for heads in spandrel_protocols::heads() {
        if rule.length_label.is_empty() {
            rule.length_label = heads.length_label;
        }
        if rule.length_label == heads.length_label {
            rule.signs.extend_from_slice(heads.signs);
        }
    }
    rule
}

fn is_only_port(selector: &SelectorConfig) -> bool {
    let port = selector.port;
    port.is_some()
        && *selector
            == SelectorConfig {
                port,
                ..SelectorConfig::default()
            }
}

/// Each port once, in order.
fn ports<'a>(selectors: impl Iterator<Item = &'a SelectorConfig>) -> Vec<u16> {
    let ports: BTreeSet<u16> = selectors
        .filter_map(|selector| selector.port)
        .flat_map(|(first, last)| first..=last)
        .collect();
    ports.into_iter().collect()
}

/// The selectors, all of them.
pub fn selectors(config: &Config) -> anyhow::Result<Selectors> {
    let compile = |list: &[SelectorConfig]| -> anyhow::Result<Vec<Selector>> {
        list.iter()
            .map(|selector| {
                let pattern = |glob: &Option<String>| {
                    glob.as_deref()
                        .map(Pattern::new)
                        .transpose()
                        .map_err(Failure::usage)
                };
                Ok(Selector {
                    pid: selector.pid,
                    executable: pattern(&selector.executable)?,
                    ports: selector.port.map(|(first, last)| first..=last),
                    container_id: pattern(&selector.container_id)?,
                    pod: pod_selector(&selector.pod)?,
                })
            })
            .collect()
    };
    Ok(Selectors {
        include: compile(&config.capture.include)?,
        exclude: compile(&config.capture.exclude)?,
    })
}

fn pod_selector(pod: &PodSelectorConfig) -> anyhow::Result<PodSelector> {
    let pattern = |glob: &str| Pattern::new(glob).map_err(Failure::usage);
    let optional = |glob: &Option<String>| glob.as_deref().map(pattern).transpose();
    let pairs = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(key, glob)| Ok((key.clone(), pattern(glob)?)))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    Ok(PodSelector {
        namespace: optional(&pod.namespace)?,
        labels: pairs(&pod.labels)?,
        annotations: pairs(&pod.annotations)?,
        workload_kind: pod.workload_kind.clone(),
        workload_name: optional(&pod.workload_name)?,
        container_name: optional(&pod.container_name)?,
    })
}

/// What user space decides in a live run: what the kernel side enforces alone is left to it.
pub fn selection(config: &Config) -> anyhow::Result<Selection> {
    let mut left = config.clone();
    if left.capture.include.iter().all(is_only_port) {
        left.capture.include.clear();
    }
    left.capture.exclude.retain(|it| !is_only_port(it));
    recorded_selection(&left)
}

/// The same in a replay, which has no kernel side.
pub fn recorded_selection(config: &Config) -> anyhow::Result<Selection> {
    Ok(Selection::new(
        selectors(config)?,
        config.http.max_connections,
    ))
}

/// Identities from this machine; `beside` the pipeline they are read by threads of their own.
pub fn identities(config: &Config, beside: bool) -> Identities {
    let settings = identity::Settings {
        beside,
        node: kubernetes::node_name(config),
        extra: resource_attributes(config),
        per_process: config.aggregation.per_process,
        ..identity::Settings::default()
    };
    Identities::new(settings)
}

/// Identities from a recording.
pub fn recorded_identities(config: &Config) -> Identities {
    let settings = identity::Settings {
        extra: resource_attributes(config),
        per_process: config.aggregation.per_process,
        ..identity::Settings::replay()
    };
    Identities::new(settings)
}

/// The attributes that the file adds to every resource.
pub fn resource_attributes(config: &Config) -> Vec<Attribute> {
    let text = |list: Vec<String>| Value::StrArray(list.into_iter().map(Into::into).collect());
    config
        .resource
        .iter()
        .map(|(key, value)| {
            let value = match value {
                AttributeValue::String(text) => Value::Str(text.clone().into()),
                AttributeValue::Bool(value) => Value::Bool(*value),
                AttributeValue::Int(value) => Value::I64(*value),
                AttributeValue::Double(value) => Value::F64(*value),
                AttributeValue::Strings(list) => text(list.clone()),
                AttributeValue::Bools(list) => text(list.iter().map(bool::to_string).collect()),
                AttributeValue::Ints(list) => text(list.iter().map(i64::to_string).collect()),
                AttributeValue::Doubles(list) => text(list.iter().map(f64::to_string).collect()),
            };
            Attribute::new(key.clone(), value)
        })
        .collect()
}

/// Settings of the parsers.
pub fn protocols(config: &Config) -> spandrel_protocols::Settings {
    let http = &config.http;
    spandrel_protocols::Settings {
        max_connections: http.max_connections,
        http: http1::Settings {
            query_values: match http.query_values {
                QueryValues::Redacted if http.allowed_query_parameters.is_empty() => {
                    http1::QueryValues::Redacted
                }
                QueryValues::Redacted => {
                    http1::QueryValues::Only(http.allowed_query_parameters.clone())
                }
                QueryValues::Allowed => http1::QueryValues::Shown,
            },
            ..http1::Settings::default()
        },
        routes: route::Settings {
            templates: http.route_patterns.clone(),
            max_nodes: http.max_routes_per_service,
            ..route::Settings::default()
        },
        ..spandrel_protocols::Settings::default()
    }
}

fn clamp(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod shipped_tests;
#[cfg(test)]
mod tests;
