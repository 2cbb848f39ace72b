//! The watch against a real API server, with the rights that deploy/kubernetes gives and a token of its ServiceAccount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::env;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spandrel_k8s_meta::peers::{Node, PeerPod};
use spandrel_k8s_meta::watch::{
    Access, Change, Counters, Reason, Scope, Settings, State, Watch, cluster_uid,
};
use support::admin::{Admin, documents, manifests, path_of};
use support::cluster::{Cluster, cluster};
use support::listener::{LIMIT, Listener, node, settings};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Settings of an agent on this node, and the file with its token.
async fn agent(cluster: &Cluster, scope: Scope) -> (NamedTempFile, Settings) {
    let token = NamedTempFile::new().unwrap();
    fs::write(token.path(), cluster.admin().await.agent_token().await).unwrap();
    let mut settings = settings(&cluster.url(), token.path(), scope);
    settings.access = Access::Server {
        url: cluster.url(),
        ca_file: Some(cluster.ca_file()),
        token_file: token.path().to_owned(),
    };
    (token, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_the_own_node_come_change_and_go_and_no_others_do() {
    let Some(cluster) = cluster("pods_of_the_own_node_come_change_and_go_and_no_others_do").await
    else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    admin.namespace("shop", &json!({})).await;
    let first = admin.pod("shop", "first", "node-1").await;
    admin.pod("shop", "elsewhere", "node-2").await;

    let (_token, settings) = agent(&cluster, node("node-1")).await;
    let mut listener = Listener::start(settings);
    assert_eq!(listener.list().await, ["first"]);

    admin.pod("shop", "far", "node-2").await;
    let second = admin.pod("shop", "second", "node-1").await;
    let pod = listener.applied().await;
    assert_eq!(pod.metadata.name, "second");
    assert_eq!(
        Some(pod.metadata.uid.as_str()),
        second["metadata"]["uid"].as_str()
    );
    assert_eq!(pod.spec.node_name, "node-1");

    let id = "containerd://".to_owned() + &"ab".repeat(32);
    let status = json!({"status": {"phase": "Running", "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::3"}],
        "podIP": "10.1.2.3",
        "containerStatuses": [{"name": "main", "containerID": id, "image": "registry.example/main:1.2", "imageID": "",
            "ready": true, "restartCount": 2, "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}]}});
    admin
        .patch("/api/v1/namespaces/shop/pods/second/status", &status)
        .await;
    let pod = listener.applied().await;
    let ips: Vec<_> = pod
        .status
        .pod_ips
        .iter()
        .map(|one| one.ip.as_str())
        .collect();
    assert_eq!(ips, ["10.1.2.3", "fd00::3"]);
    assert_eq!(pod.status.container_statuses[0].container_id, id);
    assert_eq!(pod.status.container_statuses[0].restart_count, 2);

    let labels = json!({"metadata": {"labels": {"team": "checkout"}}});
    admin
        .patch("/api/v1/namespaces/shop/pods/second", &labels)
        .await;
    assert_eq!(listener.applied().await.metadata.labels["team"], "checkout");

    admin.delete("/api/v1/namespaces/shop/pods/first").await;
    loop {
        match listener.next().await {
            // Deletion is a change first.
            Change::Apply(pod) => assert_eq!(pod.metadata.name, "first"),
            Change::Delete(pod) => {
                assert_eq!(
                    Some(pod.metadata.uid.as_str()),
                    first["metadata"]["uid"].as_str()
                );
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let figures = listener.counters.figures();
    assert_eq!(
        (figures.watches, figures.lists),
        (1, 0),
        "one request did it all"
    );
    assert!(
        figures.lag_ms > Some(0),
        "a container that started long ago was told of now"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_cluster_role_the_agent_names_it_and_with_it_goes_on() {
    let Some(cluster) =
        cluster("without_its_cluster_role_the_agent_names_it_and_with_it_goes_on").await
    else {
        return;
    };
    let cluster = cluster.write().await;
    let admin = cluster.admin().await;
    admin.namespace("rights", &json!({})).await;
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/spandrel";
    admin.delete(role).await;

    let (_token, settings) = agent(&cluster, node("node-3")).await;
    let counters = Arc::new(Counters::default());
    // The authorizer learns of it a moment later.
    while cluster_uid(&settings, &counters).await.is_some() {}
    let mut listener = Listener::start(settings.clone());
    let failure = listener.next_failure().await;
    admin.apply_file("rbac.yaml").await;
    assert_eq!(failure.reason, Reason::Forbidden);
    for part in [
        "may not watch",
        "ServiceAccount spandrel in namespace spandrel",
        "resources [pods]",
        "verbs [list, watch]",
    ] {
        assert!(failure.message.contains(part), "no {part} in {failure}");
    }

    assert!(listener.list().await.is_empty());
    admin.pod("rights", "late", "node-3").await;
    assert_eq!(listener.applied().await.metadata.name, "late");
    while cluster_uid(&settings, &counters).await.is_none() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_api_server_is_away_is_known_after_it() {
    let Some(cluster) =
        cluster("what_happens_while_the_api_server_is_away_is_known_after_it").await
    else {
        return;
    };
    let mut cluster = cluster.write().await;
    let admin = cluster.admin().await;
    admin.namespace("restart", &json!({})).await;
    admin.pod("restart", "before", "node-4").await;
    let (_token, settings) = agent(&cluster, node("node-4")).await;
    let mut listener = Listener::start(settings);
    assert_eq!(listener.list().await, ["before"]);

    cluster.kill_server();
    listener
        .state_is("stale", |state| matches!(state, State::Stale { .. }))
        .await;
    assert_eq!(listener.next_failure().await.reason, Reason::Unreachable);
    // A watch that is not read from would let the channel run full; this is all that is to be seen meanwhile.
    let quiet = tokio::spawn(async move {
        let mut names = Vec::new();
        while !names.contains(&"after".to_owned()) {
            if let Change::Apply(pod) = listener.next().await {
                names.push(pod.metadata.name);
            }
        }
        listener
    });
    cluster.start_server().await;
    let admin = cluster.admin().await;
    admin.pod("restart", "after", "node-4").await;
    let mut listener = quiet.await.unwrap();
    listener
        .state_is("current", |state| *state == State::Current)
        .await;
}

/// With the pauses of an agent, after so many failures that they do not grow any more.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_back_within_seconds_of_the_api_servers_return() {
    let Some(cluster) = cluster("names_are_back_within_seconds_of_the_api_servers_return").await
    else {
        return;
    };
    let mut cluster = cluster.write().await;
    cluster.admin().await.namespace("back", &json!({})).await;
    let (_token, quick) = agent(&cluster, node("node-8")).await;
    let mut listener = Listener::start(Settings::new(quick.access, quick.scope));
    assert!(listener.list().await.is_empty());

    cluster.kill_server();
    for _ in 0..9 {
        assert_eq!(listener.next_failure().await.reason, Reason::Unreachable);
    }
    cluster.start_server().await;
    let back = Instant::now();
    let admin = cluster.admin().await;
    admin.pod("back", "new", "node-8").await;
    loop {
        match listener.next_good().await {
            Change::Apply(pod) if pod.metadata.name == "new" => break,
            _ => {}
        }
    }
    let took = back.elapsed();
    assert!(took < Duration::from_secs(5) * patience(), "{took:?}");
}

/// How many times as long as on an idle machine everything may take (tests/README.md).
fn patience() -> u32 {
    let told = env::var("SPANDREL_TEST_PATIENCE").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_longer_good_is_replaced_by_the_one_in_its_file() {
    let Some(cluster) =
        cluster("a_token_that_is_no_longer_good_is_replaced_by_the_one_in_its_file").await
    else {
        return;
    };
    let cluster = cluster.write().await;
    let admin = cluster.admin().await;
    let (token, settings) = agent(&cluster, node("node-5")).await;
    // The tokens of a ServiceAccount end with it, also where one of the same name follows.
    admin
        .delete("/api/v1/namespaces/spandrel/serviceaccounts/spandrel")
        .await;
    admin.apply_file("rbac.yaml").await;

    let mut listener = Listener::start(settings);
    assert_eq!(listener.next_failure().await.reason, Reason::Unauthorized);
    fs::write(token.path(), admin.agent_token().await).unwrap();
    assert!(listener.list().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_with_a_certificate_of_another_authority_gets_no_token() {
    let Some(cluster) =
        cluster("an_api_server_with_a_certificate_of_another_authority_gets_no_token").await
    else {
        return;
    };
    let cluster = cluster.read().await;
    let (token, mut settings) = agent(&cluster, node("node-6")).await;
    let other = NamedTempFile::new().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    fs::write(other.path(), authority.self_signed(&key).unwrap().pem()).unwrap();
    settings.access = Access::Server {
        url: cluster.url(),
        ca_file: Some(other.path().to_owned()),
        token_file: token.path().to_owned(),
    };
    let mut listener = Listener::start(settings);
    let failure = listener.next_failure().await;
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(failure.message.contains("certificate"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_role_for_peers_other_kinds_are_watched_in_the_same_way() {
    let Some(cluster) =
        cluster("with_the_role_for_peers_other_kinds_are_watched_in_the_same_way").await
    else {
        return;
    };
    let cluster = cluster.write().await;
    let admin = cluster.admin().await;
    admin
        .post("/api/v1/nodes", &json!({"metadata": {"name": "peer"}}))
        .await;
    let (token, settings) = agent(&cluster, Scope::Cluster).await;
    let (sender, mut changes) = mpsc::channel::<Change<Node>>(4);
    let watch = Watch::new(settings, Arc::new(Counters::default()));
    let task = tokio::spawn(watch.run(sender));

    let mut next = async || {
        timeout(LIMIT, changes.recv())
            .await
            .expect("a change in time")
    };

    let Some(Change::Failed(failure)) = next().await else {
        panic!("the first role does not allow nodes")
    };
    assert_eq!(failure.reason, Reason::Forbidden);
    assert!(failure.message.contains("resources [nodes]"), "{failure}");
    assert!(failure.message.contains("peers-rbac.yaml"), "{failure}");
    admin.apply_file("peers-rbac.yaml").await;
    let node = loop {
        match next().await {
            Some(Change::Apply(node)) => break node,
            Some(Change::Failed(_) | Change::ListBegan) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(node.metadata.name, "peer");
    task.abort();

    // The others test what the first role alone allows.
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/spandrel-peers";
    admin.delete(role).await;
    let token = fs::read_to_string(token.path()).unwrap();
    let own = Admin::new(&cluster.url(), &cluster.ca_file(), &token).await;
    while own.get("/api/v1/nodes").await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_whole_cluster_a_pod_that_finishes_is_told_as_deleted_and_never_listed() {
    let Some(cluster) =
        cluster("of_the_whole_cluster_a_pod_that_finishes_is_told_as_deleted_and_never_listed")
            .await
    else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    admin.namespace("batch", &json!({})).await;
    let tell = async |name: &str, phase: &str, address: &str| {
        let path = format!("/api/v1/namespaces/batch/pods/{name}/status");
        let ips = json!([{"ip": address}]);
        let status = json!({"status": {"phase": phase, "podIP": address, "podIPs": ips}});
        admin.patch(&path, &status).await;
    };
    for name in ["done", "runs"] {
        admin.pod("batch", name, "node-9").await;
    }
    tell("done", "Succeeded", "10.1.0.1").await;
    tell("runs", "Running", "10.1.0.2").await;

    let (_token, settings) = agent(&cluster, Scope::Cluster).await;
    let counters = Arc::new(Counters::default());
    let (sender, mut changes) = mpsc::channel::<Change<PeerPod>>(4);
    let task = tokio::spawn(Watch::new(settings, Arc::clone(&counters)).run(sender));
    let mut next = async || {
        let change = timeout(LIMIT, changes.recv()).await;
        change.expect("a change in time").expect("the watch runs")
    };
    // Other tests have pods too.
    let ours = |pod: &PeerPod| pod.metadata().namespace == "batch";
    let mut listed = Vec::new();
    loop {
        match next().await {
            Change::Apply(pod) if ours(&pod) => listed.push(pod.metadata().name.clone()),
            Change::ListComplete => break,
            Change::Failed(failure) => panic!("{failure}"),
            _ => {}
        }
    }
    assert_eq!(listed, ["runs"]);
    tell("runs", "Succeeded", "10.1.0.2").await;
    let gone = loop {
        match next().await {
            Change::Delete(pod) if ours(&pod) => break pod,
            Change::Apply(pod) if ours(&pod) => panic!("{pod:?}"),
            _ => {}
        }
    };
    assert_eq!(gone.metadata().name, "runs");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_may_do_what_is_needed_and_nothing_else() {
    let Some(cluster) = cluster("the_service_account_may_do_what_is_needed_and_nothing_else").await
    else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    let (token, settings) = agent(&cluster, Scope::Cluster).await;
    let own = Admin::new(
        &cluster.url(),
        &cluster.ca_file(),
        &fs::read_to_string(token.path()).unwrap(),
    )
    .await;

    let uid = cluster_uid(&settings, &Arc::new(Counters::default())).await;
    let system = admin.get("/api/v1/namespaces/kube-system").await.unwrap();
    assert_eq!(uid.as_deref(), system["metadata"]["uid"].as_str());
    assert!(own.get("/api/v1/pods?limit=1").await.is_ok());
    for path in [
        "/api/v1/namespaces/default",
        "/api/v1/namespaces",
        "/api/v1/secrets",
        "/api/v1/configmaps",
        "/api/v1/services",
        "/api/v1/nodes",
        "/apis/apps/v1/replicasets",
        "/apis/batch/v1/jobs",
        "/api/v1/namespaces/spandrel/pods/none",
    ] {
        let answer = own.get(path).await.map(|_| ()).map_err(|(code, _)| code);
        assert_eq!(answer, Err(403), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_passes_a_dry_run_on_the_server() {
    let Some(cluster) = cluster("every_manifest_passes_a_dry_run_on_the_server").await else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    let mut files: Vec<String> = fs::read_dir(manifests())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
        .collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    for file in &files {
        for object in documents(file) {
            let applied = admin.apply(&object, true).await;
            assert!(applied.is_ok(), "{file}: {}: {applied:?}", path_of(&object));
        }
    }

    let kustomization = &documents("kustomization.yaml")[0];
    let resources = kustomization["resources"].as_array().unwrap();
    for resource in resources {
        assert!(
            files
                .iter()
                .any(|file| Some(file.as_str()) == resource.as_str()),
            "{resource}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_daemon_set_is_admitted_in_its_namespace_and_in_no_restricted_one() {
    let Some(cluster) =
        cluster("a_pod_of_the_daemon_set_is_admitted_in_its_namespace_and_in_no_restricted_one")
            .await
    else {
        return;
    };
    let cluster = cluster.read().await;
    let admin = cluster.admin().await;
    let daemon_set = &documents("daemonset.yaml")[0];
    let mut pod = daemon_set["spec"]["template"].clone();
    pod["metadata"]["name"] = "one".into();
    let create = async |namespace: &str, pod: &Value| {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict");
        admin.ask("POST", &path, "application/json", pod).await
    };
    let created = create("spandrel", &pod).await.unwrap();
    assert_eq!(created["spec"]["hostPID"], true);
    let mounts = created["spec"]["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap();
    let token = mounts
        .iter()
        .any(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
    assert!(
        token,
        "the token of the ServiceAccount is mounted: {mounts:?}"
    );

    let level = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    admin.namespace("guarded", &level).await;
    pod["spec"]["serviceAccountName"] = "default".into();
    let (code, message) = create("guarded", &pod).await.unwrap_err();
    assert_eq!(code, 403);
    assert!(message.contains("PodSecurity"), "{message}");
}
