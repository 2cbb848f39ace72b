//! What can be wrong with the exporter's settings or with an endpoint.

use std::path::PathBuf;

/// Why the exporter cannot start, or why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The endpoint is not a URL that can be used.
    #[error("endpoint {endpoint:?}: {what}; expected for example {example:?}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong.
        what: String,
        /// What it could look like.
        example: &'static str,
    },
    /// A header cannot be sent.
    #[error("header {name:?} of the OTLP exporter: {what}")]
    Header {
        /// Its name; the value may be secret.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A PEM file cannot be used.
    #[error("{what} {}: {message}", path.display())]
    Pem {
        /// Which setting.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The proxy cannot be used.
    #[error("the proxy of {source_of_it}: {what}; expected for example \"http://proxy:3128\"")]
    Proxy {
        /// Which setting or variable it comes from; the value may hold credentials.
        source_of_it: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// There is no such level of compression.
    #[error("compression_level {level}: {name} has the levels {least} to {most}")]
    CompressionLevel {
        /// As configured.
        level: i32,
        /// The compression.
        name: &'static str,
        /// Its least level.
        least: i32,
        /// Its greatest level.
        most: i32,
    },
    /// The file of a file exporter cannot be opened.
    #[error("cannot open {} to append OTLP JSON lines", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory of a queue on disk cannot be used.
    #[error(transparent)]
    Storage(#[from] spandrel_disk_queue::OpenError),
    /// `SameStream` where there is no stream to share.
    #[error(
        "metrics are to share the stream of the traces, but the traces do not go to a console or file"
    )]
    NoStreamToShare,
    /// A probe reached no endpoint that takes OTLP.
    #[error("{endpoint}: {message}")]
    Probe {
        /// The endpoint.
        endpoint: String,
        /// What happened.
        message: String,
    },
    /// The agent's own telemetry cannot be set up.
    #[error("self telemetry: {0}")]
    SelfTelemetry(String),
}
