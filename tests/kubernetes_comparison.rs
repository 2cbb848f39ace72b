//! The real Collector's `k8s_attributes` and this agent are asked about the same containers at the same API server. What
//! both say must be the same; what one of them alone says, and each other answer, is in golden/kubernetes_comparison.txt
//! with its reason. `BLESS=1 cargo test --test kubernetes_comparison` writes that file: read it before you commit it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure in a test is a panic

mod node;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use node::admin::Admin;
use node::cluster::{ADMIN_TOKEN, Cluster, cluster};
use node::{LIMIT, NODE};
use serde::Deserialize;
use serde_json::{Value, json};
use spandrel::kubernetes::{Kubernetes, Settings};
use spandrel_exporter::Protocol;
use spandrel_k8s_meta::attributes::KeyRules;
use spandrel_k8s_meta::cgroup;
use spandrel_k8s_meta::store::{self, Lookup};
use spandrel_k8s_meta::watch::{self, Access, Scope};
use spandrel_model::{Attribute, Resource, UnixTime};
use support::collector::Collector;
use support::machine::{repository, wait_until};
use support::otlp::Attributes;
use support::sending::{Sending, destination, span};

/// 2026-11-23T00:00:02.5Z, when all of the containers ran but those that had not started or had ended.
const AT: UnixTime = UnixTime(1_795_392_002_500_000_000);

/// Why an attribute is only in one of the two, or not the same, by its key and the container that it is about; a container
/// of "" stands for all.
#[rustfmt::skip]
const REASONS: &[Reason] = &[
    ("k8s.deployment.uid", "", Side::Collector, "it watches ReplicaSets, which are not read here"),
    ("k8s.cronjob.uid", "", Side::Collector, "it watches Jobs, which are not read here"),
    ("k8s.node.uid", "", Side::Collector, "it watches Nodes, which are not read here"),
    ("k8s.pod.hostname", "", Side::Collector, "an empty value for a pod that has no spec.hostname"),
    ("container.runtime.name", "", Side::Spandrel, "it does not have it"),
    ("k8s.cluster.name", "", Side::Spandrel, "from the configuration"),
    ("k8s.container.restart_count", "", Side::Spandrel, "it reads it from the telemetry only"),
    ("k8s.pod.label.empty", "", Side::Spandrel, "by a pattern it takes no empty values; the conventions want them"),
    ("k8s.replicationcontroller.name", "", Side::Spandrel, "it does not have it"),
    ("k8s.replicationcontroller.uid", "", Side::Spandrel, "it does not have it"),
    ("k8s.pod.start_time", "", Side::Both, "it gives the pod's creation, the conventions mean status.startTime"),
    ("k8s.container.name", DEBUG, Side::Spandrel, EPHEMERAL),
    ("container.image.name", DEBUG, Side::Spandrel, EPHEMERAL),
    ("container.image.tags", DEBUG, Side::Spandrel, EPHEMERAL),
    ("container.image.repo_digests", DEBUG, Side::Spandrel, EPHEMERAL),
    ("service.instance.id", DEBUG, Side::Spandrel, EPHEMERAL),
    ("k8s.container.name", BEFORE, Side::Spandrel, "it forgets the id of a run when the next one begins"),
    ("service.instance.id", BEFORE, Side::Spandrel, "it forgets the id of a run when the next one begins"),
    ("k8s.pod.name", "web-5d9c7b8f6d-bbbbb/app", Side::Both, "it lets an annotation rename the pod; here the API goes first"),
    ("container.image.repo_digests", BY_DIGEST, Side::Spandrel, "it does not read docker-pullable://"),
    ("container.image.tags", BY_DIGEST, Side::Collector, "there is no tag: the image was asked for by its digest"),
    ("container.image.tags", "lonely/app", Side::Both, REPLACED),
    ("service.version", "lonely/app", Side::Both, REPLACED),
    ("k8s.statefulset.name", "queue-0/queue", Side::Collector, KRUISE),
    ("k8s.statefulset.uid", "queue-0/queue", Side::Collector, KRUISE),
    ("service.name", "queue-0/queue", Side::Both, KRUISE),
    ("k8s.statefulset.name", "old-p8p9p/app", Side::Collector, NO_CONTROLLER),
    ("k8s.statefulset.uid", "old-p8p9p/app", Side::Collector, NO_CONTROLLER),
    ("service.name", "old-p8p9p/app", Side::Both, NO_CONTROLLER),
];
const DEBUG: &str = "web-5d9c7b8f6d-aaaaa/debug";
const EPHEMERAL: &str = "it does not know ephemeral containers";
const BEFORE: &str = "db-0/postgres, the run before";
const BY_DIGEST: &str = "cache-77f8c-x1x2x/cache";
const REPLACED: &str = "it gives the image that is asked for, not the one that runs";
const KRUISE: &str = "it takes an OpenKruise StatefulSet for one of apps/v1";
const NO_CONTROLLER: &str = "it takes an owner that does not control the pod";

