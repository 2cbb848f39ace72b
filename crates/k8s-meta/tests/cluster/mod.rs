//! A cluster of pods as they are usually: two containers, eight labels, three annotations, Deployments of ten replicas.
#![allow(clippy::unwrap_used)]

use spandrel_k8s_meta::pod::Pod;

/// A pod as the API's JSON has it, with the parts that nobody here reads.
pub(crate) fn json(number: usize) -> String {
    let deployment = number / 10;
    let hash = format!("{:010x}", deployment as u64 * 0x9e37_79b9 % 0xff_ffff_ffff);
    let team = deployment % 40;
    let id = |container: u64| {
        format!(
            "{:016x}",
            (number as u64 * 2 + container + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        )
        .repeat(4)
    };
    let status = |name: &str, container: u64| {
        format!(
            r#"{{"name":"{name}","image":"registry.example.com/team-{team}/{name}-{deployment}:1.{deployment}.0","imageID":"registry.example.com/team-{team}/{name}-{deployment}@sha256:{:064x}","containerID":"containerd://{}","restartCount":0,"ready":true,"started":true,"state":{{"running":{{"startedAt":"2025-11-23T10:00:04Z"}}}},"lastState":{{}}}}"#,
            deployment + 1,
            id(container),
        )
    };
    let spec = |name: &str| {
        format!(
            r#"{{"name":"{name}","image":"registry.example.com/team-{team}/{name}-{deployment}:1.{deployment}.0","env":[{{"name":"LOG_LEVEL","value":"info"}}],"resources":{{"requests":{{"cpu":"100m"}}}},"ports":[{{"containerPort":8080,"protocol":"TCP"}}]}}"#
        )
    };
    format!(
        r#"{{"metadata":{{"name":"service-{deployment}-{hash}-{number:05x}","namespace":"team-{team}","uid":"{number:08x}-3c1d-4b6e-9f20-7a8b9c0d1e2f","resourceVersion":"{}","creationTimestamp":"2025-11-23T10:00:00Z","labels":{{"pod-template-hash":"{hash}","app.kubernetes.io/name":"service-{deployment}","app.kubernetes.io/instance":"service-{deployment}-eu","app.kubernetes.io/version":"1.{deployment}.0","app.kubernetes.io/component":"api","app.kubernetes.io/part-of":"shop","team":"team-{team}","tier":"backend"}},"annotations":{{"team.example.com/owner":"team-{team}","prometheus.io/scrape":"true","resource.opentelemetry.io/service.version":"1.{deployment}.0"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"service-{deployment}-{hash}","uid":"{deployment:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa","controller":true}}],"managedFields":[{{"manager":"kubelet","fieldsV1":{{"f:status":{{}}}}}}]}},"spec":{{"nodeName":"node-{}","containers":[{},{}]}},"status":{{"phase":"Running","hostIP":"192.0.2.1","podIPs":[{{"ip":"10.{}.{}.{}"}}],"startTime":"2025-11-23T10:00:01Z","containerStatuses":[{},{}]}}}}"#,
        number + 1000,
        number % 100,
        spec("app"),
        spec("proxy"),
        number >> 16,
        number >> 8 & 255,
        number & 255,
        status("app", 0),
        status("proxy", 1),
    )
}

/// The same, read.
pub(crate) fn pod(number: usize) -> Pod {
    serde_json::from_str(&json(number)).unwrap()
}

/// The id of one of its containers.
pub(crate) fn container(pod: &Pod, index: usize) -> String {
    pod.status.container_statuses[index]
        .container_id
        .replace("containerd://", "")
}
