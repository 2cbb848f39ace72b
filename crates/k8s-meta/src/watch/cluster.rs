//! The cluster's uid: that of its namespace kube-system, asked for once.

use std::sync::Arc;
use std::time::Instant;

use http::Request;
use serde::Deserialize;
use tracing::warn;

use super::access::client;
use super::backoff::{Backoff, random};
use super::counters::Counters;
use super::failure::{Failure, Reason, forbidden};
use super::gate::Gate;
use super::settings::Settings;
use crate::pod::{Metadata, Pod};

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

/// Value of `k8s.cluster.uid`. `None` where the API server does not allow the question: then the attribute is left out,
/// and a warning has said which rule is missing. Asks until there is one of both answers.
pub async fn cluster_uid(settings: &Settings, counters: &Arc<Counters>) -> Option<String> {
    tokio::time::sleep(random(settings.start_jitter)).await;
    let mut backoff = Backoff::new(settings.backoff_initial, settings.backoff_max);
    loop {
        match tokio::time::timeout(settings.list_timeout, ask(settings, counters)).await {
            Ok(Ok(uid)) => return Some(uid),
            Ok(Err(failure)) => {
                counters.failure(failure.reason);
                warn!("k8s.cluster.uid is not known: {failure}");
                if failure.reason == Reason::Forbidden {
                    return None;
                }
            }
            Err(_) => counters.failure(Reason::Timeout),
        }
        tokio::time::sleep(backoff.pause(Instant::now())).await;
    }
}

async fn ask(settings: &Settings, counters: &Arc<Counters>) -> Result<String, Failure> {
    let client = client(settings, counters, &Arc::new(Gate::new(settings))).await?;
    let request = Request::get("/api/v1/namespaces/kube-system")
        .body(Vec::new())
        .map_err(|error| Failure {
            reason: Reason::Configuration,
            message: error.to_string(),
        })?;
    match client.request::<Namespace>(request).await {
        Ok(namespace) if !namespace.metadata.uid.is_empty() => Ok(namespace.metadata.uid),
        Ok(_) => Err(Failure {
            reason: Reason::Malformed,
            message: "namespace kube-system has no uid".to_owned(),
        }),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(Failure {
            reason: Reason::Forbidden,
            message: forbidden(
                "",
                "namespaces",
                "[get] (resourceNames [kube-system])",
                &status.message,
            ),
        }),
        Err(error) => Err(Failure::of_client::<Pod>(&error)),
    }
}