type Reason = (&'static str, &'static str, Side, &'static str);

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Collector,
    Spandrel,
    Both,
}

impl Side {
    fn mark(self) -> char {
        match self {
            Self::Collector => 'C',
            Self::Spandrel => 'S',
            Self::Both => '!',
        }
    }
}

fn why(key: &str, container: &str, side: Side) -> Option<&'static Reason> {
    let meant = |&&(of, whose, by, _): &&Reason| {
        of == key && by == side && (whose.is_empty() || whose == container)
    };
    REASONS.iter().find(meant)
}

/// A container that was made: its name is `<pod>/<container>`.
struct Container {
    name: String,
    id: String,
    pod_uid: String,
    /// As a kubelet names the pod in the paths of control groups.
    in_path: String,
}

/// Makes the objects of the file. Returns the containers, and the text that stands in the golden file for each thing that
/// is another in each run.
async fn make(admin: &Admin) -> (Vec<Container>, BTreeMap<String, String>) {
    let minutes = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 60;
    let file = repository().join("tests/data/compared_pods.yaml");
    let text = fs::read_to_string(file).unwrap();
    let text = text.replace("MINUTES", &minutes.to_string());
    let mut masks = BTreeMap::from([(minutes.to_string(), "<minutes>".to_owned())]);
    let node = json!({"metadata": {"name": NODE}});
    let node = admin.post("/api/v1/nodes", &node).await["metadata"]["uid"].clone();
    masks.insert(text_of(&node), format!("<uid of {NODE}>"));
    let mut uids = BTreeMap::from([(("Node".to_owned(), NODE.to_owned()), node)]);
    let mut containers = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let mut object = Value::deserialize(document).unwrap();
        for owner in object["metadata"]["ownerReferences"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            let name = (text_of(&owner["kind"]), text_of(&owner["name"]));
            if owner["uid"].is_null() {
                owner["uid"] = uids[&name].clone();
            }
        }
        let (kind, name) = (
            text_of(&object["kind"]),
            text_of(&object["metadata"]["name"]),
        );
        let made = if kind == "Pod" {
            make_pod(admin, &mut object).await
        } else {
            admin.post(collection(&kind), &object).await
        };
        let (uid, created) = (
            &made["metadata"]["uid"],
            &made["metadata"]["creationTimestamp"],
        );
        masks.insert(
            text_of(uid),
            format!("<uid of {name}>").replace(&minutes.to_string(), "<minutes>"),
        );
        masks.insert(text_of(created), "<creation>".to_owned());
        if kind == "Pod" {
            containers.extend(containers_of(&object, &text_of(uid)));
        }
        uids.insert((kind, name), uid.clone());
    }
    (containers, masks)
}

fn collection(kind: &str) -> &'static str {
    match kind {
        "Deployment" => "/apis/apps/v1/namespaces/shop/deployments",
        "ReplicaSet" => "/apis/apps/v1/namespaces/shop/replicasets",
        "StatefulSet" => "/apis/apps/v1/namespaces/shop/statefulsets",
        "DaemonSet" => "/apis/apps/v1/namespaces/shop/daemonsets",
        "Job" => "/apis/batch/v1/namespaces/shop/jobs",
        "CronJob" => "/apis/batch/v1/namespaces/shop/cronjobs",
        "ReplicationController" => "/api/v1/namespaces/shop/replicationcontrollers",
        other => panic!("where are objects of kind {other}?"),
    }
}

