//! Where the API server is, and with which credentials: read anew for each client, since both are rotated.

use std::path::PathBuf;
use std::sync::Arc;

use kube::client::ClientBuilder;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use kube::{Client, Config};
use tower::layer::layer_fn;

use super::counters::{Counted, Counters, Limits};
use super::failure::{Failure, Reason};
use super::gate::Gate;
use super::settings::Settings;

/// How the API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// From within a pod: `KUBERNETES_SERVICE_HOST`, and the token and the CA of the pod's ServiceAccount.
    InCluster,
    /// As this kubeconfig file says.
    Kubeconfig(PathBuf),
    /// At this address, with these files.
    Server {
        /// For example `https://10.96.0.1:443`.
        url: String,
        /// CA of the API server (PEM); the system's where there is none.
        ca_file: Option<PathBuf>,
        /// Bearer token. Read again at least once a minute, and after each 401.
        token_file: PathBuf,
    },
}

impl Access {
    async fn config(&self) -> Result<Config, String> {
        let options = KubeConfigOptions::default();
        match self {
            Self::InCluster => Config::incluster().map_err(|error| {
                format!(
                    "{error}: is this a pod with a ServiceAccount (automountServiceAccountToken)?"
                )
            }),
            Self::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|error| error.to_string())
            }
            Self::Server {
                url,
                ca_file,
                token_file,
            } => {
                // As a kubeconfig, since kube reads PEM files only for these.
                let text = |path: &PathBuf| path.to_string_lossy().into_owned();
                let name = "server".to_owned();
                let file = Kubeconfig {
                    clusters: vec![NamedCluster {
                        name: name.clone(),
                        cluster: Some(Cluster {
                            server: Some(url.clone()),
                            certificate_authority: ca_file.as_ref().map(text),
                            ..Cluster::default()
                        }),
                        other: Default::default(),
                    }],
                    auth_infos: vec![NamedAuthInfo {
                        name: name.clone(),
                        auth_info: Some(AuthInfo {
                            token_file: Some(text(token_file)),
                            ..AuthInfo::default()
                        }),
                        other: Default::default(),
                    }],
                    contexts: vec![NamedContext {
                        name: name.clone(),
                        context: Some(Context {
                            cluster: name.clone(),
                            user: Some(name.clone()),
                            ..Context::default()
                        }),
                        other: Default::default(),
                    }],
                    current_context: Some(name),
                    ..Kubeconfig::default()
                };
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|error| error.to_string())
            }
        }
    }
}

/// A client whose requests and answers are counted and bounded.
pub(super) async fn client(
    settings: &Settings,
    counters: &Arc<Counters>,
    gate: &Arc<Gate>,
) -> Result<Client, Failure> {
    let failed = |message: String| Failure {
        reason: Reason::Configuration,
        message: format!("the API server cannot be asked: {message}"),
    };
    let mut config = settings.access.config().await.map_err(failed)?;
    // Its own retries know nothing of ours, and go on for up to 1000 s in silence.
    config.default_retry = false;
    config.connect_timeout = Some(settings.list_timeout.min(std::time::Duration::from_secs(4)));
    let limits = Limits {
        line: settings.max_object_bytes,
        body: settings.max_list_bytes,
    };
    let builder = ClientBuilder::try_from(config).map_err(|error| failed(error.to_string()))?;
    let counting =
        layer_fn(|inner| Counted::new(inner, Arc::clone(counters), Arc::clone(gate), limits));
    Ok(builder.with_layer(&counting).build())
}
