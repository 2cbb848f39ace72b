//! Somebody who asks the API server directly, with kube's client and plain JSON.

use std::fs;
use std::path::{Path, PathBuf};

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};

/// A client with one token.
pub struct Admin {
    client: Client,
}

/// deploy/kubernetes.
pub fn manifests() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Of this crate, or of the agent, whose tests use this too.
    let root = own
        .ancestors()
        .find(|folder| folder.join("deploy").is_dir());
    root.expect("the repository").join("deploy/kubernetes")
}

/// The documents of a file there.
pub fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(manifests().join(file)).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// Where an object is, by its kind, namespace and name.
pub fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let base = if version.contains('/') { "apis" } else { "api" };
    let kind = text(&object["kind"]).to_lowercase();
    let name = text(&object["metadata"]["name"]);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{base}/{version}/namespaces/{namespace}/{kind}s/{name}"),
        None => format!("/{base}/{version}/{kind}s/{name}"),
    }
}

impl Admin {
    pub async fn new(url: &str, ca_file: &Path, token: &str) -> Self {
        let file = json!({
            "clusters": [{"name": "a", "cluster": {"server": url, "certificate-authority": ca_file}}],
            "users": [{"name": "a", "user": {"token": token}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        });
        let file: Kubeconfig = serde_json::from_value(file).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .unwrap();
        config.default_retry = false;
        Self {
            client: Client::try_from(config).unwrap(),
        }
    }

    pub async fn is_ready(&self) -> bool {
        let request = Request::get("/readyz").body(Vec::new()).unwrap();
        self.client.request_text(request).await.is_ok()
    }

    /// The answer, or the status that is none.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        content: &str,
        body: &Value,
    ) -> Result<Value, (u16, String)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .body(if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            })
            .unwrap();
        self.client
            .request(request)
            .await
            .map_err(|error| match error {
                kube::Error::Api(status) => (status.code, status.message),
                error => (0, error.to_string()),
            })
    }

    pub async fn get(&self, path: &str) -> Result<Value, (u16, String)> {
        self.ask("GET", path, "application/json", &Value::Null)
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, "application/json", body).await;
        answer.unwrap_or_else(|error| panic!("POST {path}: {error:?}"))
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Value {
        let answer = self
            .ask("PATCH", path, "application/merge-patch+json", body)
            .await;
        answer.unwrap_or_else(|error| panic!("PATCH {path}: {error:?}"))
    }

    pub async fn delete(&self, path: &str) {
        let path = format!("{path}?gracePeriodSeconds=0");
        let answer = self
            .ask("DELETE", &path, "application/json", &Value::Null)
            .await;
        answer.unwrap_or_else(|error| panic!("DELETE {path}: {error:?}"));
    }

    /// Server-side apply, with each unknown or double field an error.
    pub async fn apply(&self, object: &Value, dry_run: bool) -> Result<Value, (u16, String)> {
        let mut path = path_of(object) + "?fieldManager=test&force=true&fieldValidation=Strict";
        if dry_run {
            path += "&dryRun=All";
        }
        self.ask("PATCH", &path, "application/apply-patch+yaml", object)
            .await
    }

    pub async fn apply_file(&self, file: &str) {
        for object in documents(file) {
            let applied = self.apply(&object, false).await;
            applied.unwrap_or_else(|error| panic!("{}: {error:?}", path_of(&object)));
        }
    }

    /// A token of the shipped ServiceAccount, as a kubelet would ask for it.
    pub async fn agent_token(&self) -> String {
        let body = json!({"spec": {"expirationSeconds": 3600}});
        let path = "/api/v1/namespaces/spandrel/serviceaccounts/spandrel/token";
        let answer = self.post(path, &body).await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A namespace with all that a controller would make.
    pub async fn namespace(&self, name: &str, labels: &Value) {
        let body = json!({"metadata": {"name": name, "labels": labels}});
        self.post("/api/v1/namespaces", &body).await;
        self.account(name).await;
    }

    /// The ServiceAccount that a controller would make: without it no pod is admitted.
    pub async fn account(&self, namespace: &str) {
        let body = json!({"metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.post(&path, &body).await;
    }

    /// A pod that is bound to a node already, as by a scheduler.
    pub async fn pod(&self, namespace: &str, name: &str, node: &str) -> Value {
        let body = json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "registry.example/main:1.2"}]},
        });
        self.post(&format!("/api/v1/namespaces/{namespace}/pods"), &body)
            .await
    }
}