/// A pod on the node with its status. Its ephemeral containers come later, as they only can.
async fn make_pod(admin: &Admin, pod: &mut Value) -> Value {
    let path = format!(
        "/api/v1/namespaces/shop/pods/{}",
        text_of(&pod["metadata"]["name"])
    );
    pod["spec"]["nodeName"] = NODE.into();
    let mut body = pod.clone();
    let status = body.as_object_mut().unwrap().remove("status").unwrap();
    let ephemeral = body["spec"]
        .as_object_mut()
        .unwrap()
        .remove("ephemeralContainers");
    let made = admin.post("/api/v1/namespaces/shop/pods", &body).await;
    if let Some(ephemeral) = ephemeral {
        let change = json!({"spec": {"ephemeralContainers": ephemeral}});
        admin
            .patch(&format!("{path}/ephemeralcontainers"), &change)
            .await;
    }
    admin
        .patch(&format!("{path}/status"), &json!({"status": status}))
        .await;
    made
}

fn containers_of(pod: &Value, uid: &str) -> Vec<Container> {
    let statuses = [
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
    ];
    let statuses = statuses
        .iter()
        .flat_map(|list| pod["status"][*list].as_array());
    let pod_name = text_of(&pod["metadata"]["name"]);
    let hash = &pod["metadata"]["annotations"]["kubernetes.io/config.hash"];
    let mut found = Vec::new();
    for status in statuses.flatten() {
        let name = text_of(&status["name"]);
        let runs = [
            (&status["containerID"], ""),
            (
                &status["lastState"]["terminated"]["containerID"],
                ", the run before",
            ),
        ];
        for (id, which) in runs {
            let Some((_, id)) = id.as_str().and_then(|id| id.split_once("://")) else {
                continue;
            };
            found.push(Container {
                name: format!("{pod_name}/{name}{which}"),
                id: id.to_owned(),
                pod_uid: uid.to_owned(),
                in_path: hash.as_str().unwrap_or(uid).to_owned(),
            });
        }
    }
    found
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the Collector makes of a span that has the ids of pod and container and nothing else, by the container's id.
fn by_collector(collector: &Collector, containers: &[Container]) -> BTreeMap<String, Attributes> {
    let endpoint = collector.grpc_endpoint();
    let mut sending = Sending::start(destination(Protocol::Grpc, &endpoint, |_| {}));
    let spans = containers.iter().zip(0..).map(|(container, number)| {
        let ids = [
            ("k8s.pod.uid", &container.pod_uid),
            ("container.id", &container.id),
        ];
        let ids = ids.map(|(key, value)| Attribute::new(key, value.clone()));
        (Arc::new(Resource::new(ids.to_vec())), span(number))
    });
    sending.send(spans.collect::<Vec<_>>());
    sending.drain();
    let mut enriched = Vec::new();
    wait_until("enriched spans", LIMIT, || {
        enriched = collector.enriched();
        enriched.len() >= containers.len()
    });
    let id = |resource: &Attributes| text_of(&resource["container.id"]);
    enriched
        .into_iter()
        .map(|span| (id(&span.resource), span.resource))
        .collect()
}

/// What the agent knows of the containers, by their ids: from the paths of their control groups.
fn by_spandrel(
    cluster: &Cluster,
    token: &str,
    containers: &[Container],
) -> BTreeMap<String, Attributes> {
    let access = cluster.kubeconfig(token);
    let settings = Settings {
        watch: watch::Settings::new(
            Access::Kubeconfig(access.path().to_owned()),
            Scope::Node(NODE.to_owned()),
        ),
        store: store::Settings {
            cluster_name: Some("test".to_owned()),
            labels: KeyRules::new(["*"]).unwrap(),
            annotations: KeyRules::new(["team.example.com/*"]).unwrap(),
            // The Collector does not ask.
            service_from_labels: true,
            ..store::Settings::default()
        },
        hold: LIMIT,
        hold_bytes: 0,
        peers: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut pods = Kubernetes::start(&settings, runtime.handle());
    let mut found = BTreeMap::new();
    wait_until("pods", LIMIT, || {
        pods.take_in(AT);
        found.clear();
        for container in containers {
            let (pod, id) = (&container.in_path, &container.id);
            let place = cgroup::parse_path(&format!("/kubepods/burstable/pod{pod}/{id}"));
            if let Lookup::Found(identity) = pods.locate(&place, AT) {
                found.insert(id.clone(), attributes(identity.attributes()));
            }
        }
        found.len() == containers.len() && !pods.is_settling()
    });
    runtime.shutdown_background();
    found
}

fn attributes(list: &[Attribute]) -> Attributes {
    let value = |value: &spandrel_model::Value| match value {
        spandrel_model::Value::Str(text) => Value::from(text.as_ref()),
        spandrel_model::Value::StrArray(list) => list.iter().map(AsRef::as_ref).collect(),
        spandrel_model::Value::I64(number) => Value::from(*number),
        other => panic!("no resource of a container has {other:?}"),
    };
    list.iter()
        .map(|it| (it.key.to_string(), value(&it.value)))
        .collect()
}

/// The text of all containers: what both say, what one says, and what differs, with the reasons.
#[derive(Default)]
struct Report {
    text: String,
    used: BTreeSet<&'static Reason>,
    unexplained: Vec<String>,
}

impl Report {
    fn add(
        &mut self,
        title: &str,
        collector: &Attributes,
        spandrel: &Attributes,
        mask: impl Fn(&str) -> String,
    ) {
        let masked = |value: &Value| mask(&value.to_string());
        writeln!(self.text, "\n== {title}").unwrap();
        let keys: BTreeSet<&String> = collector.keys().chain(spandrel.keys()).collect();
        for key in keys {
            let (side, said) = match (collector.get(key), spandrel.get(key)) {
                (Some(one), Some(other)) if one == other => {
                    writeln!(self.text, "  {key} = {}", masked(one)).unwrap();
                    continue;
                }
                (Some(one), Some(other)) => {
                    let (one, other) = (masked(one), masked(other));
                    (
                        Side::Both,
                        format!("! {key}: Collector {one}, Spandrel {other}"),
                    )
                }
                (Some(one), None) => (Side::Collector, format!("C {key} = {}", masked(one))),
                (None, Some(other)) => (Side::Spandrel, format!("S {key} = {}", masked(other))),
                (None, None) => continue,
            };
            writeln!(self.text, "{said}").unwrap();
            match why(key, title, side) {
                None => self.unexplained.push(format!("{title}: {said}")),
                Some(reason) => {
                    self.used.insert(reason);
                    if !reason.1.is_empty() {
                        writeln!(self.text, "      {}", reason.3).unwrap();
                    }
                }
            }
        }
    }

    fn finish(self) -> String {
        assert!(
            self.unexplained.is_empty(),
            "these have no reason in REASONS:\n{}",
            self.unexplained.join("\n")
        );
        let unused: Vec<_> = REASONS
            .iter()
            .filter(|it| !self.used.contains(it))
            .collect();
        assert!(
            unused.is_empty(),
            "these are in REASONS for nothing: {unused:?}"
        );
        let general = REASONS.iter().filter(|it| it.1.is_empty());
        let general =
            general.map(|(key, _, side, reason)| format!("{} {key}: {reason}\n", side.mark()));
        HEAD.to_owned() + &general.collect::<String>() + &self.text
    }
}

const HEAD: &str = "What the Collector's k8s_attributes and Spandrel say of the same containers: see tests/kubernetes_comparison.rs.
Lines without a mark: both say it. C: only the Collector. S: only Spandrel. !: each says something else.

For all containers:
";

#[tokio::test(flavor = "multi_thread")]
async fn what_both_know_of_a_container_is_the_same_as_at_the_real_collector() {
    const TEST: &str = "what_both_know_of_a_container_is_the_same_as_at_the_real_collector";
    if Collector::binary(TEST).is_none() {
        return;
    }
    let Some(cluster) = cluster(TEST).await else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    admin.namespace("shop", &json!({})).await;
    let (containers, mut masks) = make(&admin).await;
    let kube_system = admin.get("/api/v1/namespaces/kube-system").await.unwrap();
    masks.insert(
        text_of(&kube_system["metadata"]["uid"]),
        "<uid of kube-system>".to_owned(),
    );

    let token = admin.agent_token().await;
    // The Collector's processor reads more than the agent may.
    let access = cluster.kubeconfig(ADMIN_TOKEN);
    let (theirs, ours) = tokio::task::block_in_place(|| {
        let collector = Collector::start_with_kubernetes(TEST, access.path()).unwrap();
        let theirs = by_collector(&collector, &containers);
        (theirs, by_spandrel(&cluster, &token, &containers))
    });
    let mask = |text: &str| {
        masks
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    let mut report = Report::default();
    for container in &containers {
        let (theirs, ours) = (&theirs[&container.id], &ours[&container.id]);
        report.add(&mask(&container.name), theirs, ours, mask);
    }
    let text = report.finish();
    let golden = repository().join("tests/golden/kubernetes_comparison.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&golden).unwrap_or_default(),
        text,
        "{}",
        golden.display()
    );
}
